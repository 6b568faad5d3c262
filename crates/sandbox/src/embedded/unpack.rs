//! Unpacking one layer of an image, which is untrusted input, into a folder that an overlay can be mounted over.
//!
//! Every path is resolved by the kernel with the layer's folder as its root, so that neither `..` nor a link, planted
//! by an earlier entry, leads out. Whiteouts become what overlayfs understands.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fsetxattr, linkat, mkdirat, mknodat, openat, openat2, symlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::archive::broken;
use super::mounter::Mounter;
use super::tree::remove_entry;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of a former storage driver, without meaning for anybody else.
const DRIVER_FILES: &[u8] = b".wh..wh.";

/// Unpacks the tar stream into the existing, empty folder `root`, as a layer for `mounter`.
///
/// # Errors
/// `InvalidData` where the archive is at fault, else what the file system says.
pub(super) fn unpack(stream: impl Read, root: &Path, mounter: Mounter) -> io::Result<()> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut layer = Layer { root, mounter, parent: None, folder_times: Vec::new() };
    for entry in Archive::new(stream).entries().map_err(damaged)? {
        layer.unpack_entry(&mut entry.map_err(damaged)?)?;
    }
    layer.set_folder_times()
}

/// A layer in the making.
struct Layer {
    root: OwnedFd,
    mounter: Mounter,
    /// The folder that the last entry went to: most follow one another in the same.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Set at the end, since every new entry changes its folder's.
    folder_times: Vec<(PathBuf, Timestamps)>,
}

impl Layer {
    fn unpack_entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::Char | EntryType::Block) {
            // Devices cannot be used inside: the file system is mounted without them.
            return Ok(());
        }
        let path = clean(&entry.path_bytes())?;
        let Some((folder, name)) = path.parent().zip(path.file_name()) else {
            return if kind.is_dir() { self.set_root_attributes(entry) } else { Ok(()) };
        };
        let parent = self.folder(folder)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return whiteout(&parent, name, self.mounter, || self.reopen(folder));
        }
        let attributes = Attributes::of(entry, self.mounter)?;
        self.make(entry, kind, &parent, &path)?;
        if kind != EntryType::Link {
            attributes.set(&parent, name, kind)?;
        }
        if kind.is_dir() {
            self.folder_times.push((path, attributes.times));
        }
        Ok(())
    }

    fn make<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        parent: &OwnedFd,
        path: &Path,
    ) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let is_kept = make_room(parent, name, kind.is_dir())?;
        let private = Mode::from_raw_mode(0o600);
        match kind {
            EntryType::Directory if is_kept => Ok(()),
            EntryType::Directory => Ok(mkdirat(parent, name, Mode::from_raw_mode(0o700))?),
            EntryType::Symlink => Ok(symlinkat(OsStr::from_bytes(&target(entry)?), parent, name)?),
            EntryType::Link => self.link(&clean(&target(entry)?)?, parent, name),
            EntryType::Fifo => Ok(mknodat(parent, name, FileType::Fifo, private, 0)?),
            _ => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(parent, name, flags, private)?);
                io::copy(entry, &mut file).map_err(damaged)?;
                Ok(())
            }
        }
    }

    fn link(&self, target: &Path, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let missing = || broken(format!("a hard link to {}, which is not in the layer", target.display()));
        let (folder, target_name) = target.parent().zip(target.file_name()).ok_or_else(missing)?;
        let folder = self.reopen(folder).map_err(|_| missing())?;
        linkat(&folder, target_name, parent, name, AtFlags::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::PERM | Errno::NOTDIR => missing(),
            other => other.into(),
        })
    }

    /// Opens a folder below the root, making what is missing.
    fn folder(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == path
        {
            return fd.try_clone();
        }
        let fd = match resolve(&self.root, path) {
            Err(Errno::NOENT) => self.make_folders(path)?,
            other => other.map_err(|errno| refused(path, errno))?,
        };
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    fn make_folders(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut reached = PathBuf::new();
        let mut fd = self.root.try_clone()?;
        for part in path.components() {
            reached.push(part);
            let next = match resolve(&self.root, &reached) {
                Err(Errno::NOENT) => {
                    mkdirat(&fd, part.as_os_str(), Mode::from_raw_mode(0o755))
                        .map_err(|errno| refused(&reached, errno))?;
                    let root = self.mounter.owner(0);
                    let (uid, gid) = (Uid::from_raw(root), Gid::from_raw(root));
                    if self.mounter.first_id() > 0 {
                        chownat(&fd, part.as_os_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                    }
                    resolve(&self.root, &reached)
                }
                other => other,
            };
            fd = next.map_err(|errno| refused(&reached, errno))?;
        }
        Ok(fd)
    }

    fn reopen(&self, path: &Path) -> io::Result<OwnedFd> {
        resolve(&self.root, path).map_err(|errno| refused(path, errno))
    }

    fn set_root_attributes<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let attributes = Attributes::of(entry, self.mounter)?;
        attributes.set(&self.root, OsStr::new("."), EntryType::Directory)?;
        self.folder_times.push((PathBuf::new(), attributes.times));
        Ok(())
    }

    fn set_folder_times(&self) -> io::Result<()> {
        for (path, times) in &self.folder_times {
            // A later entry may have put something else in the folder's place.
            if let Ok(folder) = resolve(&self.root, path) {
                utimensat(&folder, ".", times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }
}

/// Opens a folder with `root` as the root of every path and link on the way.
fn resolve(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// The path of an entry: relative, and without `..`, which no honest archive has.
fn clean(bytes: &[u8]) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(broken(format!("{:?} leads out of the layer", String::from_utf8_lossy(bytes))));
        }
        path.push(OsStr::from_bytes(part));
    }
    Ok(path)
}

fn target<R: Read>(entry: &Entry<'_, R>) -> io::Result<Vec<u8>> {
    let target = entry.link_name_bytes().map(|name| name.into_owned()).filter(|name| !name.is_empty());
    target.ok_or_else(|| broken("a link without a target".into()))
}

/// Removes what is in the way. Says whether an existing folder is kept: an archive may name one twice.
fn make_room(parent: &OwnedFd, name: &OsStr, for_folder: bool) -> io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
        Ok(found) if for_folder && FileType::from_raw_mode(found.st_mode).is_dir() => Ok(true),
        Ok(_) => remove_entry(parent.as_fd(), name).map(|()| false),
    }
}

/// Hides a name of the layers below, or all of them.
fn whiteout(
    parent: &OwnedFd,
    name: &OsStr,
    mounter: Mounter,
    folder: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<()> {
    if name.as_bytes() == OPAQUE {
        // A descriptor that may carry attributes, other than those opened for paths alone.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(folder()?, ".", flags, Mode::empty())?;
        return Ok(fsetxattr(&open, mounter.opaque(), b"y", XattrFlags::empty())?);
    }
    if name.as_bytes().starts_with(DRIVER_FILES) {
        return Ok(());
    }
    let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
    if [&b""[..], b".", b".."].contains(&hidden.as_bytes()) {
        return Err(broken(format!("{name:?} hides no name")));
    }
    match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        // The layer brings its own: the whiteout was for those below, and a non-folder replaces them anyway.
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Owner, mode, times and extended attributes of an entry.
struct Attributes {
    owner: (Uid, Gid),
    mode: Mode,
    times: Timestamps,
    extended: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    fn of<R: Read>(entry: &mut Entry<'_, R>, mounter: Mounter) -> io::Result<Self> {
        let header = entry.header();
        let id = |value: io::Result<u64>| {
            let id = value.ok().and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
            id.map(|id| mounter.owner(id)).ok_or_else(|| broken("an owner out of range".into()))
        };
        let owner = (Uid::from_raw(id(header.uid())?), Gid::from_raw(id(header.gid())?));
        let mode = Mode::from_raw_mode(header.mode().map_err(damaged)? & 0o7777);
        let seconds = i64::try_from(header.mtime().map_err(damaged)?).unwrap_or(0);
        let mut modified = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut extended = Vec::new();
        if let Some(extensions) = entry.pax_extensions().map_err(damaged)? {
            for extension in extensions {
                let extension = extension.map_err(damaged)?;
                let Ok(key) = extension.key() else { continue };
                if key == "mtime" {
                    modified = extension.value().ok().and_then(parse_time).unwrap_or(modified);
                } else if let Some(name) = key.strip_prefix("SCHILY.xattr.").filter(|name| is_wanted(name)) {
                    extended.push((name.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        Ok(Self {
            owner,
            mode,
            times: Timestamps { last_access: modified, last_modification: modified },
            extended,
        })
    }

    /// Sets them on the entry that was just made, which therefore is known not to be somebody's link.
    fn set(&self, parent: &OwnedFd, name: &OsStr, kind: EntryType) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        chownat(parent, name, Some(self.owner.0), Some(self.owner.1), nofollow)?;
        if kind != EntryType::Symlink {
            // After the owner, whose change would clear set-user-id bits.
            chmodat(parent, name, self.mode, AtFlags::empty())?;
        }
        if !self.extended.is_empty() && matches!(kind, EntryType::Regular | EntryType::Directory) {
            let file =
                openat(parent, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            for (attribute, value) in &self.extended {
                fsetxattr(&file, attribute.as_str(), value, XattrFlags::empty())?;
            }
        }
        Ok(utimensat(parent, name, &self.times, nofollow)?)
    }
}

/// Attributes that images may bring. Those of overlayfs itself would let a layer redirect into others.
fn is_wanted(name: &str) -> bool {
    name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

/// Reads `seconds.fraction`.
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: nanos.parse().ok()? })
}

/// An error of reading the archive: the archive's fault unless the operating system names one.
fn damaged(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() { error } else { broken(format!("it cannot be read: {error}")) }
}

/// A path on which something stands that is no folder, or that loops.
fn refused(path: &Path, errno: Errno) -> io::Error {
    match errno {
        Errno::NOTDIR | Errno::LOOP | Errno::EXIST | Errno::NOENT | Errno::NAMETOOLONG => {
            broken(format!("{} is no folder in the layer", path.display()))
        }
        other => other.into(),
    }
}

#[cfg(test)]
pub(super) mod tests;
