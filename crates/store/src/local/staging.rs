//! Private files of writers, and the removal of those that dead writers left.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::TryRng as _;
use rustix::fs::{FlockOperation, flock};

use super::lock;

/// One writer's private folder below `.staging`, made at its first put.
///
/// While the writer lives it holds a lock on a file beside its folder. A folder whose lock can be had belongs to
/// nobody and is removed; the kernel gives the lock back however the writer ended.
#[derive(Debug)]
pub(super) struct Staging {
    base: PathBuf,
    own: Mutex<Option<Own>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Own {
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Best effort: the next writer removes what stays.
        drop(fs::remove_dir_all(&self.dir));
        drop(fs::remove_file(&self.lock_path));
    }
}

impl Staging {
    pub(super) fn new(root: &Path) -> Self {
        Self { base: root.join(".staging"), own: Mutex::new(None), next: AtomicU64::new(0) }
    }

    /// Makes a new private file.
    pub(super) fn create(&self) -> io::Result<(PathBuf, File)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.own_dir()?.join(number.to_string());
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok((path, file))
    }

    fn own_dir(&self) -> io::Result<PathBuf> {
        let mut own = lock(&self.own);
        if let Some(own) = own.as_ref() {
            return Ok(own.dir.clone());
        }
        fs::create_dir_all(&self.base)?;
        reap(&self.base)?;
        let made = claim(&self.base)?;
        let dir = made.dir.clone();
        *own = Some(made);
        Ok(dir)
    }
}

/// Makes a folder with a held lock.
fn claim(base: &Path) -> io::Result<Own> {
    loop {
        let name = rand::rngs::SysRng.try_next_u64().map_err(io::Error::other)?;
        let lock_path = base.join(format!("{name:016x}.lock"));
        let lock = File::options().write(true).create_new(true).open(&lock_path)?;
        // Another writer may have taken the new file for a dead one's in this very instant, and removed it.
        if try_lock(&lock)? && is_at(&lock, &lock_path) {
            let dir = lock_path.with_extension("");
            fs::create_dir(&dir)?;
            return Ok(Own { dir, lock_path, _lock: lock });
        }
    }
}

/// Removes the folders of dead writers.
fn reap(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let lock_path = entry?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // Whoever else removes it at the same time makes the same end.
        let Ok(lock) = File::open(&lock_path) else { continue };
        if try_lock(&lock)? {
            drop(fs::remove_dir_all(lock_path.with_extension("")));
            drop(fs::remove_file(&lock_path));
        }
    }
    Ok(())
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `path` still names the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let held = file.metadata().map(identity);
    let named = fs::metadata(path).map(identity);
    held.is_ok_and(|held| named.is_ok_and(|named| held == named))
}
