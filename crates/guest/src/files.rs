//! Operations on single files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use thresher_guest::{Answer, CHUNK, EntryKind, Failure, FailureKind, WriteMode};

use crate::failure::{AtPath, Stop, failure, of_io};
use crate::link::Link;

/// Opens a regular file for reading; never hangs on a pipe or a device.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), Failure> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path).at(path)?;
    let metadata = file.metadata().at(path)?;
    if metadata.is_dir() {
        return Err(failure(FailureKind::IsDirectory, path, "Is a directory"));
    }
    if !metadata.is_file() {
        return Err(failure(FailureKind::Other, path, "not a regular file"));
    }
    Ok((file, metadata))
}

/// Sends a file's content.
pub(crate) fn read(link: &mut Link, path: &str, limit: u64) -> Result<Answer, Stop> {
    let (file, metadata) = open_regular(path.as_ref())?;
    let too_large = || failure(FailureKind::TooLarge, path, format!("larger than {limit} bytes"));
    if metadata.len() > limit {
        return Err(too_large().into());
    }
    // The size may be wrong, as in /proc, or grow: what counts is what is read.
    let mut left = limit;
    let mut piece = Vec::new();
    loop {
        piece.clear();
        (&file).take(CHUNK as u64).read_to_end(&mut piece).at(path)?;
        if piece.is_empty() {
            return Ok(Answer::Done);
        }
        left = left.checked_sub(piece.len() as u64).ok_or_else(too_large)?;
        link.send(&piece)?;
    }
}

/// Writes the request's body to a file, whole or not at all.
pub(crate) fn write(link: &mut Link, path: &str, mode: WriteMode) -> Result<Answer, Stop> {
    let target = follow_links(Path::new(path))?;
    let old = match fs::metadata(&target) {
        Ok(old) if old.is_dir() => {
            return Err(failure(FailureKind::IsDirectory, path, "Is a directory").into());
        }
        Ok(old) if !old.is_file() => {
            return Err(failure(FailureKind::Other, path, "not a regular file").into());
        }
        Ok(old) => Some(old),
        Err(_) => None,
    };
    let parent = make_parent(&target)?;
    let temporary = unused_name(&parent);
    match File::options().write(true).create_new(true).mode(0o600).open(&temporary) {
        Ok(file) => {
            let guard = Temporary(temporary);
            receive(link, &file, path)?;
            dress(&file, mode, old.as_ref()).at(path)?;
            guard.replace(&target, old.is_some()).at(path)?;
        }
        // A file that was mounted into a folder that takes no other: it can only be written in place.
        Err(error) if old.is_some() && is_refusal(&error) => {
            let file = File::options().write(true).truncate(true).open(&target).at(path)?;
            receive(link, &file, path)?;
            dress(&file, mode, old.as_ref()).at(path)?;
        }
        Err(error) => return Err(of_io(&error, path.as_ref()).into()),
    }
    Ok(Answer::Done)
}

/// Whether a folder takes no new file, as opposed to a disk that has no room for one.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

fn receive(link: &mut Link, mut file: &File, path: &str) -> Result<(), Stop> {
    while let Some(bytes) = link.next_body()? {
        file.write_all(&bytes).at(path)?;
    }
    Ok(())
}

/// Gives a new file its mode, and the owner of the file that it replaces.
fn dress(file: &File, mode: WriteMode, old: Option<&Metadata>) -> io::Result<()> {
    if let Some(old) = old {
        // Refused without privilege, or for an owner that the user namespace does not know: then it stays the guest's.
        std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid())).ok();
    }
    let bits = match (mode, old) {
        (WriteMode::Plain, _) => 0o644,
        (WriteMode::Executable, _) => 0o755,
        (WriteMode::Keep, old) => old.map_or(0o644, |old| old.mode() & 0o7777),
    };
    file.set_permissions(fs::Permissions::from_mode(bits))
}

/// A file that is removed unless it replaced its target.
struct Temporary(PathBuf);

impl Temporary {
    fn replace(self, target: &Path, exists: bool) -> io::Result<()> {
        match fs::rename(&self.0, target) {
            Err(error) if exists && error.raw_os_error() == Some(libc::EBUSY) => {
                // The target is a mount point, as /etc/hosts is in a container.
                fs::copy(&self.0, target).map(drop)
            }
            done => done,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Where writing through `path` ends: links are followed, also one whose target does not exist yet.
fn follow_links(path: &Path) -> Result<PathBuf, Failure> {
    const MOST_LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or_else(|| Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(of_io(&io::Error::from_raw_os_error(libc::ELOOP), &path))
}

/// Creates the folder that `path` is in.
fn make_parent(path: &Path) -> Result<PathBuf, Failure> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/")).to_path_buf();
    match fs::create_dir_all(&parent) {
        // What exists, since it could not be created, and is no folder.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(failure(FailureKind::NotADirectory, &parent, "Not a directory"))
        }
        made => made.at(&parent).map(|()| parent),
    }
}

/// A name in `folder` that nobody has used: to be opened with `create_new`.
pub(crate) fn unused_name(folder: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".thresher-{}-{number}", std::process::id()));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

/// Creates or replaces a symbolic link.
pub(crate) fn symlink(path: &str, target: &Bytes) -> Result<Answer, Stop> {
    let link = Path::new(path);
    let temporary = unused_name(&make_parent(link)?);
    rustix::fs::symlink(&target[..], &temporary).at(path)?;
    let guard = Temporary(temporary);
    fs::rename(&guard.0, link).at(path)?;
    Ok(Answer::Done)
}

/// Removes a file, a link or a whole folder.
pub(crate) fn remove(path: &str) -> Result<Answer, Stop> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if is_absence(&error) => Ok(Answer::Done),
        removed => Ok(removed.at(path).map(|()| Answer::Done)?),
    }
}

/// Says what is at a path, following links.
pub(crate) fn stat(path: &str) -> Result<Answer, Stop> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Answer::Stat(Some((kind(metadata.file_type()), metadata.len())))),
        Err(error) if is_absence(&error) => Ok(Answer::Stat(None)),
        Err(error) => Err(of_io(&error, path.as_ref()).into()),
    }
}

/// Kind of a file.
pub(crate) fn kind(kind: fs::FileType) -> EntryKind {
    match kind {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Directory,
        kind if kind.is_symlink() => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

/// Whether there is nothing at the path, as opposed to a path that cannot be looked at.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}
