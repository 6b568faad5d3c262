//! When to try again: pure decisions over back-off, what the endpoint asked for, and a budget.
//!
//! The budget follows the token bucket of gRPC and Finagle: a retry costs one, a success earns a fraction of one
//! back, so that in an outage the load stays near one try per call instead of multiplying.

use std::time::{Duration, SystemTime};

use thresher_core::run_spec::ClientSpec;

/// Retries that a client may do before any success earns more, at least.
const MIN_RESERVE: u32 = 100;

/// The same per call in flight: a short break of the endpoint hits all of them at once, and none should end by it.
const RESERVE_PER_CALL: u32 = 4;

/// The retries that all calls of one client share.
#[derive(Clone, Debug)]
pub(super) struct RetryBudget {
    earned_per_success: f64,
    spent: f64,
    calls: u32,
    most_calls: u32,
}

impl RetryBudget {
    pub(super) fn new(earned_per_success: f64) -> Self {
        Self { earned_per_success, spent: 0.0, calls: 0, most_calls: 0 }
    }

    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.calls += 1;
        self.most_calls = self.most_calls.max(self.calls);
    }

    /// A call is over, in whatever way.
    pub(super) fn end(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// A call got its reply.
    pub(super) fn earn(&mut self) {
        self.spent = (self.spent - self.earned_per_success).max(0.0);
    }

    /// Takes one retry out, if there is one.
    pub(super) fn spend(&mut self) -> bool {
        let reserve = MIN_RESERVE.max(self.most_calls.saturating_mul(RESERVE_PER_CALL));
        let granted = self.spent + 1.0 <= f64::from(reserve);
        if granted {
            self.spent += 1.0;
        }
        granted
    }
}

/// The pause after `failed_tries` (from 1): doubling with full jitter, `chance` being drawn from 0 to 1. Where the
/// endpoint named a time, the jitter comes on top of it, so that all callers do not return at the same instant.
pub(super) fn pause(
    client: &ClientSpec,
    failed_tries: u32,
    chance: f64,
    asked: Option<Duration>,
) -> Duration {
    let doublings = failed_tries.saturating_sub(1).min(32);
    let longest = client.backoff_ms.saturating_mul(1 << doublings).min(client.max_backoff_ms);
    asked.unwrap_or_default() + Duration::from_millis(longest).mul_f64(chance.clamp(0.0, 1.0))
}

/// Reads the time that an endpoint asks for: milliseconds (`retry-after-ms`), or seconds or an HTTP date
/// (`retry-after`). What is neither is ignored.
pub(super) fn asked_pause(millis: Option<&str>, after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    if let Some(millis) = millis.and_then(number) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let after = after?;
    match number(after) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => Some(httpdate::parse_http_date(after.trim()).ok()?.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_is_full() {
        let client = ClientSpec { backoff_ms: 100, max_backoff_ms: 1_000, ..ClientSpec::default() };
        let minute = Some(Duration::from_secs(60));
        let table = [
            (1, 1.0, None, 100),
            (2, 1.0, None, 200),
            (4, 1.0, None, 800),
            (5, 1.0, None, 1_000),
            (u32::MAX, 1.0, None, 1_000),
            (4, 0.5, None, 400),
            (4, 0.0, None, 0),
            (1, 0.0, minute, 60_000),
            (1, 0.5, minute, 60_050),
            (1, 0.5, Some(Duration::ZERO), 50),
        ];
        for (tries, chance, asked, expected) in table {
            let pause = pause(&client, tries, chance, asked);
            assert_eq!(pause, Duration::from_millis(expected), "{tries} {chance} {asked:?}");
        }
    }

    #[test]
    fn the_time_that_an_endpoint_asks_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let table = [
            (None, Some("7"), Some(7_000)),
            (None, Some(" 0.5 "), Some(500)),
            (None, Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60_000)),
            (None, Some("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0)),
            (Some("250"), Some("7"), Some(250)),
            (Some("soon"), Some("7"), Some(7_000)),
            (None, Some("soon"), None),
            (None, Some("-1"), None),
            (None, Some("NaN"), None),
            (None, Some("1e300"), None),
            (None, None, None),
        ];
        for (millis, after, expected) in table {
            let asked = asked_pause(millis, after, now);
            assert_eq!(asked, expected.map(Duration::from_millis), "{millis:?} {after:?}");
        }
    }

    fn spend_all(budget: &mut RetryBudget) -> usize {
        std::iter::repeat_with(|| budget.spend()).take_while(|granted| *granted).count()
    }

    #[test]
    fn an_outage_spends_the_reserve_and_successes_earn_it_back() {
        let mut budget = RetryBudget::new(0.2);
        assert_eq!(spend_all(&mut budget), 100);
        (0..4).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend() && !budget.spend());
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(spend_all(&mut budget), 100);
    }

    #[test]
    fn many_calls_in_flight_have_a_larger_reserve() {
        let mut budget = RetryBudget::new(0.2);
        (0..500).for_each(|_| budget.begin());
        (0..500).for_each(|_| budget.end());
        assert_eq!(spend_all(&mut budget), 2_000);
    }
}
