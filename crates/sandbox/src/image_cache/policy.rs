//! The decision: how many bytes have to go, and which images go for them.

use std::collections::{HashMap, HashSet};

use super::Fill;

/// When images are removed, and when enough of them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaterMarks {
    /// Percent of the file system above which images are removed; above [`WaterMarks::low_percent`].
    pub high_percent: u8,
    /// Percent down to which they are.
    pub low_percent: u8,
    /// Bytes of images above which some are removed, whatever the file system has room for.
    pub limit_bytes: Option<u64>,
}

impl Default for WaterMarks {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 75, limit_bytes: None }
    }
}

/// Why room is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something was added, or will be: only what is above the high mark counts.
    Growth,
    /// Something failed for want of room: what is above the low mark goes, and at least one image.
    Failure,
}

/// An image, or a layer derived from one, that can be removed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The entry that it was made from.
    pub(crate) base: Option<String>,
    /// What it takes on the disk: names, under which entries share parts, and bytes.
    pub(crate) parts: Vec<(String, u64)>,
    /// When it was last used; larger is later.
    pub(crate) last_use: u64,
    pub(crate) in_use: bool,
}

/// How many bytes have to go: 0 if none. `stored` is what all images take together.
pub(crate) fn excess(marks: WaterMarks, fill: Option<Fill>, stored: u64, need: Need) -> u64 {
    let WaterMarks { high_percent, low_percent, limit_bytes } = marks;
    let Fill { bytes, inodes } = fill.unwrap_or_default();
    let (mark, at_least) = match need {
        Need::Growth => (high_percent, 0),
        Need::Failure => (low_percent, 1),
    };
    let of_disk = if bytes.is_above(mark) { bytes.used - bytes.percent(low_percent) } else { 0 };
    let of_inodes = match inodes.is_above(mark) {
        // Files are not counted per image: as many as go with the same part of the bytes.
        true => part(stored, inodes.used - inodes.percent(low_percent), inodes.used).max(1),
        false => 0,
    };
    let of_limit = limit_bytes.map_or(0, |limit| {
        let low = part(limit, low_percent.into(), high_percent.into());
        let mark = if need == Need::Growth { limit } else { low };
        if stored > mark { stored - low } else { 0 }
    });
    of_disk.max(of_inodes).max(of_limit).max(at_least)
}

/// `of * numerator / denominator`, rounded down.
fn part(of: u64, numerator: u64, denominator: u64) -> u64 {
    (u128::from(of) * u128::from(numerator) / u128::from(denominator.max(1))) as u64
}

/// What all entries take together, parts that they share counted once.
pub(crate) fn stored(entries: &[Entry]) -> u64 {
    let parts: HashMap<&str, u64> =
        entries.iter().flat_map(|entry| &entry.parts).map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    parts.values().sum()
}

/// Names of the entries that go so that `excess` bytes are freed: the least recently used that nobody uses, first to go
/// first. All that may go, if that is not enough. An image counts as used when what was made from it was, and goes
/// after it; what would free nothing stays.
pub(crate) fn victims(entries: &[Entry], excess: u64) -> Vec<String> {
    let mut ranked = ranked(entries);
    ranked.retain(|ranked| !ranked.in_use);
    ranked.sort_by_key(|ranked| (ranked.last_use, std::cmp::Reverse(ranked.depth)));
    let mut users = users(entries);
    let (mut chosen, mut freed) = (Vec::new(), 0);
    for Ranked { entry, .. } in ranked {
        if freed >= excess {
            break;
        }
        for (part, bytes) in distinct_parts(entry) {
            let left = users.get_mut(part).expect("every part of an entry was counted");
            *left -= 1;
            freed += if *left == 0 { bytes } else { 0 };
        }
        chosen.push(entry);
    }
    chosen.retain(|entry| entry.parts.iter().any(|(part, _)| users[part.as_str()] == 0));
    chosen.into_iter().map(|entry| entry.name.clone()).collect()
}

/// An entry with what it has from those that were made from it.
struct Ranked<'a> {
    entry: &'a Entry,
    last_use: u64,
    in_use: bool,
    /// How many it was made from, one over the other.
    depth: usize,
}

fn ranked(entries: &[Entry]) -> Vec<Ranked<'_>> {
    let places: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.name.as_str(), place)).collect();
    let base_of = |place: usize| entries[place].base.as_deref().and_then(|base| places.get(base)).copied();
    let mut ranked: Vec<_> = entries
        .iter()
        .map(|entry| Ranked { entry, last_use: entry.last_use, in_use: entry.in_use, depth: 0 })
        .collect();
    for (place, entry) in entries.iter().enumerate() {
        let (mut at, mut seen) = (place, HashSet::from([place]));
        while let Some(base) = base_of(at).filter(|base| seen.insert(*base)) {
            ranked[base].last_use = ranked[base].last_use.max(entry.last_use);
            ranked[base].in_use |= entry.in_use;
            ranked[place].depth += 1;
            at = base;
        }
    }
    ranked
}

/// How many entries have each part.
fn users(entries: &[Entry]) -> HashMap<&str, usize> {
    let mut users = HashMap::new();
    for (part, _) in entries.iter().flat_map(distinct_parts) {
        *users.entry(part).or_insert(0) += 1;
    }
    users
}

fn distinct_parts(entry: &Entry) -> impl Iterator<Item = (&str, u64)> {
    let mut seen = HashSet::new();
    let parts = entry.parts.iter().map(|(part, bytes)| (part.as_str(), *bytes));
    parts.filter(move |(part, _)| seen.insert(*part))
}

#[cfg(test)]
mod tests;
