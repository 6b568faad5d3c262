//! Lists folders.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thresher_guest::{Answer, Entry, EntryKind, Failure};

use crate::failure::{AtPath, Stop};
use crate::files::kind;
use crate::link::Link;

/// Names of one folder that are looked at: memory is bounded also for a folder with millions of files.
const MOST_NAMES: usize = 100_000;

/// Bounds of a listing.
pub(crate) struct Bounds {
    pub(crate) max_depth: u32,
    pub(crate) skip_hidden: bool,
    pub(crate) max_entries: u64,
}

/// Sends the entries below a folder, parents before their children, siblings by name.
pub(crate) fn list(link: &mut Link, path: &str, bounds: &Bounds) -> Result<Answer, Stop> {
    let root = Path::new(path);
    let mut entries = Vec::new();
    // What is still to be looked at, the next one last; the depth of what is in it.
    let mut open = children(root, Path::new(""), 1, bounds)?;
    while let Some((relative, depth)) = open.pop() {
        link.breathe()?;
        if entries.len() as u64 >= bounds.max_entries {
            break;
        }
        let full = root.join(&relative);
        // Removed since its folder was read.
        let Ok(metadata) = fs::symlink_metadata(&full) else { continue };
        let kind = kind(metadata.file_type());
        let path = Bytes::copy_from_slice(relative.as_os_str().as_bytes());
        entries.push(Entry { path, kind, size: metadata.len() });
        if kind == EntryKind::Directory && depth < bounds.max_depth {
            // A folder that may not be read is listed without its content, as `find` does.
            open.extend(children(root, &relative, depth + 1, bounds).unwrap_or_default());
        }
    }
    link.send_items(entries)?;
    Ok(Answer::Done)
}

/// The entries of a folder, the first one last.
fn children(root: &Path, folder: &Path, depth: u32, bounds: &Bounds) -> Result<Vec<(PathBuf, u32)>, Failure> {
    let names = sorted_names(&root.join(folder), bounds.skip_hidden)?;
    Ok(names.into_iter().rev().map(|name| (folder.join(name), depth)).collect())
}

/// Reads the names in a folder, sorted as bytes.
pub(crate) fn sorted_names(folder: &Path, skip_hidden: bool) -> Result<Vec<OsString>, Failure> {
    let is_wanted = |name: &OsString| !skip_hidden || !is_hidden(name);
    let entries = fs::read_dir(folder).at(folder)?.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = entries.filter(is_wanted).take(MOST_NAMES).collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether a name begins with a dot.
fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}
