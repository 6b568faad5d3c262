//! Tables: a pod's status as clusters write it, and what it means.

use serde_json::{Value, json};
use thresher_core::fault::{Blame, Phase, Retry};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"spec": {"nodeName": "n1", "containers": []}, "status": status})).unwrap()
}

fn waiting(reason: &str, message: &str) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    json!({"phase": "Pending", "containerStatuses": [container(state)]})
}

fn container(state: Value) -> Value {
    json!({"name": "environment", "image": "x:1", "imageID": "docker.io/a/x@sha256:d", "ready": false,
        "restartCount": 0, "state": state})
}

fn ended(reason: &str, code: i32) -> Value {
    let state = json!({"terminated": {"reason": reason, "exitCode": code, "message": "m"}});
    json!({"phase": "Failed", "containerStatuses": [container(state)]})
}

/// The stage in a word; for an error who is to blame, and `code` where nobody outside is.
fn word(stage: &Stage) -> String {
    let blame = |error: &SandboxError| match error.fault(Phase::Start) {
        Some(fault) => format!("{} {}", fault.blame, fault.retry),
        None => "code".into(),
    };
    match stage {
        Stage::Unscheduled(_) => "unscheduled".into(),
        Stage::Starting => "starting".into(),
        Stage::NotPulled { error, waiting } => format!("not pulled: {} {waiting}", blame(error)),
        Stage::Up(_) => "up".into(),
        Stage::Over(error) => format!("over: {}", blame(error)),
    }
}

#[test]
fn a_pod_that_is_not_up_yet() {
    let cases = [
        (json!({"phase": "Pending"}), "starting"),
        (waiting("PodInitializing", ""), "starting"),
        (waiting("ContainerCreating", ""), "starting"),
        (
            waiting("ErrImagePull", "failed to resolve reference: x:1: not found"),
            "not pulled: image never false",
        ),
        (
            waiting("ErrImagePull", "pull access denied, repository does not exist"),
            "not pulled: image never false",
        ),
        (waiting("ErrImagePull", "unexpected status: 401 Unauthorized"), "not pulled: image never false"),
        (waiting("ImagePullBackOff", "Back-off pulling image"), "not pulled: registry later true"),
        (waiting("ErrImagePull", "dial tcp 1.2.3.4:443: i/o timeout"), "not pulled: registry later false"),
        (waiting("ErrImagePull", "429 Too Many Requests"), "not pulled: registry later false"),
        (waiting("ErrImagePull", "write /a: no space left on device"), "not pulled: disk elsewhere false"),
        (waiting("InvalidImageName", "couldn't parse"), "over: image never"),
        (waiting("ErrImageNeverPull", "not present"), "over: image never"),
        (waiting("CreateContainerConfigError", "secret not found"), "over: node never"),
        (waiting("CreateContainerError", "bad mount"), "over: node never"),
    ];
    for (status, expected) in cases {
        assert_eq!(word(&stage(&pod(status.clone()))), expected, "{status}");
    }
}

#[test]
fn a_pod_without_a_node_waits() {
    let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]});
    let Stage::Unscheduled(why) = stage(&pod(unscheduled)) else { panic!("it is unscheduled") };
    assert!(why.contains("Insufficient memory"), "{why}");
    assert!(matches!(stage(&Pod::default()), Stage::Unscheduled(_)));
}

#[test]
fn the_installers_failures_are_ours() {
    let installer = |state: Value| {
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "guest",
        "image": "thresher:1", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    };
    let absent = installer(json!({"waiting": {"reason": "ErrImagePull", "message": "x: not found"}}));
    assert_eq!(word(&stage(&pod(absent))), "not pulled: node never false");
    let mut failed = installer(json!({"terminated": {"exitCode": 1}}));
    failed["phase"] = "Failed".into();
    assert_eq!(word(&stage(&pod(failed))), "over: node never");
}

#[test]
fn a_running_pod_says_what_its_image_is() {
    let running = |id: &str| {
        let mut status =
            json!({"phase": "Running", "containerStatuses": [container(json!({"running": {}}))]});
        status["containerStatuses"][0]["imageID"] = id.into();
        status
    };
    for (id, digest, in_registry) in [
        ("docker.io/a/x@sha256:d", "sha256:d", true),
        ("docker-pullable://a/x@sha256:d", "sha256:d", true),
        ("sha256:c", "sha256:c", false),
        ("docker://sha256:c", "sha256:c", false),
    ] {
        let Stage::Up(up) = stage(&pod(running(id))) else { panic!("it is up") };
        assert_eq!((up.digest.as_str(), up.in_registry, up.ready), (digest, in_registry, true), "{id}");
        assert_eq!(up.node, "n1");
    }
    let mut cut_off = running("sha256:c");
    cut_off["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    assert!(matches!(stage(&pod(cut_off)), Stage::Up(Up { ready: false, .. })));
}

#[test]
fn an_end_is_a_fault_only_with_a_cause_from_outside() {
    let evicted = |message: &str| {
        let mut status = ended("Error", 137);
        status["reason"] = "Evicted".into();
        status["message"] = message.into();
        status
    };
    let reason = |reason: &str| {
        let mut status = ended("Error", 137);
        status["reason"] = reason.into();
        status
    };
    let target = |reason: &str| {
        let mut status = ended("Error", 137);
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason}]);
        status
    };
    let cases = [
        (ended("OOMKilled", 137), "over: code"),
        (ended("Error", 137), "over: code"),
        (ended("Completed", 0), "over: code"),
        (ended("Error", i32::from(ORPHANED)), "over: node later"),
        (ended("ContainerStatusUnknown", 137), "over: node later"),
        (ended("StartError", 128), "over: node never"),
        (evicted("The node was low on resource: memory."), "over: node later"),
        (evicted("The node had condition: [DiskPressure]. "), "over: node later"),
        (
            evicted("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "),
            "over: code",
        ),
        (evicted("Usage of EmptyDir volume \"shm\" exceeds the limit \"64Mi\". "), "over: code"),
        (evicted("Container environment exceeded its local ephemeral storage limit \"1Gi\". "), "over: code"),
        (reason("NodeShutdown"), "over: node later"),
        (reason("DeadlineExceeded"), "over: node later"),
        (reason("OutOfmemory"), "over: node later"),
        (target("PreemptionByScheduler"), "over: node later"),
        (target("EvictionByEvictionAPI"), "over: node later"),
        (target("DeletionByTaintManager"), "over: node later"),
        (json!({"phase": "Failed"}), "over: node later"),
    ];
    for (status, expected) in cases {
        assert_eq!(word(&stage(&pod(status.clone()))), expected, "{status}");
    }
    let mut deleted =
        pod(json!({"phase": "Running", "containerStatuses": [container(json!({"running": {}}))]}));
    deleted.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert_eq!(word(&stage(&deleted)), "over: node later");
    // A pod that its own code ended, and that is then deleted, was ended by its code.
    let mut both = pod(ended("OOMKilled", 137));
    both.metadata.deletion_timestamp = deleted.metadata.deletion_timestamp;
    assert_eq!(word(&stage(&both)), "over: code");
}

#[test]
fn pulls_are_given_up_at_the_second_failure_or_at_once() {
    let registry = || SandboxError::Registry { image: "x".into(), message: "timeout".into() };
    let looks = |looks: &[bool]| {
        let mut pulls = Pulls::default();
        looks.iter().map(|waiting| pulls.failed(&registry(), *waiting)).collect::<Vec<_>>()
    };
    assert_eq!(looks(&[false, false, true, true]), [false; 4], "one failure, looked at often");
    assert_eq!(looks(&[false, true, false]), [false, false, true]);
    assert_eq!(looks(&[true, true, false]), [false, false, true], "the first word may be missed");
    let absent = SandboxError::NoImage { image: "x".into(), message: "404".into() };
    assert!(Pulls::default().failed(&absent, false));
    let fault = absent.fault(Phase::Pull).unwrap();
    assert_eq!((fault.blame, fault.retry), (Blame::Image, Retry::Never));
}
