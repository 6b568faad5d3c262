//! Whether and when a faulted rollout is tried again: a pure function of the fault and the tries so far.

use std::time::Duration;

use thresher_core::{Fault, Retry};

/// First pause before a fault of class `Later` is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause before the next try within this invocation; `None` if there is none.
///
/// `tries` counts the tries of this invocation, at least 1. Classes `Elsewhere` and `Never` are left to another node
/// or to the next invocation, when their cause may have been repaired.
pub(crate) fn pause(fault: &Fault, tries: u32, retries: u32) -> Option<Duration> {
    if tries > retries {
        return None;
    }
    match fault.retry {
        Retry::Now => Some(Duration::ZERO),
        Retry::Later => Some((FIRST_PAUSE * 2u32.saturating_pow(tries - 1)).min(LONGEST_PAUSE)),
        Retry::Elsewhere | Retry::Never => None,
    }
}

#[cfg(test)]
mod tests {
    use thresher_core::{Blame, Phase};

    use super::*;

    #[test]
    fn classes_decide_and_pauses_double() {
        let cases = [
            (Retry::Now, 1, Some(0)),
            (Retry::Now, 3, None),
            (Retry::Later, 1, Some(2)),
            (Retry::Later, 2, Some(4)),
            (Retry::Later, 3, None),
            (Retry::Elsewhere, 1, None),
            (Retry::Never, 1, None),
        ];
        for (retry, tries, wanted) in cases {
            let fault = Fault::new(Blame::Daemon, retry, Phase::Start, "x");
            assert_eq!(pause(&fault, tries, 2), wanted.map(Duration::from_secs), "{retry:?} {tries}");
        }
        let fault = Fault::new(Blame::Daemon, Retry::Later, Phase::Start, "x");
        assert_eq!(pause(&fault, 40, 50), Some(LONGEST_PAUSE));
    }
}
