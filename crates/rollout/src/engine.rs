//! The story of one rollout, from top to bottom.
//!
//! ```text
//! load the task -> make its environment fit (once per image) -> start a sandbox, set up, take the baseline
//!   -> the agent works -> kill what runs, take the patch -> store trajectory and patch
//!   -> start a fresh sandbox, set up, check the baseline -> apply the stored bytes, put the hidden tests in
//!   -> run them -> verdict -> record
//! ```
//!
//! Running a rollout returns a record, not a `Result`: every attempt leaves a row, also the failed ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::outcome::{GradeStop, Graded, Outcome, StopReason};
use thresher_core::record::{
    PatchRecord, PolicyIdentity, RolloutRecord, SCHEMA_VERSION, SandboxIdentity, TaskIdentity, Totals,
};
use thresher_core::run_spec::{GradingNetwork, Network, RunSpec};
use thresher_core::{ImageCounts, InstanceId, RolloutId, RunId, Sha256Hex, ShardId, Task};
use thresher_sandbox::{Backend, Sandbox, SandboxError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::agent::{self, Agent, AgentError, Episode};
use crate::blobs::BlobCache;
use crate::clock::Clock;
use crate::draft::Draft;
use crate::environment::{Environment, Environments, SETUP_VERSION};
use crate::episode::StepSpill;
use crate::grading::{self, Grading};
use crate::journal::{Journal, Progress, Ungraded};
use crate::llm::Llm;
use crate::workspace::{Opening, PatchError, Workspace};

/// What an engine is built from.
pub struct EngineParts {
    /// The run.
    pub run: RunId,
    /// Fingerprint of the dataset, for the record.
    pub dataset_fingerprint: Sha256Hex,
    /// The job.
    pub spec: Arc<RunSpec>,
    /// Where sandboxes come from.
    pub backend: Arc<dyn Backend>,
    /// The model, if the agent needs one.
    pub model: Option<Arc<dyn Llm>>,
    /// Where things that must outlive the process go.
    pub journal: Arc<dyn Journal>,
    /// A folder on the node that outlives runs: baseline contents, hidden tests.
    pub cache: PathBuf,
    /// A folder on the node for what lives as long as a rollout.
    pub scratch: PathBuf,
    /// Time of day.
    pub clock: Clock,
    /// Labels for every sandbox.
    pub labels: BTreeMap<String, String>,
    /// Whether the grading sandbox is started while the agent still works. It saves the time of a start where
    /// processors are idle, and costs an idle sandbox per rollout.
    pub start_ahead: bool,
}

/// A grading sandbox that is being started ahead of its use.
type Ahead = Option<AbortOnDropHandle<Result<Sandbox, SandboxError>>>;

/// Runs rollouts. Shared by all slots of a worker.
pub struct Engine {
    parts: EngineParts,
    agent: Box<dyn Agent>,
    agent_sha256: Sha256Hex,
    environments: Environments,
    blobs: BlobCache,
    closing: TaskTracker,
}

/// One rollout to be run.
#[derive(Clone, Debug)]
pub struct RolloutJob {
    /// Its identity.
    pub rollout_id: RolloutId,
    /// Its shard.
    pub shard_id: ShardId,
    /// Its task.
    pub instance_id: InstanceId,
    /// Sample number.
    pub sample: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Random identity of the attempt.
    pub nonce: String,
    /// A finished trajectory of an earlier attempt: then it is only graded.
    pub ungraded: Option<Ungraded>,
}

impl Engine {
    /// Builds an engine.
    pub fn new(parts: EngineParts) -> Self {
        let environments = Environments::new(
            Arc::clone(&parts.backend),
            Arc::clone(&parts.journal),
            parts.spec.sandbox.clone(),
            parts.cache.clone(),
            parts.labels.clone(),
        );
        Self {
            agent: agent::by_name(&parts.spec.agent),
            agent_sha256: agent::identity_sha256(&parts.spec.agent),
            environments,
            blobs: BlobCache::new(parts.cache.join("blobs")),
            closing: TaskTracker::new(),
            parts,
        }
    }

    /// Makes the environment of `task` ready ahead of its rollouts, so that pulling overlaps with other work.
    pub async fn prefetch(&self, task: &Task) -> Result<(), Fault> {
        self.environments.prefetch(task).await
    }

    /// How it came by its images so far.
    pub fn image_counts(&self) -> ImageCounts {
        self.parts.backend.image_counts()
    }

    /// Waits until every sandbox that was closed in the background has gone.
    pub async fn settle(&self) {
        self.closing.close();
        self.closing.wait().await;
        self.closing.reopen();
        self.parts.backend.settle().await;
    }

    /// Runs one rollout to its record. `task` is the result of loading the dataset row.
    pub async fn run(
        &self,
        job: RolloutJob,
        task: Result<Arc<Task>, Fault>,
        cancel: &CancellationToken,
    ) -> RolloutRecord {
        let mut draft = Draft::new(self.parts.clock.clone());
        let ended = match &task {
            Ok(task) => self.attempt(&job, task, cancel, &mut draft).await,
            Err(fault) => Err(fault.clone()),
        };
        let outcome = match ended {
            Ok(graded) => Outcome::Graded(graded),
            Err(fault) => Outcome::Faulted(fault),
        };
        self.record(job, task.ok().as_deref(), draft, outcome)
    }

    /// The record of an attempt of which nothing is left but that it was begun.
    pub fn lost(&self, job: &RolloutJob, fault: Fault) -> RolloutRecord {
        let draft = Draft::new(self.parts.clock.clone());
        self.record(job.clone(), None, draft, Outcome::Faulted(fault))
    }

    async fn attempt(
        &self,
        job: &RolloutJob,
        task: &Task,
        cancel: &CancellationToken,
        draft: &mut Draft,
    ) -> Result<Graded, Fault> {
        self.enter(job, draft, Phase::Pull);
        let environment = self.environments.get(task).await?;
        let mut ahead = None;
        let ungraded = match job.ungraded.clone() {
            Some(stored) => stored,
            None => {
                let made = self.agent_part(job, task, &environment, cancel, draft, &mut ahead).await?;
                self.parts.journal.ungraded(&job.rollout_id, &made).await?;
                made
            }
        };
        draft.adopt(ungraded);
        self.enter(job, draft, Phase::Grade);
        self.grade_part(job, task, &environment, draft, ahead).await
    }

    /// The agent's part: a sandbox of its own, from baseline to patch.
    async fn agent_part(
        &self,
        job: &RolloutJob,
        task: &Task,
        environment: &Environment,
        cancel: &CancellationToken,
        draft: &mut Draft,
        ahead: &mut Ahead,
    ) -> Result<Ungraded, Fault> {
        self.enter(job, draft, Phase::Start);
        let opening =
            self.opening(task, environment, self.parts.spec.sandbox.network, &job.rollout_id, "agent");
        let sandbox = opening.start().await?;
        self.enter(job, draft, Phase::Setup);
        let mut workspace = opening.set_up(sandbox).await?;
        workspace.keep_baseline(&self.blobs).await?;

        self.enter(job, draft, Phase::Agent);
        *ahead = self.start_ahead(job, task, environment);
        let policy = self.policy(task, &workspace.workdir);
        let identity = self.sandbox_identity(&workspace.sandbox, environment);
        let spill = StepSpill::create(&self.parts.scratch).map_err(|error| record_fault(&error))?;
        let (worked, spill) = self.agent_works(job, task, cancel, &mut workspace, spill).await;
        let stop_reason = match self.agent_end(worked).await {
            Ok(stop_reason) => stop_reason,
            Err(fault) => {
                // What the turns cost was paid, whatever became of them.
                draft.policy = Some(policy);
                draft.steps = spill.into_steps().unwrap_or_default();
                return Err(fault);
            }
        };

        self.enter(job, draft, Phase::Patch);
        let patch = self.take_patch(workspace, stop_reason).await?;
        let (stop_reason, patch) = match patch {
            Taken::Patch(patch) => (stop_reason, patch),
            Taken::SandboxKilled => (StopReason::SandboxKilled, None),
        };
        let steps = spill.into_steps().map_err(|error| record_fault(&error))?;
        let timings = draft.timings(&steps);
        Ok(Ungraded {
            nonce: job.nonce.clone(),
            policy,
            sandbox: identity,
            stop_reason,
            patch,
            steps,
            timings,
        })
    }

    async fn agent_works(
        &self,
        job: &RolloutJob,
        task: &Task,
        cancel: &CancellationToken,
        workspace: &mut Workspace,
        spill: StepSpill,
    ) -> (Result<StopReason, AgentError>, StepSpill) {
        let mut episode = Episode {
            task,
            workdir: workspace.workdir.clone(),
            env: workspace.env.clone(),
            sandbox: &mut workspace.sandbox,
            model: self.parts.model.clone(),
            spec: &self.parts.spec.agent,
            rollout: &job.rollout_id,
            sample: job.sample,
            clock: self.parts.clock.clone(),
            cancel: cancel.clone(),
            started: Instant::now(),
            journal: Arc::clone(&self.parts.journal),
            spill,
        };
        let worked = self.agent.run(&mut episode).await;
        (worked, episode.spill)
    }

    /// Tells what the agent did from what was done to it.
    async fn agent_end(&self, worked: Result<StopReason, AgentError>) -> Result<StopReason, Fault> {
        match worked {
            // Broken off from outside: what there is of the trajectory says nothing about the agent.
            Ok(StopReason::Cancelled) => {
                let message = "the worker was asked to stop before the agent was done";
                Err(Fault::new(Blame::Worker, Retry::Now, Phase::Agent, message))
            }
            Ok(stop_reason) => Ok(stop_reason),
            Err(AgentError::Fault(fault)) => Err(fault.during(Phase::Agent)),
            Err(AgentError::Record(error)) => Err(record_fault(&error)),
            Err(AgentError::Sandbox(error)) => {
                self.outside_cause(&error, Phase::Agent).await?;
                Ok(StopReason::SandboxKilled)
            }
        }
    }

    async fn take_patch(&self, mut workspace: Workspace, stop_reason: StopReason) -> Result<Taken, Fault> {
        if stop_reason == StopReason::SandboxKilled {
            self.close(workspace.sandbox);
            return Ok(Taken::SandboxKilled);
        }
        let taken = workspace.take_patch(&self.blobs).await;
        self.close(workspace.sandbox);
        match taken {
            Ok(patch) => Ok(Taken::Patch(patch)),
            Err(PatchError::Fault(fault)) => Err(fault),
            Err(PatchError::Sandbox(error)) => {
                self.outside_cause(&error, Phase::Patch).await?;
                Ok(Taken::SandboxKilled)
            }
        }
    }

    /// The grading run, in a fresh sandbox; what the code under test can cause by itself is repeated once.
    async fn grade_part(
        &self,
        job: &RolloutJob,
        task: &Task,
        environment: &Environment,
        draft: &mut Draft,
        mut ahead: Ahead,
    ) -> Result<Graded, Fault> {
        if draft.stop_reason == Some(StopReason::SandboxKilled) {
            self.control(job, task, environment).await?;
            return Ok(grading::zero(task, self.parts.spec.grading.rule, GradeStop::SandboxKilled));
        }
        let Some(patch) = draft.patch.clone() else {
            // The change was too large to be kept: the agent's doing.
            return Ok(grading::zero(task, self.parts.spec.grading.rule, GradeStop::PatchApplyFailed));
        };
        let first = self.grade_once(job, task, environment, &patch, draft, &mut ahead).await?;
        if !first.must_repeat() {
            return self.accept(job, first, false, draft).await;
        }
        let second = self.grade_once(job, task, environment, &patch, draft, &mut None).await?;
        if second.must_repeat() {
            self.control(job, task, environment).await?;
        }
        let flaky = first.stop != second.stop;
        self.accept(job, second, flaky, draft).await
    }

    async fn grade_once(
        &self,
        job: &RolloutJob,
        task: &Task,
        environment: &Environment,
        patch: &PatchRecord,
        draft: &mut Draft,
        ahead: &mut Ahead,
    ) -> Result<Grading, Fault> {
        let settings = &self.parts.spec.grading;
        let network = self.grading_network(task);
        let opening = self.opening(task, environment, network, &job.rollout_id, "grading");
        let sandbox = match ahead.take() {
            Some(started) => match started.await {
                Ok(Ok(sandbox)) => sandbox,
                // What went wrong ahead of time may have passed; if it has not, it shows itself again.
                _ => opening.start().await.map_err(|fault| fault.during(Phase::Grade))?,
            },
            None => opening.start().await.map_err(|fault| fault.during(Phase::Grade))?,
        };
        draft.grading_network(network, task.environment.grading_needs_network);
        let mut workspace = opening.set_up(sandbox).await.map_err(|fault| fault.during(Phase::Grade))?;
        if workspace.tree.to_string() != patch.baseline_tree {
            self.close(workspace.sandbox);
            return Err(tree_fault(&patch.baseline_tree, &workspace.tree.to_string()));
        }
        workspace.keep_baseline(&self.blobs).await?;
        let graded =
            grading::run(&mut workspace, task, environment.hidden.as_deref(), patch, settings, &self.blobs)
                .await;
        self.close(workspace.sandbox);
        match graded {
            Ok(grading) => Ok(grading),
            Err(PatchError::Fault(fault)) => Err(fault.during(Phase::Grade)),
            Err(PatchError::Sandbox(error)) => {
                self.outside_cause(&error, Phase::Grade).await?;
                Ok(Grading::sandbox_killed(task, settings.rule, &error))
            }
        }
    }

    fn grading_network(&self, task: &Task) -> Network {
        let policy = self.parts.spec.grading.network;
        let wanted = task.environment.grading_needs_network && policy == GradingNetwork::WhereNeeded;
        if wanted { Network::Full } else { Network::None }
    }

    /// Begins to start the grading sandbox while the agent works.
    fn start_ahead(&self, job: &RolloutJob, task: &Task, environment: &Environment) -> Ahead {
        if !self.parts.start_ahead {
            return None;
        }
        let opening = self.opening(task, environment, self.grading_network(task), &job.rollout_id, "grading");
        let (backend, spec) = (Arc::clone(&self.parts.backend), opening.spec());
        Some(AbortOnDropHandle::new(tokio::spawn(async move { backend.start(&spec).await })))
    }

    async fn accept(
        &self,
        job: &RolloutJob,
        grading: Grading,
        flaky: bool,
        draft: &mut Draft,
    ) -> Result<Graded, Fault> {
        draft.tests = grading.tests;
        let path = self.parts.journal.grader_log(&job.rollout_id, &job.nonce, &grading.log).await?;
        draft.grader_log = Some(path);
        Ok(Graded { flaky, ..grading.graded })
    }

    /// A control on the same node: a fresh, unpatched sandbox of the same image must run a trivial command. If it does
    /// not, what happened before is the node's doing, not the patch's.
    async fn control(&self, job: &RolloutJob, task: &Task, environment: &Environment) -> Result<(), Fault> {
        let opening = self.opening(task, environment, Network::None, &job.rollout_id, "control");
        let sandbox = opening.start().await.map_err(|fault| fault.during(Phase::Grade))?;
        let workspace = opening.set_up(sandbox).await.map_err(|fault| fault.during(Phase::Grade))?;
        self.close(workspace.sandbox);
        Ok(())
    }

    /// Evidence from outside for a sandbox error: then it is a fault. Nothing found: the code inside did it.
    async fn outside_cause(&self, error: &SandboxError, phase: Phase) -> Result<(), Fault> {
        if let Some(fault) = error.fault(phase) {
            return Err(fault);
        }
        match self.parts.backend.evidence().await {
            Some(found) => Err(found.fault(phase).unwrap_or_else(|| {
                Fault::new(Blame::Node, Retry::Later, phase, format!("{error}; the node reports: {found}"))
            })),
            None => Ok(()),
        }
    }

    fn opening<'a>(
        &'a self,
        task: &'a Task,
        environment: &'a Environment,
        network: Network,
        rollout: &RolloutId,
        purpose: &str,
    ) -> Opening<'a> {
        let mut labels = self.parts.labels.clone();
        labels.insert("rollout".into(), rollout.to_string());
        labels.insert("purpose".into(), purpose.into());
        Opening {
            backend: &*self.parts.backend,
            environment,
            task,
            settings: &self.parts.spec.sandbox,
            network,
            labels,
        }
    }

    /// Ends a sandbox in the background: nothing waits for it, and [`Engine::settle`] waits for all.
    fn close(&self, sandbox: Sandbox) {
        self.closing.spawn(async move {
            if let Err(error) = sandbox.close().await {
                tracing::debug!(%error, "sandbox was gone before it was closed");
            }
        });
    }

    fn enter(&self, job: &RolloutJob, draft: &mut Draft, phase: Phase) {
        draft.enter(phase);
        self.parts.journal.progress(&job.rollout_id, Progress::Phase(phase));
    }

    fn policy(&self, task: &Task, workdir: &str) -> PolicyIdentity {
        let prompts = self.agent.prompts(task, workdir);
        let spec = &self.parts.spec;
        let model = spec.model.as_ref().filter(|_| self.parts.model.is_some());
        PolicyIdentity {
            agent: spec.agent.name.as_str().to_owned(),
            agent_version: self.agent.version(),
            agent_sha256: self.agent_sha256.clone(),
            tool_mode: spec.agent.tool_mode,
            system_prompt: prompts.system,
            task_prompt: prompts.task,
            tools: prompts.tools,
            model: model.map(|model| model.name.clone()).unwrap_or_default(),
            provider: self.parts.model.as_ref().map(|model| model.provider()).unwrap_or_default(),
            sampling: model.map_or(serde_json::Value::Null, |model| serde_json::json!(model.sampling)),
        }
    }

    fn sandbox_identity(&self, sandbox: &Sandbox, environment: &Environment) -> SandboxIdentity {
        let mut identity = sandbox.identity().clone();
        identity.image_ref = environment.prepared.image.to_string();
        identity.image_digest.clone_from(&environment.digest);
        identity.setup_version = SETUP_VERSION.into();
        identity.deviations.extend(environment.deviations.iter().cloned());
        identity
    }

    fn record(&self, job: RolloutJob, task: Option<&Task>, draft: Draft, outcome: Outcome) -> RolloutRecord {
        let timings = draft.timings(&draft.steps);
        let policy = draft.policy.clone().unwrap_or_else(|| match task {
            Some(task) => self.policy(task, &task.environment.workdir),
            None => self.policy_without_task(),
        });
        RolloutRecord {
            schema_version: SCHEMA_VERSION,
            run_id: self.parts.run.clone(),
            shard_id: job.shard_id,
            rollout_id: job.rollout_id,
            attempt: job.attempt,
            nonce: job.nonce,
            task: self.task_identity(&job.instance_id, task),
            sample: job.sample,
            policy,
            sandbox: draft.sandbox,
            outcome,
            stop_reason: draft.stop_reason,
            patch: draft.patch,
            totals: Totals::of(&draft.steps),
            timings,
            runner_version: env!("CARGO_PKG_VERSION").into(),
            grader_log: draft.grader_log,
            steps: draft.steps,
            tests: draft.tests,
        }
    }

    fn policy_without_task(&self) -> PolicyIdentity {
        let spec = &self.parts.spec;
        PolicyIdentity {
            agent: spec.agent.name.as_str().to_owned(),
            agent_version: self.agent.version(),
            agent_sha256: self.agent_sha256.clone(),
            tool_mode: spec.agent.tool_mode,
            system_prompt: String::new(),
            task_prompt: String::new(),
            tools: None,
            model: spec.model.as_ref().map(|model| model.name.clone()).unwrap_or_default(),
            provider: String::new(),
            sampling: serde_json::Value::Null,
        }
    }

    fn task_identity(&self, instance_id: &InstanceId, task: Option<&Task>) -> TaskIdentity {
        TaskIdentity {
            instance_id: instance_id.clone(),
            dataset: task.map(|task| task.dataset.clone()).unwrap_or_default(),
            dataset_fingerprint: self.parts.dataset_fingerprint.clone(),
            row_sha256: task.map_or_else(|| Sha256Hex::new(""), |task| task.row_sha256.clone()),
            family: task.map_or(thresher_core::task::Family::Inline, |task| task.family),
            repo: task.and_then(|task| task.repo.clone()),
            base_commit: task.and_then(|task| task.base_commit.clone()),
        }
    }
}

enum Taken {
    Patch(Option<PatchRecord>),
    SandboxKilled,
}

fn record_fault(error: &std::io::Error) -> Fault {
    Fault::new(Blame::Disk, Retry::Elsewhere, Phase::Agent, format!("failed to keep a step: {error}"))
}

fn tree_fault(expected: &str, found: &str) -> Fault {
    let message =
        format!("set-up is not reproducible: baseline tree {expected} before the agent, {found} at grading");
    Fault::new(Blame::Image, Retry::Never, Phase::Grade, message)
}
