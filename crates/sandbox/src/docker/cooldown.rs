//! Pauses that registries asked for, shared by all pulls of this process.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Longest pause that is taken without the registry naming one.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Per registry host: until when it is left alone.
pub(super) struct Cooldowns {
    /// First pause where the registry names none; it doubles with every refusal in a row.
    first: Duration,
    hosts: Mutex<HashMap<String, Cooldown>>,
}

#[derive(Clone, Copy)]
struct Cooldown {
    until: Instant,
    last: Duration,
}

impl Cooldowns {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, hosts: Mutex::default() }
    }

    /// What is left of the pause for `host`.
    pub(super) fn remaining(&self, host: &str) -> Option<Duration> {
        let hosts = self.hosts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let left = hosts.get(host)?.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Notes that `host` refused, and returns the pause that follows. Refusals of pulls that were under way when the
    /// pause began do not lengthen it.
    pub(super) fn refused(&self, host: &str, asked: Option<Duration>) -> Duration {
        let mut hosts = self.hosts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let before = hosts.get(host).copied();
        let pause = match (asked, before) {
            (Some(asked), _) => asked,
            (None, Some(before)) if before.until > now => before.until - now,
            (None, Some(before)) => (before.last * 2).min(LONGEST),
            (None, None) => self.first,
        };
        let last = before.filter(|before| before.until > now).map_or(pause, |before| before.last);
        hosts.insert(host.to_owned(), Cooldown { until: now + pause, last });
        pause
    }

    /// Notes that `host` served a pull.
    pub(super) fn served(&self, host: &str) {
        self.hosts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_doubles_and_is_forgotten() {
        let cooldowns = Cooldowns::new(Duration::from_secs(10));
        let seconds = Duration::from_secs;
        assert_eq!(cooldowns.remaining("a"), None);
        assert_eq!(cooldowns.refused("a", None), seconds(10));
        assert_eq!(cooldowns.remaining("b"), None, "other registries go on");
        tokio::time::advance(seconds(4)).await;
        assert_eq!(cooldowns.remaining("a"), Some(seconds(6)));
        assert_eq!(cooldowns.refused("a", None), seconds(6), "a late refusal does not lengthen the pause");
        tokio::time::advance(seconds(6)).await;
        assert_eq!(cooldowns.remaining("a"), None);
        assert_eq!(cooldowns.refused("a", None), seconds(20));
        assert_eq!(cooldowns.refused("a", Some(seconds(3))), seconds(3), "the registry's own word counts");
        cooldowns.served("a");
        assert_eq!(cooldowns.remaining("a"), None);
        assert_eq!(cooldowns.refused("a", None), seconds(10));
    }
}
