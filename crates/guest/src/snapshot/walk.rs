//! One walk over a work tree.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha1::{Digest, Sha1};
use thresher_guest::{CHUNK, Failure, FailureKind};

use super::ignore::Rules;
use super::repository::{Repository, read_ignore_file};
use super::{Known, Stamp, Tree};
use crate::failure::{AtPath, Stop, failure, of_io};
use crate::files::{is_absence, open_regular};
use crate::link::Link;

const FILE: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_000;

/// Whether the folder of a walk is ignored: then only protected files in it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Counted,
    Ignored,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    link: &'a mut Link,
    root: &'a Path,
    repository: Repository,
    rules: Rules,
    tree: &'a mut Tree,
    /// Read buffer, used for every file.
    buffer: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// A walk that marks what it sees in `tree`.
    pub(super) fn new(
        link: &'a mut Link,
        root: &'a str,
        mut repository: Repository,
        tree: &'a mut Tree,
    ) -> Self {
        let rules = Rules::new(std::mem::take(&mut repository.exclude));
        Self { link, root: Path::new(root), repository, rules, tree, buffer: vec![0; CHUNK] }
    }

    /// Walks from the root.
    pub(super) fn walk(mut self) -> Result<(), Stop> {
        // The root itself may be a link; nothing below it is followed.
        let names = names(self.root)?;
        self.folder(&mut Vec::new(), names, Standing::Counted)
    }

    /// Looks at the entries of the folder `prefix`: empty for the root, else with a `/` at its end.
    fn folder(&mut self, prefix: &mut Vec<u8>, names: Vec<Vec<u8>>, standing: Standing) -> Result<(), Stop> {
        if standing == Standing::Counted {
            self.rules.enter(prefix.len(), read_ignore_file(&self.full(prefix).join(".gitignore")));
        }
        for name in names {
            if name != b".git" {
                let length = prefix.len();
                prefix.extend_from_slice(&name);
                self.entry(prefix, standing)?;
                prefix.truncate(length);
            }
        }
        if standing == Standing::Counted {
            self.rules.leave();
        }
        Ok(())
    }

    fn entry(&mut self, path: &mut Vec<u8>, standing: Standing) -> Result<(), Stop> {
        self.link.breathe()?;
        let full = self.full(path);
        let metadata = match fs::symlink_metadata(&full) {
            Err(error) if is_out_of_reach(&error) => return Ok(()),
            metadata => metadata.at(&full)?,
        };
        if metadata.is_dir() {
            return self.enter(path, standing);
        }
        let kind = metadata.file_type();
        if (kind.is_file() || kind.is_symlink()) && self.counts(path, standing) {
            self.file(path, &full, &metadata)?;
        }
        Ok(())
    }

    fn enter(&mut self, path: &mut Vec<u8>, standing: Standing) -> Result<(), Stop> {
        let ignored = standing == Standing::Ignored || self.rules.ignored(path, true);
        let length = path.len();
        path.push(b'/');
        if !ignored || self.protects_below(path) {
            let standing = if ignored { Standing::Ignored } else { Standing::Counted };
            match names(&self.full(path)) {
                Err(failure) if failure.kind == FailureKind::NotFound => {}
                names => self.folder(path, names?, standing)?,
            }
        }
        path.truncate(length);
        Ok(())
    }

    /// Whether a file belongs to the snapshot.
    fn counts(&self, path: &[u8], standing: Standing) -> bool {
        let ignored = standing == Standing::Ignored || self.rules.ignored(path, false);
        let in_baseline = || self.tree.files.get(path).is_some_and(|known| known.baseline);
        !ignored || in_baseline() || self.repository.tracks(path)
    }

    fn protects_below(&self, prefix: &[u8]) -> bool {
        let after = self.tree.files.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let mut below = after.take_while(|(path, _)| path.starts_with(prefix));
        below.any(|(_, known)| known.baseline) || self.repository.tracks_below(prefix)
    }

    /// Takes a file or link into the snapshot, reading it only if it changed.
    fn file(&mut self, path: &[u8], full: &Path, metadata: &Metadata) -> Result<(), Stop> {
        let stamp = Stamp::new(metadata, SystemTime::now());
        let mode = mode_of(metadata);
        let round = self.tree.round;
        if let Some(known) = self.tree.files.get_mut(path)
            && known.stamp.is_unchanged(&stamp)
            && known.mode == mode
        {
            known.round = round;
            return Ok(());
        }
        let read = if mode == SYMLINK { hash_link(full) } else { self.hash_file(full) };
        let (blob, size) = match read {
            Ok(read) => read,
            // Removed since the folder was read.
            Err(Stop::Failed(failure)) if failure.kind == FailureKind::NotFound => return Ok(()),
            Err(stop) => return Err(stop),
        };
        let known = Known { baseline: false, round, stamp, mode, blob, size };
        match self.tree.files.get_mut(path) {
            Some(before) => *before = Known { baseline: before.baseline, ..known },
            None => drop(self.tree.files.insert(path.to_vec(), known)),
        }
        Ok(())
    }

    fn hash_file(&mut self, full: &Path) -> Result<([u8; 20], u64), Stop> {
        let (mut file, metadata) = open_regular(full)?;
        let size = metadata.size();
        let mut hash = blob_hash(size);
        let mut left = size;
        loop {
            let read = self.read(&mut file, full)?;
            hash.update(&self.buffer[..read]);
            match left.checked_sub(read as u64) {
                Some(0) if read == 0 => return Ok((hash.finalize().into(), size)),
                Some(rest) if read > 0 => left = rest,
                _ => return Err(failure(FailureKind::Other, full, "it changed while it was read").into()),
            }
            self.link.breathe()?;
        }
    }

    fn read(&mut self, file: &mut File, full: &Path) -> Result<usize, Stop> {
        loop {
            match file.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return Ok(read.at(full)?),
            }
        }
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

/// Reads the names in a folder at once: a walk must not hold a descriptor per level.
fn names(folder: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_out_of_reach(&error) => Err(io::ErrorKind::NotFound.into()),
        entries => entries,
    };
    let names = entries.at(folder)?.map(|entry| entry.map(|entry| entry.file_name().into_vec()));
    names.collect::<io::Result<_>>().at(folder)
}

/// Whether an entry is gone by now, or so deep that it has no usable path: git cannot take such a file either.
fn is_out_of_reach(error: &io::Error) -> bool {
    is_absence(error) || error.raw_os_error() == Some(libc::ENAMETOOLONG)
}

/// Mode as git has it: of the permissions only the owner's execute bit counts.
fn mode_of(metadata: &Metadata) -> u32 {
    match metadata.mode() & 0o100 {
        _ if metadata.is_symlink() => SYMLINK,
        0 => FILE,
        _ => EXECUTABLE,
    }
}

fn hash_link(full: &Path) -> Result<([u8; 20], u64), Stop> {
    let target = fs::read_link(full).map_err(|error| of_io(&error, full))?;
    let target = target.as_os_str().as_bytes();
    let mut hash = blob_hash(target.len() as u64);
    hash.update(target);
    Ok((hash.finalize().into(), target.len() as u64))
}

fn blob_hash(size: u64) -> Sha1 {
    Sha1::new_with_prefix(format!("blob {size}\0"))
}
