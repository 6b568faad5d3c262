//! What happened in a case: a hash for comparing two runs, and lines for people.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// Every event of a case in order, as a hash; as lines too where a person asked for them.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    events: u64,
    counts: BTreeMap<String, u64>,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that also keeps its lines.
    pub fn with_lines() -> Self {
        Self { lines: Some(Vec::new()), ..Self::default() }
    }

    /// Notes an event: when, who (0 is the world itself), what, on which object, how it ended.
    pub(crate) fn note(&mut self, at: Duration, process: u32, what: &str, path: &str, outcome: &str) {
        (at, process, what, path, outcome).hash(&mut self.hasher);
        self.events += 1;
        let folder = path.split('/').next().unwrap_or_default();
        // Names of objects and of shards would make each count 1.
        let folder = if path.contains('/') { folder } else { "" };
        let key = [what, folder, outcome].join(" ");
        *self.counts.entry(key).or_default() += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} p{process:<2} {what:<9} {path} {outcome}", at.as_secs_f64()));
        }
    }

    /// A number that differs if anything in the trace does.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How often what happened: event, folder of its object, outcome.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
