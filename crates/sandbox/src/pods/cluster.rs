//! The API server: calls with their retries, and what its refusals mean.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Api, Client, Config, Error};
use tokio::time::{Instant, sleep, timeout};

use crate::SandboxError;

/// After this a call that was not answered counts as unanswered.
const CALL: Duration = Duration::from_secs(60);
/// First and longest pause before a call is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The API server answered, and trying again gives the same.
    Refused(Box<Status>),
    /// It was away, or asked to wait, for longer than it may.
    Away(SandboxError),
}

/// A namespace of a cluster.
pub(super) struct Cluster {
    client: Client,
    pub(super) pods: Api<Pod>,
    pub(super) config_maps: Api<ConfigMap>,
    namespace: String,
    away: Duration,
}

impl Cluster {
    /// Connects as a file says, or as the pod that this process runs in may. A call is tried again for `away`.
    pub(super) async fn connect(
        kubeconfig: Option<&Path>,
        namespace: &str,
        away: Duration,
    ) -> Result<Self, SandboxError> {
        let config = match kubeconfig {
            Some(path) => from_file(path).await?,
            None => Config::incluster().map_err(|error| {
                SandboxError::Unsupported(format!(
                    "no kubeconfig is given, and this is no pod of a cluster: {error}"
                ))
            })?,
        };
        let client = Client::try_from(config)
            .map_err(|error| SandboxError::Unsupported(format!("the cluster's address or keys: {error}")))?;
        Ok(Self {
            pods: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
            away,
        })
    }

    /// Whether the API server answers.
    pub(super) async fn answers(&self, within: Duration) -> Result<(), SandboxError> {
        match timeout(within, self.client.apiserver_version()).await {
            Ok(Ok(_) | Err(Error::Api(_))) => Ok(()),
            Ok(Err(error)) => Err(away(&format!("does not answer: {error}"))),
            Err(_) => Err(away("does not answer")),
        }
    }

    /// Makes a call until it is answered. What the server cannot do now (429, 5xx) and what does not reach it is tried
    /// again after a pause that doubles, or that it asks for.
    pub(super) async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let (begun, mut pause) = (Instant::now(), PAUSE.0);
        loop {
            let error = match timeout(CALL, call()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(Error::Api(status))) if !is_passing(&status) => {
                    return Err(CallError::Refused(status));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {CALL:?}"),
            };
            if begun.elapsed() >= self.away {
                return Err(CallError::Away(away(&format!("did not do what it was asked: {error}"))));
            }
            tracing::debug!(error, "the API server is asked again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// A refusal as an error of the sandbox.
    pub(super) fn error(&self, action: &str, error: CallError) -> SandboxError {
        match error {
            CallError::Away(error) => error,
            CallError::Refused(status) if status.code == 403 && status.message.contains("exceeded quota") => {
                SandboxError::NoRoom(status.message)
            }
            CallError::Refused(status) => SandboxError::Unsupported(format!(
                "the API server refused to {action} in namespace {}: {}",
                self.namespace, status.message
            )),
        }
    }
}

async fn from_file(path: &Path) -> Result<Config, SandboxError> {
    let refused =
        |error: String| SandboxError::Unsupported(format!("kubeconfig {}: {error}", path.display()));
    let file = Kubeconfig::read_from(path).map_err(|error| refused(error.to_string()))?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(file, &options).await.map_err(|error| refused(error.to_string()))
}

pub(super) fn away(what: &str) -> SandboxError {
    SandboxError::Daemon(format!("of the cluster (its API server) {what}"))
}

/// Whether the same call may succeed later. Credentials are among it: they are renewed while calls are under way.
fn is_passing(status: &Status) -> bool {
    matches!(status.code, 401 | 408 | 429 | 500..=599)
        // A quota is also counted late.
        || (status.code == 409 && status.reason == "Conflict")
}

impl CallError {
    /// Whether there is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// Whether there is such an object already.
    pub(super) fn is_there_already(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 409)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let status = |code, reason: &str| Status { code, reason: reason.into(), ..Status::default() };
        for (code, reason, passing) in [
            (429, "TooManyRequests", true),
            (500, "InternalError", true),
            (503, "ServiceUnavailable", true),
            (401, "Unauthorized", true),
            (409, "Conflict", true),
            (409, "AlreadyExists", false),
            (403, "Forbidden", false),
            (404, "NotFound", false),
            (422, "Invalid", false),
        ] {
            assert_eq!(is_passing(&status(code, reason)), passing, "{code}");
        }
    }
}
