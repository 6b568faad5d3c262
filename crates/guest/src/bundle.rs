//! Many files at once: as a list of contents, or as a tar.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use thresher_guest::{Answer, CHUNK, Failure, FailureKind, take_item};

use crate::failure::{AtPath, Hangup, Stop, failure};
use crate::files::open_regular;
use crate::link::Link;
use crate::listing::sorted_names;

/// Largest list of paths in bytes.
const MOST_PATHS: u64 = 64 << 20;

/// Sends the contents of files, or the targets of links, each with its length before it.
pub(crate) fn read_many(link: &mut Link, root: &str, limit: u64) -> Result<Answer, Stop> {
    let paths = link.whole_body(MOST_PATHS)?;
    let mut rest = &paths[..];
    let mut left = limit;
    let bad = |_| failure(FailureKind::Other, root, "the request holds no paths");
    while let Some(path) = take_item::<Bytes>(&mut rest).map_err(bad)? {
        let path = Path::new(root).join(OsStr::from_bytes(&path));
        left = match fs::symlink_metadata(&path).at(&path)?.is_symlink() {
            true => {
                let target = fs::read_link(&path).at(&path)?;
                let left = charge(left, target.as_os_str().len() as u64, &path)?;
                link.send_items([target.as_os_str().as_bytes()])?;
                left
            }
            false => send_file(link, &path, left)?,
        };
    }
    Ok(Answer::Done)
}

fn charge(left: u64, size: u64, path: &Path) -> Result<u64, Failure> {
    left.checked_sub(size)
        .ok_or_else(|| failure(FailureKind::TooLarge, path, "the files are too large together"))
}

/// Sends a file's length and exactly so many bytes of it. Returns what is left of the limit.
fn send_file(link: &mut Link, path: &Path, left: u64) -> Result<u64, Stop> {
    let (file, metadata) = open_regular(path)?;
    let size = metadata.len();
    let left_after = charge(left, size, path)?;
    link.send_items([size])?;
    let mut to_send = size;
    let mut piece = Vec::new();
    while to_send > 0 {
        piece.clear();
        let read = (&file).take(to_send.min(CHUNK as u64)).read_to_end(&mut piece).at(path)?;
        if read == 0 {
            return Err(failure(FailureKind::Other, path, "it shrank while it was read").into());
        }
        link.send(&piece)?;
        to_send -= read as u64;
    }
    Ok(left_after)
}

/// Sends a folder's content, or one file, as a tar.
pub(crate) fn archive(link: &mut Link, path: &str, limit: u64) -> Result<Answer, Stop> {
    let root = Path::new(path);
    let mut sink = Sink { link, left: limit, stop: None };
    match write_tar(&mut sink, root) {
        Ok(()) => Ok(Answer::Done),
        Err(Stop::Failed(failure)) => Err(sink.stop.take().unwrap_or(Stop::Failed(failure))),
        Err(Stop::Hangup) => Err(Stop::Hangup),
    }
}

fn write_tar(sink: &mut Sink<'_>, root: &Path) -> Result<(), Stop> {
    let mut tar = tar::Builder::new(sink);
    tar.follow_symlinks(false);
    tar.sparse(false);
    let is_folder = fs::metadata(root).at(root)?.is_dir();
    let mut open = match is_folder {
        true => children(root, Path::new(""))?,
        false => vec![PathBuf::from(root.file_name().unwrap_or_default())],
    };
    let base = if is_folder { root } else { root.parent().unwrap_or(root) };
    while let Some(relative) = open.pop() {
        let full = base.join(&relative);
        let metadata = fs::symlink_metadata(&full).at(&full)?;
        // A socket means nothing without the process behind it, and tar has no form for it.
        if metadata.mode() & libc::S_IFMT == libc::S_IFSOCK {
            continue;
        }
        tar.append_path_with_name(&full, &relative).at(&full)?;
        if metadata.is_dir() {
            open.extend(children(base, &relative)?);
        }
    }
    tar.finish().at(root)?;
    Ok(())
}

/// The entries of a folder, the first one last.
fn children(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let names = sorted_names(&root.join(folder), false)?;
    Ok(names.into_iter().rev().map(|name| folder.join(name)).collect())
}

/// Where a tar is written to: the answer's body.
struct Sink<'a> {
    link: &'a mut Link,
    left: u64,
    /// Why writing stopped, where that is not the file system's doing.
    stop: Option<Stop>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.left = left;
                self.link.send(bytes).map_err(Stop::from)
            }
            None => Err(failure(FailureKind::TooLarge, "", "the archive is too large").into()),
        };
        match sent {
            Ok(()) => Ok(bytes.len()),
            Err(stop) => {
                self.stop = Some(stop);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts the tar in the request's body into a folder.
pub(crate) fn unarchive(link: &mut Link, path: &str) -> Result<Answer, Stop> {
    let root = Path::new(path);
    fs::create_dir_all(root).at(root)?;
    let mut source = Source { link, piece: Bytes::new(), hangup: false };
    let unpacked = unpack(&mut source, root);
    if source.hangup {
        return Err(Stop::Hangup);
    }
    unpacked.map(|()| Answer::Done).map_err(Stop::from)
}

fn unpack(source: &mut Source<'_>, root: &Path) -> Result<(), Failure> {
    let mut tar = tar::Archive::new(source);
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(true);
    tar.set_overwrite(true);
    for entry in tar.entries().at(root)? {
        let mut entry = entry.at(root)?;
        let path = root.join(entry.path().at(root)?);
        if !entry.unpack_in(root).at(&path)? {
            return Err(failure(FailureKind::Denied, &path, "an entry of the archive leaves the folder"));
        }
        own(&path, entry.header()).at(&path)?;
    }
    Ok(())
}

/// Gives an unpacked entry its owner, where that is allowed.
fn own(path: &Path, header: &tar::Header) -> io::Result<()> {
    let number = |number: io::Result<u64>| number.ok().and_then(|number| u32::try_from(number).ok());
    let refused = lchown(path, number(header.uid()), number(header.gid())).is_err();
    let mode = header.mode()?;
    // Changing the owner takes the set-user-id bits away.
    if !refused && mode & 0o6000 != 0 && header.entry_type().is_file() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    Ok(())
}

/// Where a tar is read from: the request's body.
struct Source<'a> {
    link: &'a mut Link,
    piece: Bytes,
    hangup: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.link.next_body() {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Ok(0),
                Err(Hangup) => {
                    self.hangup = true;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
