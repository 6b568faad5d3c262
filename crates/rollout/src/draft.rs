//! A record in the making: what is known of a rollout attempt so far, and the time it has taken.

use std::collections::BTreeMap;

use thresher_core::fault::Phase;
use thresher_core::outcome::StopReason;
use thresher_core::record::{PatchRecord, PolicyIdentity, SandboxIdentity, TestResult, Timings};
use thresher_core::run_spec::Network;
use thresher_core::trajectory::Step;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::journal::Ungraded;

/// What is known of a rollout so far.
pub(crate) struct Draft {
    clock: Clock,
    started_at_us: i64,
    entered: Option<(Phase, Instant)>,
    phases: BTreeMap<Phase, u64>,
    pub(crate) policy: Option<PolicyIdentity>,
    pub(crate) sandbox: SandboxIdentity,
    pub(crate) stop_reason: Option<StopReason>,
    pub(crate) patch: Option<PatchRecord>,
    pub(crate) grader_log: Option<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) tests: Vec<TestResult>,
}

impl Draft {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            started_at_us: clock.now_us(),
            clock,
            entered: None,
            phases: BTreeMap::new(),
            policy: None,
            sandbox: SandboxIdentity::default(),
            stop_reason: None,
            patch: None,
            grader_log: None,
            steps: Vec::new(),
            tests: Vec::new(),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.leave();
        self.entered = Some((phase, Instant::now()));
    }

    fn leave(&mut self) {
        if let Some((phase, since)) = self.entered.take() {
            *self.phases.entry(phase).or_default() += since.elapsed().as_millis() as u64;
        }
    }

    /// Takes over a finished trajectory, made just now or by an earlier process.
    pub(crate) fn adopt(&mut self, ungraded: Ungraded) {
        self.leave();
        for (phase, ms) in ungraded.timings.phases {
            // The earlier process's time counts; what this one measured of the same phases is in it already.
            self.phases.insert(phase, ms);
        }
        self.started_at_us = ungraded.timings.started_at_us;
        self.policy = Some(ungraded.policy);
        self.sandbox = ungraded.sandbox;
        self.stop_reason = Some(ungraded.stop_reason);
        self.patch = ungraded.patch;
        self.steps = ungraded.steps;
    }

    pub(crate) fn grading_network(&mut self, network: Network, needed: bool) {
        self.sandbox.grading_network = match network {
            Network::None => "none".into(),
            Network::Full => "full".into(),
        };
        let note = "the grading script asks for the network and did not get it".to_owned();
        if needed && network == Network::None && !self.sandbox.deviations.contains(&note) {
            self.sandbox.deviations.push(note);
        }
    }

    pub(crate) fn timings(&self, steps: &[Step]) -> Timings {
        let mut phases = self.phases.clone();
        if let Some((phase, since)) = self.entered {
            *phases.entry(phase).or_default() += since.elapsed().as_millis() as u64;
        }
        Timings {
            started_at_us: self.started_at_us,
            ended_at_us: self.clock.now_us(),
            phases,
            llm_ms: steps.iter().map(|step| step.llm_ms).sum(),
            env_ms: steps.iter().map(|step| step.env_ms).sum(),
        }
    }
}
