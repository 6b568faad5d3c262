//! What must hold at every instant: looked at whenever an object changes, before it does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use thresher_store::ObjectPath;

use super::store::Stored;

/// More broken invariants than these say nothing new.
const KEPT: usize = 8;

/// Folders of objects that are created once and then stay as they are, for good.
const WRITTEN_ONCE: [&str; 4] = ["plan/", "results/", "log/", "attempts/"];

/// Ends the names of trajectories that wait for grading.
const UNGRADED: &str = ".ungraded.json.zst";

/// Judges every change of the store's objects, whoever made it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    violations: Vec<String>,
    /// Live packs by name.
    live: BTreeMap<String, LivePack>,
    /// Rollouts that some live pack covered once: later ones must cover them too.
    covered: BTreeSet<String>,
    /// Files of packs that were part of the run, which readers of an earlier position may still read.
    removed: BTreeSet<String>,
    /// Packs that the log says are to be deleted, and since when by the clock of whoever said so, in seconds.
    condemned: BTreeMap<String, u64>,
    /// How long files of condemned packs must stay.
    keep: Duration,
    /// Holder of each epoch of each claim.
    holders: BTreeMap<(String, u64), Value>,
    /// Processes whose heartbeats listed a rollout as in flight.
    begun: BTreeMap<String, BTreeSet<u32>>,
    /// Since when each rollout has a finished trajectory.
    ungraded: BTreeMap<String, Duration>,
    log: u64,
}

#[derive(Debug)]
struct LivePack {
    files: Vec<String>,
    /// Rollouts whose results it holds.
    covered: Vec<String>,
}

impl LivePack {
    fn of(pack: &Value) -> Self {
        let files = pack["files"].as_array().into_iter().flatten();
        let files = files.filter_map(|file| Some(file["path"].as_str()?.to_owned())).collect();
        let covered = if pack["kind"] == "results" { words(&pack["covered"]) } else { Vec::new() };
        Self { files, covered }
    }
}

impl Watch {
    /// A watch over a run whose condemned files must stay for so long.
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn broken(&mut self, at: Duration, what: impl Into<String>) {
        if self.violations.len() < KEPT {
            self.violations.push(format!("{:.3} s: {}", at.as_secs_f64(), what.into()));
        }
    }

    /// Judges a put that is about to take effect.
    pub(crate) fn put(
        &mut self,
        at: Duration,
        process: u32,
        path: &ObjectPath,
        bytes: &Bytes,
        objects: &BTreeMap<ObjectPath, Stored>,
    ) {
        let text = path.as_str();
        let old = objects.get(path);
        if old.is_some() && WRITTEN_ONCE.iter().any(|folder| text.starts_with(folder)) {
            self.broken(at, format!("process {process} replaced `{text}`, which is written once"));
        }
        if old.is_some() && text.starts_with("tables/") {
            self.broken(at, format!("process {process} wrote the file `{text}` a second time"));
        }
        if let Some(shard) = text.strip_prefix("claims/") {
            self.claim(at, shard, &body(bytes), old.map(|stored| body(&stored.bytes)).as_ref());
        }
        if text.starts_with("workers/") {
            for attempt in body(bytes)["in_flight"].as_array().into_iter().flatten() {
                let rollout = attempt["rollout"].as_str().unwrap_or_default().to_owned();
                self.begun.entry(rollout).or_default().insert(process);
            }
        }
        if text.ends_with(UNGRADED)
            && let Some(rollout) = rollout_of(text)
        {
            self.ungraded.entry(rollout.to_owned()).or_insert(at);
        }
        if text.starts_with("log/") {
            self.entry(at, text, &body(bytes), objects);
        }
    }

    /// Judges the removal of an object that is there.
    pub(crate) fn delete(&mut self, at: Duration, process: u32, path: &ObjectPath) {
        let text = path.as_str();
        let spent = text.ends_with(UNGRADED) && rollout_of(text).is_some_and(|id| self.covered.contains(id));
        if WRITTEN_ONCE.iter().any(|folder| text.starts_with(folder)) && !spent {
            self.broken(at, format!("process {process} removed `{text}`, which is to stay"));
        }
        let live = self.live.iter().find(|(_, pack)| pack.files.iter().any(|file| file == text));
        if let Some((pack, _)) = live {
            let what = format!("process {process} removed `{text}` of the live pack {pack}");
            self.broken(at, what);
        }
        let since = self.condemned.get(path.name().trim_end_matches(".parquet"));
        let is_due = since.is_some_and(|since| at >= Duration::from_secs(*since) + self.keep);
        if self.removed.contains(text) && !is_due {
            self.broken(at, format!("process {process} removed `{text}`, which readers were promised"));
        }
    }

    /// Epochs only go up, and an epoch has one holder.
    fn claim(&mut self, at: Duration, shard: &str, new: &Value, old: Option<&Value>) {
        let epoch = |body: &Value| body["content"]["epoch"].as_u64().unwrap_or_default();
        let version = |body: &Value| body["version"].as_u64().unwrap_or_default();
        if let Some(old) = old
            && (epoch(new) < epoch(old) || version(new) != version(old) + 1)
        {
            let what = format!(
                "the claim of {shard} went from epoch {}, version {} to epoch {}, version {}",
                epoch(old),
                version(old),
                epoch(new),
                version(new)
            );
            self.broken(at, what);
        }
        let holder = &new["content"]["standing"]["held"];
        if holder.is_null() {
            return;
        }
        let known = self.holders.entry((shard.to_owned(), epoch(new))).or_insert_with(|| holder.clone());
        if known != holder {
            let what = format!("epoch {} of {shard} is held by {known} and by {holder}", epoch(new));
            self.broken(at, what);
        }
    }

    /// The log has no gaps, and what it names is there.
    fn entry(&mut self, at: Duration, path: &str, entry: &Value, objects: &BTreeMap<ObjectPath, Stored>) {
        let number = entry["number"].as_u64().unwrap_or_default();
        if number != self.log + 1 {
            self.broken(at, format!("`{path}` follows entry {}", self.log));
        }
        self.log = number;
        for name in texts(&entry["removed"]) {
            for file in self.live.remove(&name).map(|pack| pack.files).unwrap_or_default() {
                self.removed.insert(file);
            }
        }
        for name in texts(&entry["condemned"]["packs"]) {
            if self.live.contains_key(&name) {
                self.broken(at, format!("`{path}` condemns the live pack {name}"));
            }
            let since = entry["condemned"]["at_unix_s"].as_u64().unwrap_or_default();
            self.condemned.entry(name).or_insert(since);
        }
        for added in entry["added"].as_array().into_iter().flatten() {
            let pack = LivePack::of(added);
            for file in pack.files.iter().filter(|file| !objects.contains_key(file.as_str())) {
                self.broken(at, format!("`{path}` names `{file}`, which is not there"));
            }
            let name = added["name"].as_str().unwrap_or_default().to_owned();
            if self.condemned.contains_key(&name) {
                self.broken(at, format!("`{path}` adds the condemned pack {name}"));
            }
            self.live.insert(name, pack);
        }
        self.coverage(at, path);
    }

    /// No two live packs hold the same rollout, and none is dropped.
    fn coverage(&mut self, at: Duration, path: &str) {
        let mut now = BTreeSet::new();
        let covered = self.live.values().flat_map(|pack| &pack.covered);
        let twice: Vec<&String> = covered.filter(|rollout| !now.insert((*rollout).clone())).collect();
        if let Some(rollout) = twice.first() {
            let what = format!("after `{path}` rollout {rollout} is in two packs");
            self.broken(at, what);
        }
        if let Some(rollout) = self.covered.difference(&now).next() {
            let what = format!("after `{path}` rollout {rollout} is in no pack any more");
            self.broken(at, what);
        }
        self.covered = now;
    }

    /// The processes whose heartbeats ever listed an attempt of a rollout.
    pub(crate) fn begun_on(&self, rollout: &str) -> BTreeSet<u32> {
        self.begun.get(rollout).cloned().unwrap_or_default()
    }

    /// Since when a rollout has a finished trajectory.
    pub(crate) fn ungraded_since(&self, rollout: &str) -> Option<Duration> {
        self.ungraded.get(rollout).copied()
    }

    /// The files of all live packs, sorted.
    pub(crate) fn live_files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.live.values().flat_map(|pack| pack.files.clone()).collect();
        files.sort();
        files
    }
}

/// The rollout of a path below `attempts/`.
fn rollout_of(path: &str) -> Option<&str> {
    path.split('/').nth(2)
}

/// Words of one text.
fn words(text: &Value) -> Vec<String> {
    text.as_str().unwrap_or_default().split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

/// What is in an object that people read too.
fn body(bytes: &[u8]) -> Value {
    let mut envelope: Value = serde_json::from_slice(bytes).unwrap_or_default();
    envelope["body"].take()
}
