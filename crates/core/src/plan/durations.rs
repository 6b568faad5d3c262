//! How long a rollout is expected to take: of its task, else of its repository, else of any, else a guess.

use std::collections::BTreeMap;

use super::repository;
use crate::id::InstanceId;

/// Seconds of a rollout of which nothing at all is known.
pub const PRIOR_S: u32 = 5 * 60;

/// Durations that somebody gave, or that a former run took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    instances: BTreeMap<String, f64>,
    /// Keys that ended in a star, without it.
    prefixes: BTreeMap<String, f64>,
    /// Means over the instances of a repository.
    repositories: BTreeMap<String, f64>,
    /// Mean over everything known.
    overall: Option<f64>,
}

impl Durations {
    /// Seconds by instance id, or by the beginning of instance ids, then ending in `*`. Numbers must be finite and
    /// above 0.
    pub fn given(entries: impl IntoIterator<Item = (String, f64)>) -> Self {
        let mut durations = Self::default();
        for (key, seconds) in entries {
            match key.strip_suffix('*') {
                Some(prefix) => durations.prefixes.insert(prefix.to_owned(), seconds),
                None => durations.instances.insert(key, seconds),
            };
        }
        let by_repository = durations.instances.iter().map(|(id, seconds)| (repository(id), *seconds));
        durations.repositories = summarized(by_repository, mean);
        durations.overall = mean_of(&durations.instances).or_else(|| mean_of(&durations.prefixes));
        durations
    }

    /// Seconds that rollouts of a former run took: the median counts, because a few rollouts that met an outage say
    /// nothing about the next ones.
    pub fn learned<'a>(rollouts: impl IntoIterator<Item = (&'a InstanceId, f64)>) -> Self {
        let rollouts = rollouts.into_iter().map(|(instance, seconds)| (instance.as_str(), seconds));
        Self::given(summarized(rollouts, median))
    }

    /// Whole seconds, at least 1, that a rollout of the task is expected to take. The first of these that is known: the
    /// task's own, the longest prefix of its id, the mean of its repository, the mean of everything, [`PRIOR_S`].
    pub fn expected_s(&self, instance: &InstanceId) -> u32 {
        let known = self.of_task(instance.as_str()).or_else(|| self.of_repository(instance.as_str()));
        known.or(self.overall).map_or(PRIOR_S, |seconds| seconds.round().clamp(1.0, i32::MAX.into()) as u32)
    }

    /// Whether something is known of the task, or of its repository.
    pub fn fits(&self, instance: &InstanceId) -> bool {
        self.of_task(instance.as_str()).or_else(|| self.of_repository(instance.as_str())).is_some()
    }

    fn of_task(&self, id: &str) -> Option<f64> {
        let prefix = || {
            let fitting = self.prefixes.iter().filter(|(prefix, _)| id.starts_with(prefix.as_str()));
            fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, seconds)| *seconds)
        };
        self.instances.get(id).copied().or_else(prefix)
    }

    fn of_repository(&self, id: &str) -> Option<f64> {
        self.repositories.get(repository(id)).copied()
    }
}

/// One number for each key.
fn summarized<'a>(
    numbers: impl IntoIterator<Item = (&'a str, f64)>,
    summary: fn(&mut [f64]) -> f64,
) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (key, number) in numbers {
        all.entry(key).or_default().push(number);
    }
    all.into_iter().map(|(key, mut numbers)| (key.to_owned(), summary(&mut numbers))).collect()
}

fn mean_of(numbers: &BTreeMap<String, f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.values().copied().collect();
    (!numbers.is_empty()).then(|| mean(&mut numbers))
}

/// The order of the numbers can change a mean's last bit: callers keep them in order of their keys.
fn mean(numbers: &mut [f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len().is_multiple_of(2) {
        (numbers[middle - 1] + numbers[middle]) / 2.0
    } else {
        numbers[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_thing_that_is_known_counts() {
        let entries =
            [("a__a-1", 100.0), ("a__a-2", 200.5), ("b__b-1", 30.0), ("c__*", 7.0), ("c__c-1*", 0.2)];
        let some = Durations::given(entries.map(|(key, seconds)| (key.to_owned(), seconds)));
        let prefixes = Durations::given([("c__*".to_owned(), 8.0)]);
        for (durations, id, seconds, fits) in [
            (&some, "a__a-1", 100, true),
            (&some, "a__a-3", 150, true),
            (&some, "c__x-1", 7, true),
            (&some, "c__c-1", 1, true),
            (&some, "d__d-1", 110, false),
            (&prefixes, "d__d-1", 8, false),
            (&Durations::default(), "a__a-1", PRIOR_S, false),
        ] {
            let id = InstanceId::new(id);
            assert_eq!((durations.expected_s(&id), durations.fits(&id)), (seconds, fits), "{id}");
        }
    }

    #[test]
    fn a_former_run_teaches_medians() {
        let (a, b) = (InstanceId::new("r__r-1"), InstanceId::new("r__r-2"));
        let rollouts = [(&a, 10.0), (&b, 50.0), (&a, 9_000.0), (&a, 12.0), (&b, 70.0)];
        let learned = Durations::learned(rollouts);
        assert_eq!((learned.expected_s(&a), learned.expected_s(&b)), (12, 60));
        assert_eq!(learned.expected_s(&InstanceId::new("r__r-3")), 36);
        assert_eq!(learned.expected_s(&InstanceId::new("other")), 36);
    }
}
