//! Builds the sandbox backend that a job asks for.

use std::path::Path;
use std::sync::Arc;

use thresher_core::run_spec::BackendName;
use thresher_core::{RunId, exit_code};
use thresher_sandbox::docker::{Docker, DockerOptions};
use thresher_sandbox::embedded::{Embedded, EmbeddedOptions, Isolation, RegistryOptions};
use thresher_sandbox::process::{Process, ProcessOptions};
use thresher_sandbox::{Backend, SandboxError, StartOptions};

use crate::exit::Failure;
use crate::job::Job;

/// A backend, and which one it became.
pub(crate) struct Built {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) name: BackendName,
}

/// Builds the backend and removes what dead runners left on this machine.
pub(crate) async fn build(job: &Job, cache: &Path, run: &RunId) -> Result<Built, Failure> {
    let start =
        StartOptions { run: run.to_string(), incarnation: format!("{:032x}", rand::random::<u128>()) };
    let built = match job.spec.sandbox.backend {
        BackendName::Docker => docker(job, cache, start).await,
        BackendName::Embedded => embedded(job, cache, start).await,
        BackendName::Process => process(cache, start),
    };
    let built = built.map_err(unavailable)?;
    let removed = built.backend.reap().await.map_err(unavailable)?;
    if removed > 0 {
        tracing::info!(removed, "removed what earlier, dead runners left");
    }
    Ok(built)
}

fn unavailable(error: SandboxError) -> Failure {
    Failure::new(exit_code::UNAVAILABLE, error)
        .hint("`thresher doctor` checks this machine and says how to fix it")
}

/// The address of the daemon, as every Docker client takes it from the environment.
pub(crate) fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

async fn docker(job: &Job, cache: &Path, start: StartOptions) -> Result<Built, SandboxError> {
    let sandbox = &job.spec.sandbox;
    let options = DockerOptions {
        host: docker_host(),
        pull: sandbox.pull,
        registry_map: sandbox.registry_map.clone(),
        start,
        ..DockerOptions::new(cache.join("guest"))
    };
    Ok(Built { backend: Arc::new(Docker::connect(options).await?), name: BackendName::Docker })
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

fn process(cache: &Path, start: StartOptions) -> Result<Built, SandboxError> {
    let options = ProcessOptions { data: cache.join("process"), start };
    Ok(Built { backend: Arc::new(Process::open(options)?), name: BackendName::Process })
}

#[expect(clippy::print_stderr, reason = "running without isolation must be seen by whoever started it")]
fn say_fallback(cause: &str) {
    eprintln!("thresher: no sandbox with isolation is possible here: {cause}");
    eprintln!("thresher: this job allows to go on without isolation; its records say isolation=none");
}
