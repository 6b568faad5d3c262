//! A process's line to the world: what is done to the process from outside.
//!
//! Everything that a process does beyond computing passes its link. So a process that is frozen here is as good as
//! stopped by a signal: its timers run out, but nothing comes of it before it thaws.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// It ends at once, wherever it is.
    Kill,
    /// It stands still for so long, as after SIGSTOP, and then goes on.
    Freeze(Duration),
    /// None of its requests and none of the answers get through for so long.
    Partition(Duration),
    /// It is asked to end, as by SIGTERM.
    Drain,
}

/// When it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// So long after the process began.
    After(Duration),
    /// When its store operation of this number is with the store, before the answer.
    Operation(u64),
}

/// The line of one process. Clones share it.
#[derive(Clone, Debug)]
pub struct Link {
    /// The process's number in traces.
    pub(crate) process: u32,
    state: Arc<Mutex<State>>,
    dead: CancellationToken,
    drain: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    due: BTreeMap<u64, Trouble>,
    frozen: Vec<(Instant, Instant)>,
    partitioned: Vec<(Instant, Instant)>,
    kill_at: Option<Instant>,
    drain_at: Option<Instant>,
}

impl Link {
    /// The line of a process that begins now.
    pub fn new(process: u32, troubles: &[(When, Trouble)]) -> Self {
        let link = Self {
            process,
            state: Arc::default(),
            dead: CancellationToken::new(),
            drain: CancellationToken::new(),
        };
        for (when, trouble) in troubles {
            match when {
                When::After(delay) => link.happen(*trouble, Instant::now() + *delay),
                When::Operation(number) => {
                    link.state().due.insert(*number, *trouble);
                }
            }
        }
        link
    }

    /// Runs the process's work until its end, or until it is killed: then `None`.
    pub async fn live<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (kill_at, drain_at) = {
            let state = self.state();
            (state.kill_at, state.drain_at)
        };
        let drain = async {
            at(drain_at).await;
            self.thawed().await;
            self.drain.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            () = at(kill_at) => { self.dead.cancel(); None }
            () = drain => None,
            done = work => Some(done),
        }
    }

    /// The token that asks the process to end.
    pub fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Ends the process at once.
    pub fn kill(&self) {
        self.dead.cancel();
    }

    /// Whether the process was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Waits until the process is not frozen; for ever if it is dead.
    pub async fn thawed(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        while let Some(until) = self.within(|state| &state.frozen) {
            sleep_until(until).await;
        }
    }

    /// Sleeps as this process does: what is due while it is frozen happens when it thaws.
    pub async fn sleep(&self, length: Duration) {
        sleep(length).await;
        self.thawed().await;
    }

    /// Whether nothing gets through.
    pub(crate) fn is_partitioned(&self) -> bool {
        self.within(|state| &state.partitioned).is_some()
    }

    /// An operation has arrived at the store: what was to happen at this one happens.
    pub(crate) fn operation(&self) {
        let due = {
            let mut state = self.state();
            state.operations += 1;
            let number = state.operations;
            state.due.remove(&number)
        };
        match due {
            Some(Trouble::Kill) => self.kill(),
            Some(Trouble::Drain) => self.drain.cancel(),
            Some(trouble) => self.happen(trouble, Instant::now()),
            None => {}
        }
    }

    fn happen(&self, trouble: Trouble, from: Instant) {
        let mut state = self.state();
        match trouble {
            Trouble::Kill => state.kill_at = Some(state.kill_at.map_or(from, |at| at.min(from))),
            Trouble::Drain => state.drain_at = Some(state.drain_at.map_or(from, |at| at.min(from))),
            Trouble::Freeze(length) => state.frozen.push((from, from + length)),
            Trouble::Partition(length) => state.partitioned.push((from, from + length)),
        }
    }

    /// The end of the window that now is in.
    fn within(&self, windows: impl Fn(&State) -> &Vec<(Instant, Instant)>) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state();
        windows(&state).iter().filter(|(from, until)| *from <= now && now < *until).map(|(_, end)| *end).max()
    }

    /// No holder of the lock panics in between two changes that belong together.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until an instant; for ever if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
