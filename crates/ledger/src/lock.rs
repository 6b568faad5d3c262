//! The lock that keeps two processes off one run directory.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The right to work on a local run directory, alone or with others who asked for no more. Given back when dropped, and by
/// the kernel when the process ends in whatever way.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// Why a run directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works on it.
    #[error("`{}` is in use by {}", dir.display(), holder(*pid))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The directory or its lock file cannot be made or opened.
    #[error("`{}` cannot be locked: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RunLock {
    /// Locks `dir` for this process alone, making it if it is not there.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { dir: dir.to_owned(), source };
        let mut lock = Self::lock(dir, FlockOperation::NonBlockingLockExclusive)?;
        lock.file.set_len(0).and_then(|()| write!(lock.file, "{}", std::process::id())).map_err(io)?;
        Ok(lock)
    }

    /// Locks `dir` against whoever wants it alone; any number of processes may hold it so.
    pub fn share(dir: &Path) -> Result<Self, LockError> {
        let lock = Self::lock(dir, FlockOperation::NonBlockingLockShared)?;
        // Many share it, and none of them is the one that had it alone before.
        lock.file.set_len(0).map_err(|source| LockError::Io { dir: dir.to_owned(), source })?;
        Ok(lock)
    }

    fn lock(dir: &Path, how: FlockOperation) -> Result<Self, LockError> {
        let io = |source| LockError::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let mut file = open(dir).map_err(io)?;
        match flock(&file, how) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { dir: dir.to_owned(), pid: read_pid(&mut file) });
            }
            Err(error) => return Err(io(error.into())),
        }
        Ok(Self { file })
    }
}

/// The file stays when the lock is given back: removing it could take it from under the next holder.
fn open(dir: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).open(dir.join(".lock-run"))
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("runs/a");
        let first = RunLock::acquire(&run).unwrap();
        let refused = RunLock::acquire(&run).unwrap_err();
        assert!(
            matches!(&refused, LockError::Held { pid, .. } if *pid == Some(std::process::id())),
            "{refused}"
        );
        assert!(matches!(RunLock::share(&run), Err(LockError::Held { .. })));
        drop(first);
        RunLock::acquire(&run).unwrap();
    }

    #[test]
    fn those_who_share_keep_out_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(RunLock::acquire(dir.path()).unwrap());
        let (first, second) = (RunLock::share(dir.path()).unwrap(), RunLock::share(dir.path()).unwrap());
        drop(first);
        assert!(matches!(RunLock::acquire(dir.path()), Err(LockError::Held { pid: None, .. })));
        drop(second);
        RunLock::acquire(dir.path()).unwrap();
    }
}
