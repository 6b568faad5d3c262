//! Locks on names, between the threads and the processes of one node.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use sha2::{Digest as _, Sha256};

/// Pause between two looks at a lock that another process has.
const PAUSE: Duration = Duration::from_millis(10);

/// A folder of lock files, which also say by their time of change when each thing was last used.
pub(crate) struct Leases {
    folder: PathBuf,
    /// What this process holds, so that many users of one thing need one descriptor.
    held: Mutex<HashMap<String, Weak<Shared>>>,
}

/// A promise that what it belongs to stays on the node while any copy of it lives.
#[derive(Clone, Default)]
pub struct Lease(Vec<Arc<Shared>>);

/// A lock that others may share.
struct Shared {
    file: File,
}

/// A lock that nobody shares: what it belongs to may be removed.
pub(crate) struct Seized {
    path: PathBuf,
    _file: File,
}

impl Lease {
    /// Of both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.0.len())
    }
}

/// What is leased is named beside it.
impl PartialEq for Lease {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lease {}

impl Drop for Shared {
    fn drop(&mut self) {
        touch(&self.file);
    }
}

impl Seized {
    /// Forgets the name: what had it is gone.
    pub(crate) fn forget(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a lock file stays");
        }
    }
}

impl Leases {
    /// Opens or makes the folder.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, held: Mutex::default() })
    }

    /// Leases `name`, and says whether this process had it already. Waits where it is just being removed.
    pub(crate) async fn lease(&self, name: &str) -> io::Result<(Lease, Had)> {
        loop {
            if let Some(leased) = self.try_lease(name)? {
                return Ok(leased);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// As [`Leases::lease`], for threads that may wait.
    pub(crate) fn lease_blocking(&self, name: &str) -> io::Result<(Lease, Had)> {
        loop {
            if let Some(leased) = self.try_lease(name)? {
                return Ok(leased);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn try_lease(&self, name: &str) -> io::Result<Option<(Lease, Had)>> {
        let mut held = self.held();
        if let Some(shared) = held.get(name).and_then(Weak::upgrade) {
            touch(&shared.file);
            return Ok(Some((Lease(vec![shared]), Had::Yes)));
        }
        let Some(file) = lock(&self.path(name), File::try_lock_shared)? else { return Ok(None) };
        touch(&file);
        let shared = Arc::new(Shared { file });
        held.retain(|_, shared| shared.strong_count() > 0);
        held.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(Some((Lease(vec![shared]), Had::No)))
    }

    /// Takes `name` for its removal; `None` where anybody has a lease of it.
    pub(crate) fn seize(&self, name: &str) -> io::Result<Option<Seized>> {
        let path = self.path(name);
        Ok(lock(&path, File::try_lock)?.map(|file| Seized { path, _file: file }))
    }

    /// Whether anybody has a lease of `name`.
    pub(crate) fn is_leased(&self, name: &str) -> io::Result<bool> {
        let path = self.path(name);
        Ok(path.exists() && self.seize(name)?.is_none())
    }

    /// When `name` was last used, in nanoseconds since 1970; 0 if it is not known.
    pub(crate) fn last_use(&self, name: &str) -> u64 {
        modified(&self.path(name))
    }

    /// As [`Leases::alone`], for threads that may wait.
    pub(crate) fn alone_blocking(&self, name: &str) -> io::Result<Seized> {
        loop {
            if let Some(alone) = self.seize(name)? {
                return Ok(alone);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Has `name` alone: nobody else who asks for that goes on before the answer is dropped.
    pub(crate) async fn alone(&self, name: &str) -> io::Result<Seized> {
        loop {
            if let Some(alone) = self.seize(name)? {
                return Ok(alone);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Says when `name` was last used, in seconds since 1970.
    #[cfg(test)]
    pub(crate) fn set_last_use(&self, name: &str, seconds: u64) {
        let file = File::options().create(true).truncate(false).write(true).open(self.path(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Weak<Shared>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names may hold anything, and be long.
    fn path(&self, name: &str) -> PathBuf {
        let hash: String =
            Sha256::digest(name.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{hash}.lock"))
    }
}

/// Whether this process had a lease already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    /// Then it is certain that the thing is there.
    Yes,
    /// Then it may have been removed meanwhile.
    No,
}

/// Opens the file and locks it; `None` where the lock cannot be had now. A file that was removed between the two is
/// nobody's lock.
fn lock(path: &Path, by: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<File>> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match by(&file) {
            Ok(()) if is_same_file(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// When a file was last changed, in nanoseconds since 1970; 0 if it is not known.
pub(crate) fn modified(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn is_same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok((held, there)) = open.metadata().and_then(|held| Ok((held, fs::metadata(path)?))) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// Notes that it is used now.
fn touch(file: &File) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    if let Err(error) = futimens(file, &Timestamps { last_access: now, last_modification: now }) {
        tracing::debug!(%error, "the time of a use is not noted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of them are as two processes: each has descriptors of its own.
    fn two() -> (tempfile::TempDir, Leases, Leases) {
        let folder = tempfile::tempdir().unwrap();
        let open = || Leases::open(folder.path().to_owned()).unwrap();
        let (one, other) = (open(), open());
        (folder, one, other)
    }

    #[tokio::test]
    async fn what_anybody_leases_is_not_seized() {
        let (_folder, one, other) = two();
        let (lease, had) = one.lease("image").await.unwrap();
        assert_eq!(had, Had::No);
        assert!(one.seize("image").unwrap().is_none(), "also not by the holder");
        assert!(other.seize("image").unwrap().is_none());
        assert!(other.is_leased("image").unwrap() && !other.is_leased("another").unwrap());
        let (again, had) = one.lease("image").await.unwrap();
        assert_eq!(had, Had::Yes);
        drop(lease);
        assert!(other.seize("image").unwrap().is_none(), "a copy lives");
        drop(again);
        assert!(other.seize("image").unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lease_waits_for_a_removal_and_is_of_what_comes_after() {
        let (folder, one, other) = two();
        let seized = other.seize("image").unwrap().unwrap();
        let waiting = one.lease("image");
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        seized.forget();
        let (_lease, had) = waiting.await.unwrap();
        assert_eq!(had, Had::No);
        assert!(other.seize("image").unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_use_is_noted_at_its_begin_and_at_its_end() {
        let (_folder, one, other) = two();
        assert_eq!(other.last_use("image"), 0);
        let (lease, _) = one.lease("image").await.unwrap();
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        File::open(one.path("image")).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(other.last_use("image"), 1_000_000_000);
        drop(lease);
        assert!(other.last_use("image") > 1_000_000_000);
    }

    #[tokio::test]
    async fn one_at_a_time_makes_a_thing() {
        let (_folder, one, other) = two();
        let making = one.alone("pull image").await.unwrap();
        let waiting = other.alone("pull image");
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(making);
        waiting.await.unwrap();
    }
}
