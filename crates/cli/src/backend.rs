//! Builds the sandbox backend that a job asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thresher_core::run_spec::{BackendName, ImageCacheSpec, Network, PodsSpec};
use thresher_core::{RunId, exit_code};
use thresher_sandbox::docker::{Docker, DockerOptions};
use thresher_sandbox::embedded::{Embedded, EmbeddedOptions, Isolation, RegistryOptions};
use thresher_sandbox::pods::{OlderGenerations, Pods, PodsOptions};
use thresher_sandbox::process::{Process, ProcessOptions};
use thresher_sandbox::{Backend, SandboxError, StartOptions, WaterMarks};

use crate::exit::Failure;
use crate::job::Job;

/// A backend, and which one it became.
pub(crate) struct Built {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) name: BackendName,
}

/// How long an engine beside the worker, which begins when the worker does, may take to answer.
const ENGINE_STARTS: Duration = Duration::from_secs(5 * 60);
/// How long a cluster's API server may be away.
const CLUSTER_AWAY: Duration = Duration::from_secs(30 * 60);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Builds the backend and removes what dead runners left on this machine. With `waits`, what makes sandboxes may begin to
/// answer later.
///
/// # Errors
/// [`exit_code::UNAVAILABLE`] where no sandbox can be had here; [`exit_code::OUTAGE`] where a cluster, which all workers
/// share, was away for too long.
pub(crate) async fn build(job: &Job, cache: &Path, run: &RunId, waits: bool) -> Result<Built, Failure> {
    let (patience, code) = match job.spec.sandbox.backend {
        BackendName::Pods => (CLUSTER_AWAY, exit_code::OUTAGE),
        _ => (ENGINE_STARTS, exit_code::UNAVAILABLE),
    };
    let began = tokio::time::Instant::now();
    loop {
        match build_once(job, cache, run).await {
            Err(SandboxError::Daemon(why)) if waits && began.elapsed() < patience => {
                tracing::info!(why, "waiting for what makes sandboxes");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error @ SandboxError::Daemon(_)) if waits => return Err(unavailable(code, error)),
            built => return built.map_err(|error| unavailable(exit_code::UNAVAILABLE, error)),
        }
    }
}

async fn build_once(job: &Job, cache: &Path, run: &RunId) -> Result<Built, SandboxError> {
    let start =
        StartOptions { run: run.to_string(), incarnation: format!("{:032x}", rand::random::<u128>()) };
    let built = match job.spec.sandbox.backend {
        BackendName::Docker => docker(job, cache, start).await,
        BackendName::Embedded => embedded(job, cache, start).await,
        BackendName::Process => process(cache, start),
        BackendName::Pods => pods(job, start).await,
    }?;
    let removed = built.backend.reap().await?;
    if removed > 0 {
        tracing::info!(removed, "removed what earlier, dead runners left");
    }
    Ok(built)
}

fn unavailable(code: i32, error: SandboxError) -> Failure {
    Failure::new(code, error).hint("`thresher doctor` checks this machine and says how to fix it")
}

/// The address of the daemon, as every Docker client takes it from the environment.
pub(crate) fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

async fn docker(job: &Job, cache: &Path, start: StartOptions) -> Result<Built, SandboxError> {
    let sandbox = &job.spec.sandbox;
    let options = DockerOptions {
        host: docker_host(),
        index: cache.join("docker"),
        marks: marks(&sandbox.image_cache),
        pull: sandbox.pull,
        registry_map: sandbox.registry_map.clone(),
        start,
        ..DockerOptions::new(cache.join("guest"))
    };
    let docker = Docker::connect(options).await?;
    if sandbox.network == Network::Full {
        docker.require_bridge().await?;
    }
    Ok(Built { backend: Arc::new(docker), name: BackendName::Docker })
}

async fn embedded(job: &Job, cache: &Path, start: StartOptions) -> Result<Built, SandboxError> {
    let sandbox = &job.spec.sandbox;
    let options = EmbeddedOptions {
        data: cache.join("embedded"),
        images: sandbox.images.as_deref().map(|images| job.path(images)),
        registry: Some(RegistryOptions {
            pull: sandbox.pull,
            map: sandbox.registry_map.clone(),
            insecure: sandbox.insecure_registries.clone(),
        }),
        isolation: Isolation::Best,
        marks: marks(&sandbox.image_cache),
        start: start.clone(),
    };
    match Embedded::open(options).await {
        Ok(embedded) => Ok(Built { backend: Arc::new(embedded), name: BackendName::Embedded }),
        Err(SandboxError::Unsupported(cause)) if sandbox.allow_process_fallback => {
            say_fallback(&cause);
            process(cache, start)
        }
        Err(error) => Err(error),
    }
}

fn marks(spec: &ImageCacheSpec) -> WaterMarks {
    WaterMarks {
        high_percent: spec.high_percent(),
        low_percent: spec.low_percent(),
        limit_bytes: spec.limit_mb().map(|limit| limit.saturating_mul(1 << 20)),
    }
}

fn process(cache: &Path, start: StartOptions) -> Result<Built, SandboxError> {
    let options = ProcessOptions { data: cache.join("process"), start };
    Ok(Built { backend: Arc::new(Process::open(options)?), name: BackendName::Process })
}

async fn pods(job: &Job, start: StartOptions) -> Result<Built, SandboxError> {
    let sandbox = &job.spec.sandbox;
    let PodsSpec {
        namespace,
        image,
        overrides,
        labels,
        network_enforced,
        deadline_s,
        schedule_limit_s,
        start_limit_s,
        creations_per_s,
    } = &sandbox.pods;
    let image = image.clone().or_else(|| variable("THRESHER_IMAGE")).ok_or_else(|| {
        let nothing = "neither `sandbox.pods.image` nor THRESHER_IMAGE names the image that brings the guest";
        SandboxError::Unsupported(nothing.into())
    })?;
    let usual = PodsOptions::new(namespace, image);
    let options = PodsOptions {
        kubeconfig: kubeconfig(),
        pull: sandbox.pull,
        registry_map: sandbox.registry_map.clone(),
        overrides: overrides.clone(),
        labels: labels.clone(),
        network_enforced: *network_enforced,
        slot: slot(&start.incarnation),
        start: StartOptions { run: variable("THRESHER_FLEET").unwrap_or(start.run), ..start },
        generation: variable("THRESHER_GENERATION").and_then(|number| number.parse().ok()),
        older: match variable("THRESHER_OLDER_GENERATIONS").as_deref() {
            Some("drain") => OlderGenerations::Drain,
            _ => OlderGenerations::Gone,
        },
        deadline: Duration::from_secs(*deadline_s),
        schedule_limit: Duration::from_secs(*schedule_limit_s),
        start_limit: Duration::from_secs(*start_limit_s),
        creations: (*creations_per_s, usual.creations.1),
        ..usual
    };
    Ok(Built { backend: Arc::new(Pods::connect(options).await?), name: BackendName::Pods })
}

/// The file that says where the cluster is, where every client of Kubernetes looks for it. In a pod of the cluster there is
/// none.
fn kubeconfig() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(variable("HOME")?).join(".kube/config")).filter(|path| path.is_file());
    variable("KUBECONFIG").map(PathBuf::from).or_else(usual)
}

/// The worker slot: the index in a job of the cluster, whose next holder clears away what the last one left. Outside of one
/// any number of processes may run side by side, so each is a slot of its own.
fn slot(incarnation: &str) -> String {
    variable("JOB_COMPLETION_INDEX").unwrap_or_else(|| format!("local-{}", &incarnation[..16]))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "running without isolation must be seen by whoever started it")]
fn say_fallback(cause: &str) {
    eprintln!("thresher: no sandbox with isolation is possible here: {cause}");
    eprintln!("thresher: this job allows to go on without isolation; its records say isolation=none");
}
