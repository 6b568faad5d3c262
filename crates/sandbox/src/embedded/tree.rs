//! Copying and removing whole trees by descriptors, so that no link is followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// Removes the entry `name` of `parent`, with everything below it.
pub(super) fn remove_entry(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let folder = open_folder(parent, name)?;
    for (child, _) in entries(&folder)? {
        remove_entry(folder.as_fd(), &child)?;
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Copies what a sandbox wrote: the content of `from` into the existing folder `to`, with owners, modes, times,
/// hard links, whiteouts and the attributes that mean something in a lower layer. Other mounts are left out. Returns
/// the bytes of the files.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    // A magic link of /proc: it is to be followed, once.
    let from = openat(CWD, from, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let to_fd = openat(CWD, to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let root = rustix::fs::fstat(&from)?;
    let mut copy = Copy { target: to.to_owned(), device: root.st_dev, linked: HashMap::new(), bytes: 0 };
    copy.folder(&from, &to_fd, Path::new(""))?;
    copy_extended(&from, &to_fd)?;
    set_attributes(&to_fd, OsStr::new("."), &root)?;
    Ok(copy.bytes)
}

/// A copy under way.
struct Copy {
    target: PathBuf,
    device: u64,
    /// Where the first of each set of hard links went, relative to the target.
    linked: HashMap<u64, PathBuf>,
    bytes: u64,
}

impl Copy {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<()> {
        for (name, _) in entries(from)? {
            let stat = statat(from, &*name, NOFOLLOW)?;
            if stat.st_dev == self.device {
                self.entry(from, to, &name, &stat, &path.join(&name))?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        stat: &Stat,
        path: &Path,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_nlink > 1 && !kind.is_dir() {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                return Ok(linkat(CWD, self.target.join(first), to, name, AtFlags::empty())?);
            }
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let (inner_from, inner_to) =
                    (open_folder(from.as_fd(), name)?, open_folder(to.as_fd(), name)?);
                copy_extended(&inner_from, &inner_to)?;
                self.folder(&inner_from, &inner_to, path)?;
            }
            FileType::RegularFile => self.file(from, to, name)?,
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new())?;
                symlinkat(&*target, to, name)?;
            }
            // Whiteouts are character devices numbered 0:0; others cannot be made inside.
            FileType::CharacterDevice | FileType::Fifo => {
                mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?
            }
            // A socket means nothing without its process.
            _ => return Ok(()),
        }
        set_attributes(to, name, stat)
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut source = File::from(openat(from, name, read, Mode::empty())?);
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut target = File::from(openat(to, name, create, Mode::from_raw_mode(0o600))?);
        self.bytes += io::copy(&mut source, &mut target)?;
        copy_extended(&source, &target)
    }
}

/// Copies extended attributes that mean something in a lower layer: opacity, capabilities and the user's own.
fn copy_extended(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    const LARGEST: usize = 64 << 10;
    let mut names = vec![0u8; LARGEST];
    let length = match flistxattr(&from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0u8; LARGEST];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let name = OsStr::from_bytes(name);
        let length = fgetxattr(&from, name, &mut value[..])?;
        fsetxattr(&to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

fn is_kept(name: &[u8]) -> bool {
    let own = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    own || [&b"security.capability"[..], b"trusted.overlay.opaque", b"user.overlay.opaque"].contains(&name)
}

fn set_attributes(parent: &OwnedFd, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(parent, name, Some(uid), Some(gid), NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(parent, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let time = |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as i64 };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(utimensat(parent, name, &times, NOFOLLOW)?)
}

fn open_folder(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn entries(folder: &OwnedFd) -> io::Result<Vec<(OsString, FileType)>> {
    let mut list = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            list.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
