//! Which runner processes are alive: each holds a lock on a file of its own, which the kernel drops at its death,
//! however it dies and in whatever PID namespace it lived.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const FOLDER: &str = "live";

/// The claim of this process to what carries its incarnation's name.
pub(crate) struct Live {
    lock: File,
    path: PathBuf,
    name: String,
}

impl Live {
    /// Claims `incarnation` below the folder `data`. Several parts of one process may claim the same.
    pub(crate) fn claim(data: &Path, incarnation: &str) -> io::Result<Self> {
        let name = sanitized(incarnation);
        let folder = data.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let path = folder.join(&name);
        loop {
            let lock = File::options().create(true).append(true).open(&path)?;
            flock(&lock, FlockOperation::LockShared)?;
            // A reaper may have removed the file between the two calls.
            if is_same_file(&lock, &path) {
                return Ok(Self { lock, path, name });
            }
        }
    }

    /// The name that everything of this process carries.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process called `name` lives. Holding on to the answer `Dead` keeps others from claiming it.
    pub(crate) fn fate(data: &Path, name: &str) -> Fate {
        let path = data.join(FOLDER).join(name);
        let Ok(lock) = File::open(&path) else { return Fate::Dead(None) };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Fate::Dead(Some(lock)),
            Err(_) => Fate::Alive,
        }
    }

    /// Names of all processes that left a claim, living or dead.
    pub(crate) fn all(data: &Path) -> Vec<String> {
        let entries = fs::read_dir(data.join(FOLDER)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Forgets a dead process, after everything of it was removed.
    pub(crate) fn forget(data: &Path, name: &str) -> bool {
        fs::remove_file(data.join(FOLDER).join(name)).is_ok()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The last holder in this process removes the file; a lock that cannot be had alone is still in use.
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// What became of a process.
pub(crate) enum Fate {
    /// It lives, or cannot be seen to be dead.
    Alive,
    /// It is dead; the lock, where there is one, is now the asker's.
    Dead(Option<File>),
}

/// Letters that are safe in file and cgroup names; never empty.
fn sanitized(incarnation: &str) -> String {
    let name: String = incarnation.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(64).collect();
    if name.is_empty() { format!("p{}", std::process::id()) } else { name }
}

fn is_same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok((held, there)) = open.metadata().and_then(|held| Ok((held, fs::metadata(path)?))) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_lives_as_long_as_its_last_holder() {
        let data = tempfile::tempdir().unwrap();
        let first = Live::claim(data.path(), "abc").unwrap();
        let second = Live::claim(data.path(), "abc").unwrap();
        assert!(matches!(Live::fate(data.path(), "abc"), Fate::Alive));
        drop(first);
        assert!(matches!(Live::fate(data.path(), "abc"), Fate::Alive));
        drop(second);
        assert!(matches!(Live::fate(data.path(), "abc"), Fate::Dead(None)));
        assert_eq!(Live::all(data.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_a_lock_is_a_dead_process() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join(FOLDER)).unwrap();
        fs::write(data.path().join(FOLDER).join("gone"), "").unwrap();
        assert!(matches!(Live::fate(data.path(), "gone"), Fate::Dead(Some(_))));
        assert!(Live::forget(data.path(), "gone"));
    }

    #[test]
    fn names_are_safe_in_paths() {
        for (given, expected) in [("a-b/../c", "abc"), ("0f3a", "0f3a")] {
            assert_eq!(sanitized(given), expected);
        }
        assert!(!sanitized("../").is_empty());
    }
}
