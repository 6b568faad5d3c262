//! Ctrl-C and SIGTERM: the first drains, the second stops.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// Listens for the two signals.
pub(crate) struct Signals {
    drain: CancellationToken,
    stop: CancellationToken,
    _listener: Arc<tokio_util::task::AbortOnDropHandle<()>>,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let tokens = (drain.clone(), stop.clone());
        let listener = tokio::spawn(async move {
            for token in [tokens.0, tokens.1] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(Self { drain, stop, _listener: Arc::new(tokio_util::task::AbortOnDropHandle::new(listener)) })
    }

    /// Cancelled by the first signal.
    pub(crate) fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Waits for the second signal.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}
