//! A token bucket: so many at once, so many per second after that.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Lets through `burst` at once and `per_second` in the long run. Who has to wait waits in the order of asking.
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    state: Mutex<State>,
}

/// Tokens at an instant; below zero where some are owed to who waits.
#[derive(Clone, Copy)]
struct State {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: f64, burst: u32) -> Self {
        let (per_second, burst) = (per_second.max(0.001), f64::from(burst.max(1)));
        Self { per_second, burst, state: Mutex::new(State { tokens: burst, at: Instant::now() }) }
    }

    /// Waits until one more may go.
    pub(super) async fn take(&self) {
        sleep(self.reserve(Instant::now())).await;
    }

    /// Takes a token and says how long to wait until it is there.
    fn reserve(&self, now: Instant) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(state.at).as_secs_f64() * self.per_second;
        let tokens = (state.tokens + gained).min(self.burst) - 1.0;
        *state = State { tokens, at: now };
        Duration::from_secs_f64((-tokens / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_so_many_per_second() {
        let (bucket, begun) = (Bucket::new(10.0, 20), Instant::now());
        let waits: Vec<u128> = (0..23).map(|_| bucket.reserve(begun).as_millis()).collect();
        assert!(waits[..20].iter().all(|wait| *wait == 0));
        assert_eq!(waits[20..], [100, 200, 300]);
        let later = begun + Duration::from_secs(1);
        assert_eq!(bucket.reserve(later), Duration::ZERO, "7 are there again");
        let much_later = later + Duration::from_secs(1_000);
        let at_once = (0..30).filter(|_| bucket.reserve(much_later).is_zero()).count();
        assert_eq!(at_once, 20, "no more than a burst is saved up");
    }
}
