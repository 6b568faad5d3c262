//! What a pod's status means: how far it is, and, once it is over, who ended it.
//!
//! Pure: a pod in, a [`Stage`] out. An end is a fault only where the status shows a cause from outside. What the code
//! inside can bring about (memory or disk over its limits, an end of the first process) never is.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use thresher_guest::resume::ORPHANED;

use super::spec::{ENVIRONMENT, INSTALLER};
use crate::SandboxError;
use crate::docker::pull::refusal;

/// How far a pod is.
#[derive(Debug)]
pub(super) enum Stage {
    /// No node yet; why, in the scheduler's words.
    Unscheduled(String),
    /// A node works on it.
    Starting,
    /// An image does not come: what that means, and whether the kubelet waits before it tries again.
    NotPulled { error: SandboxError, waiting: bool },
    /// The environment's first process runs.
    Up(Up),
    /// It will not run, or not any more.
    Over(SandboxError),
}

/// What is known of a pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    /// What the tag was resolved to: registry digest, else config id.
    pub(super) digest: String,
    /// Whether a registry knows it under that digest.
    pub(super) in_registry: bool,
    /// Its node.
    pub(super) node: String,
    /// Whether the node says so still; it does not where it is cut off.
    pub(super) ready: bool,
}

/// Reads a pod.
pub(super) fn stage(pod: &Pod) -> Stage {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    if let Some(reason) = disruption(pod, status) {
        return Stage::Over(SandboxError::Lost(reason));
    }
    let environment = container(status.container_statuses.as_deref(), ENVIRONMENT);
    let ended = environment.and_then(|status| status.state.as_ref()?.terminated.as_ref());
    match (status.phase.as_deref(), ended) {
        (Some("Failed" | "Succeeded"), _) | (_, Some(_)) => Stage::Over(end(status, ended)),
        _ if pod.metadata.deletion_timestamp.is_some() => {
            Stage::Over(SandboxError::Lost("the pod is being deleted from outside".into()))
        }
        _ => alive(pod, status, environment),
    }
}

/// A cause from outside that the control plane or the kubelet names.
fn disruption(pod: &Pod, status: &PodStatus) -> Option<String> {
    const OUTSIDE: &[&str] =
        &["NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "Preempted", "NodeAffinity"];
    let reason = status.reason.as_deref().unwrap_or_default();
    let message = status.message.as_deref().unwrap_or_default();
    let by_node = OUTSIDE.contains(&reason)
        || reason.starts_with("OutOf")
        || reason == "UnexpectedAdmissionError"
        || reason == "DeadlineExceeded"
        // The same word stands for a node short of something and for a pod over its own limit.
        || (reason == "Evicted" && !is_over_own_limit(message));
    if by_node {
        return Some(format!("{reason}: {message} (node {})", node(pod)));
    }
    let condition = condition(status, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    let (reason, message) = (condition.reason.as_deref(), condition.message.as_deref());
    Some(format!("{}: {}", reason.unwrap_or("DisruptionTarget"), message.unwrap_or("no more is said")))
}

/// Whether an eviction is for what the pod itself used: "Pod ephemeral local storage usage exceeds the total limit of
/// containers 1Gi.", "Usage of EmptyDir volume "shm" exceeds the limit "64Mi"."
fn is_over_own_limit(message: &str) -> bool {
    (message.contains("exceeds the") || message.contains("exceeded its")) && message.contains("limit")
}

fn end(status: &PodStatus, ended: Option<&ContainerStateTerminated>) -> SandboxError {
    let message = status.message.as_deref().unwrap_or_default();
    if status.reason.as_deref() == Some("Evicted") {
        return SandboxError::Gone(format!("it was evicted: {message}"));
    }
    if let Some(failed) = failed_installer(status) {
        return failed;
    }
    let Some(ended) = ended else {
        let reason = status.reason.as_deref().unwrap_or("no reason");
        return SandboxError::Lost(format!("the pod ended before its container: {reason}: {message}"));
    };
    let said = ended.message.as_deref().unwrap_or_default();
    match (ended.reason.as_deref().unwrap_or_default(), ended.exit_code) {
        ("OOMKilled", _) => SandboxError::Gone("it was killed for its memory".into()),
        ("ContainerStatusUnknown", _) => {
            SandboxError::Lost("its node does not know its container any more".into())
        }
        ("StartError" | "ContainerCannotRun", _) => {
            SandboxError::Unsupported(format!("the container does not start: {said}"))
        }
        (_, code) if code == i32::from(ORPHANED) => {
            SandboxError::Lost("no connection reached it for so long that it ended by itself".into())
        }
        (_, code) => SandboxError::Gone(format!("its first process ended with {code}")),
    }
}

/// The installer of the guest is ours: its failure is nobody's code.
fn failed_installer(status: &PodStatus) -> Option<SandboxError> {
    let installer = container(status.init_container_statuses.as_deref(), INSTALLER)?;
    let ended = installer.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let said = ended.message.as_deref().unwrap_or("no more is said");
    let code = ended.exit_code;
    Some(SandboxError::Unsupported(format!("the guest was not installed: exit code {code}: {said}")))
}

fn alive(pod: &Pod, status: &PodStatus, environment: Option<&ContainerStatus>) -> Stage {
    let scheduled = condition(status, "PodScheduled");
    if let Some(condition) = scheduled.filter(|condition| condition.status == "False") {
        let message = condition.message.clone().or_else(|| condition.reason.clone());
        return Stage::Unscheduled(message.unwrap_or_default());
    }
    if node(pod).is_empty() {
        return Stage::Unscheduled("no node was chosen yet".into());
    }
    let installer = container(status.init_container_statuses.as_deref(), INSTALLER);
    for (container, is_installer) in [(installer, true), (environment, false)] {
        if let Some(failed) = container.and_then(|container| waiting(container, is_installer)) {
            return failed;
        }
    }
    match environment {
        Some(container) if container.state.as_ref().is_some_and(|state| state.running.is_some()) => {
            Stage::Up(up(pod, status, container))
        }
        _ => Stage::Starting,
    }
}

/// What it means that a container waits; `None` where it only takes its time.
fn waiting(container: &ContainerStatus, is_installer: bool) -> Option<Stage> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.clone().unwrap_or_else(|| reason.to_owned());
    let image = container.image.clone();
    let refused = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            let error = not_pulled(image, message);
            let waiting = reason == "ImagePullBackOff";
            return Some(Stage::NotPulled {
                error: if is_installer { installers(error) } else { error },
                waiting,
            });
        }
        "InvalidImageName" | "ErrImageNeverPull" => SandboxError::NoImage { image, message },
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            SandboxError::Unsupported(format!("the container is not created: {message}"))
        }
        _ => return None,
    };
    Some(Stage::Over(if is_installer { installers(refused) } else { refused }))
}

/// What a failed pull means. A registry that wants other credentials will not change its mind.
fn not_pulled(image: String, message: String) -> SandboxError {
    const NOT_ALLOWED: &[&str] =
        &["unauthorized", "401", "forbidden", "403", "authorization failed", "no basic auth credentials"];
    let words = message.to_ascii_lowercase();
    match refusal(&image, message.clone()) {
        SandboxError::Registry { .. } if NOT_ALLOWED.iter().any(|word| words.contains(word)) => {
            SandboxError::NoImage { image, message }
        }
        error => error,
    }
}

/// An image that installs the guest and is not there is nothing that the task's image could be blamed for.
fn installers(error: SandboxError) -> SandboxError {
    match error {
        SandboxError::NoImage { image, message } => SandboxError::Unsupported(format!(
            "the image {image}, which brings the guest, is not there: {message}"
        )),
        error => error,
    }
}

fn up(pod: &Pod, status: &PodStatus, container: &ContainerStatus) -> Up {
    let id = container.image_id.rsplit_once("://").map_or(container.image_id.as_str(), |(_, id)| id);
    let (in_registry, digest) = match id.rsplit_once('@') {
        Some((_, digest)) => (true, digest),
        None => (false, id),
    };
    let ready = condition(status, "Ready").is_none_or(|condition| condition.status != "False");
    Up { digest: digest.to_owned(), in_registry, node: node(pod).to_owned(), ready }
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn container<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    status.conditions.as_deref()?.iter().find(|condition| condition.type_ == name)
}

/// Counts failed pulls, and says when it is enough: at once where the image is not there, else at the second failure.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    failures: u32,
    waiting: Option<bool>,
}

impl Pulls {
    /// Takes a look at a pod into account. Returns whether the pull is given up.
    pub(super) fn failed(&mut self, error: &SandboxError, waiting: bool) -> bool {
        // The first word is of a failure, and so is each one after a pause.
        if self.waiting.is_none() || (self.waiting == Some(true) && !waiting) {
            self.failures += 1;
        }
        self.waiting = Some(waiting);
        let for_good = matches!(error, SandboxError::NoImage { .. } | SandboxError::Unsupported(_));
        for_good || self.failures >= 2
    }
}

#[cfg(test)]
mod tests;
