//! How long a stream's guest could not be reached, by no fault of its own: time that no deadline may count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time that a stream was cut off, all in all. A stream that cannot be cut off never begins one.
#[derive(Debug, Default)]
pub(crate) struct Absence(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    over: Duration,
    since: Option<Instant>,
}

impl Absence {
    /// The guest cannot be reached since `since`.
    #[cfg(feature = "pods")]
    pub(crate) fn begin(&self, since: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since.get_or_insert(since);
    }

    /// It can be reached again.
    #[cfg(feature = "pods")]
    pub(crate) fn end(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        state.over += last;
    }

    fn total(&self) -> Duration {
        let state = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.over + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Begins to count for a request.
    pub(crate) fn begin_counting(&self) -> Since<'_> {
        Since { absence: self, before: self.total() }
    }
}

/// The absence during one request.
pub(crate) struct Since<'a> {
    absence: &'a Absence,
    before: Duration,
}

impl Since<'_> {
    /// When `deadline` really is: later by as long as the guest could not be reached.
    fn put_off(&self, deadline: Instant) -> Instant {
        deadline + (self.absence.total() - self.before)
    }

    /// Waits for `work` until `deadline`, put off; `None` if it was not done by then.
    pub(crate) async fn until<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let late = self.put_off(deadline);
            if let Ok(done) = tokio::time::timeout_at(late, &mut work).await {
                return Some(done);
            }
            if self.put_off(deadline) <= Instant::now() {
                return None;
            }
        }
    }
}

#[cfg(all(test, feature = "pods"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_put_off_by_the_absence_since_the_request_began() {
        let absence = Absence::default();
        absence.begin(Instant::now());
        tokio::time::advance(Duration::from_secs(100)).await;
        absence.end();
        let (since, begun) = (absence.begin_counting(), Instant::now());
        let deadline = begun + Duration::from_secs(10);
        let cut_off = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            // Noticed late.
            absence.begin(Instant::now() - Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(30)).await;
            absence.end();
            std::future::pending::<()>().await
        };
        assert!(since.until(deadline, cut_off).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 10 + 31);
        let done = since.until(deadline, std::future::ready(3)).await;
        assert_eq!(done, Some(3));
    }
}
