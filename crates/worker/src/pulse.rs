//! A worker's heartbeat: rewritten at intervals, and before anything new begins.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use thresher_ledger::{Heartbeat, Ledger, LedgerError};
use tokio::time::{Instant, sleep_until};

/// The heartbeat of this worker.
pub(crate) struct Pulse {
    ledger: Ledger,
    wanted: Mutex<Wanted>,
    /// The newest change that is stored. Held while a beat is written, so that waiters share the next one.
    stored: tokio::sync::Mutex<Stored>,
}

struct Wanted {
    heartbeat: Heartbeat,
    changes: u64,
}

struct Stored {
    changes: u64,
    beats: u64,
    at: Instant,
}

impl Pulse {
    pub(crate) fn new(ledger: Ledger, heartbeat: Heartbeat) -> Self {
        Self {
            ledger,
            wanted: Mutex::new(Wanted { heartbeat, changes: 1 }),
            stored: tokio::sync::Mutex::new(Stored { changes: 0, beats: 0, at: Instant::now() }),
        }
    }

    /// Changes what the next beat will say.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Heartbeat)) {
        let mut wanted = self.wanted();
        change(&mut wanted.heartbeat);
        wanted.changes += 1;
    }

    /// Returns once a beat is stored that says all that was changed before the call (protocol: H1, H2). Calls that
    /// overlap share one.
    pub(crate) async fn announce(&self) -> Result<(), LedgerError> {
        let wanted = self.wanted().changes;
        let mut stored = self.stored.lock().await;
        if stored.changes >= wanted {
            return Ok(());
        }
        self.write(&mut stored).await
    }

    /// Beats for as long as it is polled. Returns only with an error.
    pub(crate) async fn keep(&self, every: Duration) -> LedgerError {
        loop {
            let due = self.stored.lock().await.at + every;
            sleep_until(due).await;
            let mut stored = self.stored.lock().await;
            if stored.at + every > Instant::now() {
                continue;
            }
            if let Err(error) = self.write(&mut stored).await {
                return error;
            }
        }
    }

    async fn write(&self, stored: &mut Stored) -> Result<(), LedgerError> {
        let (heartbeat, changes) = {
            let wanted = self.wanted();
            (Heartbeat { sequence: stored.beats + 1, ..wanted.heartbeat.clone() }, wanted.changes)
        };
        self.ledger.beat(&heartbeat).await?;
        *stored = Stored { changes, beats: stored.beats + 1, at: Instant::now() };
        Ok(())
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("no holder of this lock panics")
    }
}
