//! Which files a work tree holds, as `git add -A` would see it: path, mode and blob id.
//!
//! The first snapshot of a root is the baseline: its paths are never ignored later, as a tracked file is not. Files
//! that did not change since an earlier snapshot are not read again; what counts as unchanged includes the change
//! time, which nobody can set.

mod glob;
mod ignore;
mod index;
mod repository;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use thresher_guest::{Answer, SnapshotItem};

use crate::failure::Stop;
use crate::link::Link;
use repository::Repository;
use walk::Walk;

/// What is known of every root that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    roots: HashMap<String, Tree>,
}

/// What is known of one root.
#[derive(Debug, Default)]
struct Tree {
    /// Number of the snapshot under way, from 1.
    round: u64,
    files: BTreeMap<Vec<u8>, Known>,
}

/// A file that some snapshot saw.
#[derive(Clone, Debug)]
struct Known {
    /// Whether the first snapshot saw it.
    baseline: bool,
    /// The last snapshot that saw it.
    round: u64,
    stamp: Stamp,
    mode: u32,
    blob: [u8; 20],
    size: u64,
}

/// What tells a changed file from an unchanged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Whether the content was read well after the last change: a change within the clock's step would not show.
    settled: bool,
}

impl Stamp {
    /// The stamp of a file that is about to be read.
    fn new(metadata: &Metadata, now: SystemTime) -> Self {
        /// Several steps of the kernel's coarse clock.
        const STEP: Duration = Duration::from_millis(50);
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            settled: now.checked_sub(STEP).and_then(seconds).is_some_and(|now| changed < now),
        }
    }

    fn is_unchanged(&self, now: &Self) -> bool {
        self.settled && Self { settled: true, ..*now } == *self
    }
}

fn seconds(time: SystemTime) -> Option<(i64, i64)> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((i64::try_from(since.as_secs()).ok()?, i64::from(since.subsec_nanos())))
}

impl Snapshots {
    /// Takes a snapshot and sends it.
    pub(crate) fn take(&mut self, link: &mut Link, root: &str) -> Result<Answer, Stop> {
        let first = !self.roots.contains_key(root);
        let mut tree = self.roots.remove(root).unwrap_or_default();
        tree.round += 1;
        let repository = Repository::open(Path::new(root), first)?;
        // A walk that fails leaves marks of a round that never ended; the next round has another number.
        let walked = Walk::new(link, root, repository, &mut tree).walk();
        if first && walked.is_err() {
            // Half a tree is no baseline.
            return walked.map(|()| Answer::Done);
        }
        let tree = self.roots.entry(root.to_owned()).or_insert(tree);
        walked?;
        tree.settle(first);
        link.send_items(tree.items())?;
        Ok(Answer::Done)
    }
}

impl Tree {
    /// Ends a round: forgets files that are gone, unless they are of the baseline.
    fn settle(&mut self, first: bool) {
        let round = self.round;
        self.files.retain(|_, known| {
            known.baseline |= first;
            known.baseline || known.round == round
        });
    }

    fn items(&self) -> impl Iterator<Item = SnapshotItem> {
        self.files.iter().filter(|(_, known)| known.round == self.round).map(|(path, known)| SnapshotItem {
            path: Bytes::copy_from_slice(path),
            mode: known.mode,
            blob: known.blob,
            size: known.size,
        })
    }
}
