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

    /// Waits for the beat that is being written; none is while what is returned lives. A beat that were broken off instead might
    /// yet be stored, after the heartbeat was cleared.
    pub(crate) async fn hold(&self) -> impl Send + '_ {
        self.stored.lock().await
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

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::sync::Arc;

    use serde_json::json;
    use thresher_core::RunId;
    use thresher_store::LocalDir;

    use super::*;

    #[tokio::test]
    async fn nothing_is_cleared_while_a_beat_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalDir::new(folder.path()));
        let ledger = Ledger::open(store, "run", RunId::new("run")).unwrap();
        let me = ledger.incarnation();
        let beat = json!({
            "protocol": 1, "incarnation": me, "sequence": 0, "round": 1, "state": "working", "host": "h", "slots": 1,
            "shards": [], "in_flight": [], "unpacked": { "graded": 0, "solved": 0 },
            "done": { "graded": 0, "solved": 0, "faulted": 0 },
            "spent": { "micro_usd": 0, "tokens": 0, "rollouts": 0 },
        });
        let pulse = Pulse::new(ledger.clone(), serde_json::from_value(beat).unwrap());
        let mut writing = pin!(pulse.announce());
        tokio::select! {
            biased;
            // The disk was faster than this look at it.
            _ = &mut writing => {}
            () = ready(()) => tokio::select! {
                biased;
                _ = pulse.hold() => panic!("a beat is being written"),
                written = writing => written.unwrap(),
            },
        }
        let held = pulse.hold().await;
        pulse.change(|beat| beat.state = thresher_ledger::WorkerState::Draining);
        tokio::select! {
            biased;
            _ = pulse.announce() => panic!("nothing may be written now"),
            () = ready(()) => {}
        }
        ledger.clear_heartbeat(&me).await.unwrap();
        assert_eq!(ledger.heartbeats().await.unwrap().len(), 0);
        drop(held);
    }
}
