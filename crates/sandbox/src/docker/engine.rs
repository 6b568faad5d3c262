//! The connection to the daemon: every call has a deadline, and every failure says who acted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};

use crate::SandboxError;

/// Where the daemon listens if nothing else is said.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// A daemon that can be called.
pub(super) struct Engine {
    pub(super) api: bollard::Docker,
    /// As a person names it: `unix:///var/run/docker.sock`.
    pub(super) address: String,
    /// The socket's path, where the daemon is on this machine.
    pub(super) socket: Option<PathBuf>,
    deadline: Duration,
}

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The daemon's own name for itself, which it keeps with its data.
    pub(super) id: String,
    pub(super) cgroup_version: Option<u8>,
    pub(super) kernel: String,
    /// The daemon's data folder, if it can be seen from here.
    pub(super) root_dir: Option<PathBuf>,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The daemon answered, and refused.
    Refused { status: u16, message: String },
    /// It did not answer, or broke off.
    Unreachable(String),
}

impl Engine {
    /// Makes a connection to `host` (the form of `DOCKER_HOST`); nothing is sent yet.
    pub(super) fn new(host: Option<&str>, deadline: Duration) -> Result<Self, SandboxError> {
        let address = host.filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST).to_owned();
        // The deadline of each call is kept by `call`; the client's own, in whole seconds, is only a backstop.
        let backstop = deadline.as_secs().saturating_mul(2).max(60);
        let version = bollard::API_DEFAULT_VERSION;
        let socket = address.strip_prefix("unix://").map(PathBuf::from);
        let api = match &socket {
            Some(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), backstop, version),
            None if address.starts_with("tcp://") || address.starts_with("http://") => {
                bollard::Docker::connect_with_http(&address, backstop, version)
            }
            None => return Err(SandboxError::Unsupported(format!("a container engine at {address:?}"))),
        };
        let api = api.map_err(|error| unreachable(&address, &error.to_string()))?;
        Ok(Self { api, address, socket, deadline })
    }

    /// Waits for `call`, at most the engine's deadline.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
        self.call_within(self.deadline, call).await
    }

    /// Waits for `call`, at most `deadline`.
    pub(super) async fn call_within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(result) => result.map_err(CallError::from),
            Err(_) => Err(CallError::Unreachable(format!("no answer within {deadline:?}"))),
        }
    }

    /// The error for a failed `action` (a fragment after "failed to") on `object`.
    pub(super) fn error(&self, action: &str, error: CallError) -> SandboxError {
        match error {
            CallError::Refused { message, .. } if is_disk_full(&message) => SandboxError::DiskFull(message),
            CallError::Refused { message, .. } => {
                SandboxError::Daemon(format!("refused to {action}: {message}"))
            }
            CallError::Unreachable(message) => unreachable(&self.address, &message),
        }
    }

    /// Asks what the daemon is.
    pub(super) async fn facts(&self) -> Result<Facts, SandboxError> {
        let info =
            self.call(self.api.info()).await.map_err(|error| self.error("tell about itself", error))?;
        Ok(Facts::of(&info, self.socket.as_deref()))
    }
}

impl Facts {
    fn of(info: &SystemInfo, socket: Option<&Path>) -> Self {
        let cgroup_version = match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
            Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
            _ => None,
        };
        // Over a network the same path may be another machine's.
        let root_dir =
            info.docker_root_dir.as_ref().map(PathBuf::from).filter(|dir| socket.is_some() && dir.is_dir());
        let id = info.id.clone().unwrap_or_default();
        Self { id, cgroup_version, kernel: info.kernel_version.clone().unwrap_or_default(), root_dir }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message }
            }
            // The call itself was accepted: what follows in the stream is the daemon's word, too.
            Error::DockerStreamError { error } => Self::Refused { status: 200, message: error },
            Error::DockerContainerWaitError { error, .. } => Self::Refused { status: 200, message: error },
            other => Self::Unreachable(chain(&other)),
        }
    }
}

impl CallError {
    /// Whether the object is not, or no longer, there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// Whether the daemon's words mean that its disk is full.
pub(super) fn is_disk_full(message: &str) -> bool {
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

fn unreachable(address: &str, message: &str) -> SandboxError {
    SandboxError::Daemon(format!("at {address} does not answer: {message}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_socket_is_the_daemons_fault_and_is_named() {
        let Err(error) = Engine::new(Some("unix:///nonexistent/docker.sock"), Duration::from_secs(1)) else {
            panic!("there is no such socket");
        };
        assert!(
            matches!(&error, SandboxError::Daemon(text) if text.contains("/nonexistent/docker.sock")),
            "{error}"
        );
        assert!(matches!(
            Engine::new(Some("ssh://x"), Duration::from_secs(1)),
            Err(SandboxError::Unsupported(_))
        ));
    }

    #[test]
    fn refusals_are_told_apart() {
        let engine = Engine::new(Some("tcp://127.0.0.1:1"), Duration::from_secs(1)).unwrap();
        let refused = |message: &str| CallError::Refused { status: 500, message: message.into() };
        let full = engine.error("commit", refused("write /x: no space left on device"));
        assert!(matches!(full, SandboxError::DiskFull(_)), "{full}");
        let other = engine.error("commit", refused("odd"));
        assert_eq!(other.to_string(), "the container engine refused to commit: odd");
    }
}
