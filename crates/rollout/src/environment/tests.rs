//! How long environments are kept.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use thresher_core::task::{EnvironmentSpec, TestSpec};
use thresher_core::{InstanceId, RolloutId};
use thresher_sandbox::Lease;

use super::*;
use crate::journal::{Progress, Ungraded};

/// A node where every image is.
#[derive(Default)]
struct Node {
    asked: AtomicUsize,
}

#[async_trait]
impl Backend for Node {
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (digest, handle) = ("sha256:d".to_owned(), image.to_string());
        let (env, lease) = (BTreeMap::new(), Lease::default());
        Ok(Prepared { image: image.clone(), digest, handle, env, pulled_bytes: 0, lease })
    }

    async fn derived(&self, _: &Prepared, _: &str) -> Result<Option<Prepared>, SandboxError> {
        unreachable!("inline tasks need no set-up")
    }

    async fn derive(&self, _: Sandbox, _: &Prepared, _: &str) -> Result<Prepared, SandboxError> {
        unreachable!("inline tasks need no set-up")
    }

    async fn start(&self, _: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        unreachable!("inline tasks need no set-up")
    }

    async fn evidence(&self) -> Option<SandboxError> {
        None
    }

    async fn reap(&self) -> Result<usize, SandboxError> {
        Ok(0)
    }
}

/// A run in which every image is locked already.
struct Locked;

#[async_trait]
impl Journal for Locked {
    async fn ungraded(&self, _: &RolloutId, _: &Ungraded) -> Result<(), Fault> {
        Ok(())
    }

    async fn grader_log(&self, _: &RolloutId, _: &str, _: &[u8]) -> Result<String, Fault> {
        Ok(String::new())
    }

    async fn locked_image(&self, _: &str) -> Result<Option<String>, Fault> {
        Ok(Some("sha256:d".into()))
    }

    async fn lock_image(&self, _: &str, digest: &str) -> Result<String, Fault> {
        Ok(digest.to_owned())
    }

    fn progress(&self, _: &RolloutId, _: Progress) {}
}

fn rig() -> (Arc<Node>, Environments) {
    let node = Arc::new(Node::default());
    let backend = Arc::clone(&node) as Arc<dyn Backend>;
    let (settings, labels) = (SandboxSettings::default(), BTreeMap::new());
    (node, Environments::new(backend, Arc::new(Locked), settings, PathBuf::new(), labels))
}

fn task(image: &str) -> Task {
    Task {
        instance_id: InstanceId::new(image),
        family: Family::Inline,
        dataset: String::new(),
        row_sha256: Sha256Hex::of(b""),
        repo: None,
        base_commit: None,
        problem_statement: String::new(),
        environment: EnvironmentSpec {
            image: ImageRef::Registry(image.into()),
            workdir: "/".into(),
            env: BTreeMap::new(),
            activation: None,
            files: Vec::new(),
            grading_needs_network: false,
        },
        gold_patch: None,
        tests: TestSpec::R2eGym { expected: BTreeMap::new() },
    }
}

#[tokio::test]
async fn an_environment_lasts_for_as_long_as_it_is_used() {
    let (node, environments) = rig();
    let asked = || node.asked.load(Ordering::Relaxed);
    let one = environments.get(&task("a")).await.unwrap();
    let other = environments.get(&task("a")).await.unwrap();
    assert!(Arc::ptr_eq(&one, &other) && asked() == 1);
    one.captured.get_or_init(|| async { BTreeMap::from([("A".into(), "1".into())]) }).await;
    drop((one, other));
    let again = environments.get(&task("a")).await.unwrap();
    assert_eq!(asked(), 2, "nothing kept its image on the node meanwhile");
    assert!(again.captured.initialized(), "what costs time to find out is not asked again");
}

#[tokio::test]
async fn what_is_prefetched_is_kept_until_it_is_used() {
    let (node, environments) = rig();
    let asked = || node.asked.load(Ordering::Relaxed);
    environments.prefetch(&task("a")).await.unwrap();
    let used = environments.get(&task("a")).await.unwrap();
    assert_eq!(asked(), 1);
    drop(used);
    drop(environments.get(&task("a")).await.unwrap());
    assert_eq!(asked(), 2, "once it was used, it lasts as any other");
    environments.prefetch(&task("b")).await.unwrap();
    environments.prefetch(&task("c")).await.unwrap();
    drop(environments.get(&task("b")).await.unwrap());
    assert_eq!(asked(), 5, "only what is claimed next is kept");
    drop(environments.get(&task("c")).await.unwrap());
    assert_eq!(asked(), 5);
}

#[tokio::test]
async fn an_image_that_was_removed_behind_our_back_is_made_again() {
    let (node, environments) = rig();
    let one = environments.get(&task("a")).await.unwrap();
    let fault =
        one.not_started(&SandboxError::NoImage { image: "a".into(), message: "no such image".into() });
    assert_eq!((fault.blame, fault.retry), (Blame::Node, Retry::Later));
    let other = environments.get(&task("a")).await.unwrap();
    assert!(!Arc::ptr_eq(&one, &other));
    assert_eq!(node.asked.load(Ordering::Relaxed), 2);
    assert_eq!(other.not_started(&SandboxError::Daemon("x".into())).blame, Blame::Daemon);
}
