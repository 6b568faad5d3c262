//! A connection to the guest of a pod: a relay, started beside the guest through the API server.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::Error;
use kube::api::AttachParams;
use kube::client::UpgradeConnectionError;
use tokio::sync::Semaphore;
use tokio::time::{Duration, timeout};

use super::cluster::{Cluster, away};
use super::link::{Connection, Dial, NoConnection};
use super::spec::{ENVIRONMENT, GUEST};
use super::status::{Stage, Up, stage};
use super::watch::{Seen, Watch};
use crate::SandboxError;

/// Bytes between the websocket and the stream, per direction.
const BUFFER: usize = 64 << 10;

/// How long a look at the pod may take.
const LOOK: Duration = Duration::from_secs(10);

/// Dials one pod.
pub(super) struct PodDial {
    pub(super) cluster: Arc<Cluster>,
    pub(super) watch: Arc<Watch>,
    /// Connections in the making, of all pods.
    pub(super) permits: Arc<Semaphore>,
    pub(super) pod: String,
    pub(super) socket: String,
}

#[async_trait]
impl Dial for PodDial {
    async fn dial(&self) -> Result<Connection, NoConnection> {
        match self.watch.seen(&self.pod) {
            Seen::There(pod) => alive(&pod)?,
            Seen::Gone(pod) => return Err(NoConnection::Over(gone(&pod))),
            Seen::Nothing => {}
        }
        let _permit = self.permits.acquire().await;
        match self.exec().await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.explain(error).await),
        }
    }
}

impl PodDial {
    async fn exec(&self) -> kube::Result<Connection> {
        let params = AttachParams {
            container: Some(ENVIRONMENT.into()),
            stdin: true,
            stdout: true,
            stderr: false,
            tty: false,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        let mut relay = self.cluster.pods.exec(&self.pod, [GUEST, "relay", &self.socket], &params).await?;
        let (input, output) = (relay.stdout(), relay.stdin());
        Ok(Connection {
            input: Box::new(input.expect("standard output is asked for")),
            output: Box::new(output.expect("standard input is asked for")),
            keep: Box::new(relay),
        })
    }

    /// Looks from outside for why there is no relay.
    async fn explain(&self, error: Error) -> NoConnection {
        match timeout(LOOK, self.cluster.pods.get_opt(&self.pod)).await {
            Ok(Ok(Some(pod))) => {
                let explained = alive(&pod).err();
                let ready = matches!(stage(&pod), Stage::Up(Up { ready: true, .. }));
                self.watch.look(&self.pod, Some(pod));
                explained.unwrap_or_else(|| NoConnection::Later(refused(&error, ready)))
            }
            Ok(Ok(None)) => {
                self.watch.look(&self.pod, None);
                match self.watch.seen(&self.pod) {
                    Seen::Gone(pod) => NoConnection::Over(gone(&pod)),
                    _ => NoConnection::Over(deleted()),
                }
            }
            Ok(Err(Error::Api(status))) => {
                NoConnection::Later(away(&format!("refuses to show a pod: {}", status.message)))
            }
            Ok(Err(error)) => NoConnection::Later(away(&format!("does not answer: {error}"))),
            Err(_) => NoConnection::Later(away("does not answer")),
        }
    }
}

/// Whether a pod can still be connected to.
fn alive(pod: &Pod) -> Result<(), NoConnection> {
    match stage(pod) {
        Stage::Over(error) => Err(NoConnection::Over(error)),
        _ => Ok(()),
    }
}

/// What a pod that is gone ended of: of what was last seen, unless nothing was.
fn gone(pod: &Pod) -> SandboxError {
    match stage(pod) {
        Stage::Over(error) => error,
        _ => deleted(),
    }
}

fn deleted() -> SandboxError {
    SandboxError::Lost("the pod was deleted from outside".into())
}

/// The pod runs, as far as the API server knows, and takes no relay. Whose doing that is, its node's state says.
fn refused(error: &Error, ready: bool) -> SandboxError {
    let said = match error {
        Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            format!("status {status}")
        }
        error => error.to_string(),
    };
    match ready {
        true => SandboxError::Gone(format!("it takes no connection any more: {said}")),
        false => SandboxError::Lost(format!("its node is cut off from the cluster: {said}")),
    }
}
