//! The pods backend against a real cluster. Without one every test says so and passes.

#![cfg(feature = "pods")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

#[path = "docker/file_system.rs"]
mod file_system;
#[path = "pods/registry.rs"]
mod registry;
#[path = "pods/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;
use thresher_core::fault::{Blame, Phase, Retry};
use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_core::task::ImageRef;
use thresher_sandbox::conformance::{self, Verdict};
use thresher_sandbox::pods::{Pods, PodsOptions};
use thresher_sandbox::{Backend, Command, CommandEnd, Sandbox, SandboxError, SandboxSpec, StartOptions};

use file_system::tiny_file_system;
use rig::{Rig, eventually, spec, whole_cluster};

async fn bash(sandbox: &mut Sandbox, script: &str) -> String {
    let path = [("PATH".to_owned(), "/usr/bin".to_owned())].into();
    let output = sandbox.run(&Command::bash(script).env(path)).await.unwrap();
    assert!(output.end.is_success(), "{script}: {output:?}");
    String::from_utf8(output.stdout.to_vec()).unwrap().trim().to_owned()
}

fn image(reference: impl Into<String>) -> ImageRef {
    ImageRef::Registry(reference.into())
}

#[tokio::test]
async fn the_backend_conforms() {
    let Some(rig) = Rig::new().await else { return };
    let options = rig.options();
    let slot = options.slot.clone();
    let backend = Pods::connect(options).await.unwrap();
    let outcomes = conformance::all(&backend, &rig.small).await.unwrap();
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(Verdict::Shown) => {}
            Ok(Verdict::Skipped(reason)) => eprintln!("skipped: {name}: {reason}"),
            Err(deviation) => failed.push(format!("{name}: {deviation}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    backend.settle().await;
    assert!(rig.pods_of(&slot).await.is_empty());
}
