//! The parts of a repository that bear on which files count: its index and its exclude file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thresher_guest::{Failure, FailureKind};

use super::ignore::IgnoreFile;
use super::index::{BadIndex, Index};
use crate::failure::{AtPath, failure};
use crate::files::{is_absence, open_regular};

/// Largest index that is read, in bytes: about two million files.
const MOST_INDEX: u64 = 256 << 20;

/// Largest ignore file that is read, in bytes; the rest of a longer one does not count.
const MOST_IGNORE: u64 = 8 << 20;

/// What a repository says about its work tree.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// Tracked paths: never ignored.
    tracked: BTreeSet<Vec<u8>>,
    /// Rules of `info/exclude`.
    pub(super) exclude: IgnoreFile,
}

impl Repository {
    /// Reads what is below `root/.git`; nothing where there is no repository.
    ///
    /// An index that cannot be read is an error only if `strict`: later, with a baseline, whoever broke it changes
    /// nothing.
    pub(super) fn open(root: &Path, strict: bool) -> Result<Self, Failure> {
        let Some(git) = git_folder(root) else {
            return Ok(Self::default());
        };
        let tracked = match read_index(&git) {
            Ok(tracked) => tracked,
            Err(failure) if strict => return Err(failure),
            Err(_) => BTreeSet::new(),
        };
        let exclude = read_ignore_file(&common_folder(&git).join("info/exclude"));
        Ok(Self { tracked, exclude })
    }

    /// Whether `path` is tracked.
    pub(super) fn tracks(&self, path: &[u8]) -> bool {
        self.tracked.contains(path)
    }

    /// Whether a tracked path begins with `prefix`.
    pub(super) fn tracks_below(&self, prefix: &[u8]) -> bool {
        let mut after = self.tracked.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        after.next().is_some_and(|path| path.starts_with(prefix))
    }
}

/// Reads an ignore file; a missing one, or a link in its place, is empty, as it is for git.
pub(super) fn read_ignore_file(path: &Path) -> IgnoreFile {
    let open = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut content = Vec::new();
    match open.and_then(|file| file.take(MOST_IGNORE).read_to_end(&mut content)) {
        Ok(_) => IgnoreFile::parse(&content),
        Err(_) => IgnoreFile::default(),
    }
}

/// Finds the repository's folder: `.git`, or what a file of that name points to.
fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    pointer(&git, b"gitdir: ").map(|target| root.join(target))
}

/// The folder that all work trees of a repository share.
fn common_folder(git: &Path) -> PathBuf {
    pointer(&git.join("commondir"), b"").map_or_else(|| git.to_path_buf(), |target| git.join(target))
}

fn pointer(file: &Path, prefix: &[u8]) -> Option<PathBuf> {
    const LONGEST: u64 = 8192;
    let mut content = Vec::new();
    let (file, _) = open_regular(file).ok()?;
    file.take(LONGEST).read_to_end(&mut content).ok()?;
    let target = content.strip_prefix(prefix)?.trim_ascii_end();
    (!target.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(target)))
}

fn read_index(git: &Path) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let Some(index) = read_one_index(&git.join("index"))? else {
        return Ok(BTreeSet::new());
    };
    let mut tracked: BTreeSet<Vec<u8>> = index.paths.into_iter().collect();
    if let Some(shared) = index.shared {
        let shared = read_one_index(&git.join(format!("sharedindex.{shared}")))?.unwrap_or_default();
        tracked.extend(shared.paths);
    }
    Ok(tracked)
}

fn read_one_index(path: &Path) -> Result<Option<Index>, Failure> {
    match fs::metadata(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        Ok(metadata) if metadata.len() > MOST_INDEX => {
            return Err(failure(FailureKind::TooLarge, path, "the index is too large"));
        }
        _ => {}
    }
    let (file, _) = open_regular(path)?;
    let mut content = Vec::new();
    file.take(MOST_INDEX).read_to_end(&mut content).at(path)?;
    let bad = |BadIndex(what)| failure(FailureKind::Other, path, format!("the index is {what}"));
    Index::parse(&content).map(Some).map_err(bad)
}
