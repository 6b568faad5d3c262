//! Folders on this machine: of runs, of what outlives them, of what is in the making.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where a run goes that was not told where: `runs/<name>`.
pub(crate) fn default_for(name: Option<&str>) -> PathBuf {
    Path::new("runs").join(name.unwrap_or("run"))
}

/// A folder for what is needed only while a process works. What a killed process left goes when the next one begins.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Held while the folder is in use, where several processes have theirs beside each other.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes the one of a run directory, empty; its owner holds the run's lock.
    pub(crate) fn make(dir: &Path) -> io::Result<Self> {
        let scratch = Self { path: std::path::absolute(dir)?.join(".scratch"), _lock: None };
        scratch.remove()?;
        fs::create_dir(&scratch.path)?;
        Ok(scratch)
    }

    /// Makes one beside those of other processes, and removes theirs that have ended.
    pub(crate) fn beside_others(cache: &Path) -> io::Result<Self> {
        let all = std::path::absolute(cache)?.join("scratch");
        fs::create_dir_all(&all)?;
        // One process at a time: what is in the making is not locked yet, and looks like a dead one's.
        let turn = File::create(all.with_extension("lock"))?;
        turn.lock()?;
        for entry in fs::read_dir(&all)? {
            let path = entry?.path();
            if let Ok(lock) = File::options().write(true).open(path.join(LOCK))
                && lock.try_lock().is_ok()
            {
                remove(&path)?;
            }
        }
        let path = all.join(format!("{:016x}", rand::random::<u64>()));
        let making = all.join(format!(".{}", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::create_dir(&making)?;
        let lock = File::create(making.join(LOCK))?;
        lock.try_lock().map_err(io::Error::from)?;
        // Under its own name it is locked from the beginning, so that nobody takes it for a dead one's.
        fs::rename(&making, &path)?;
        Ok(Self { path, _lock: Some(lock) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

const LOCK: &str = ".lock";

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays goes at the next start.
        drop(self.remove());
    }
}

/// The folder for what outlives runs: as given, else the user's cache folder.
pub(crate) fn cache(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("thresher")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_folders_of_the_dead_go_and_those_of_the_living_stay() {
        let cache = tempfile::tempdir().unwrap();
        let living = Scratch::beside_others(cache.path()).unwrap();
        let dead = cache.path().join("scratch/0000");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let other = Scratch::beside_others(cache.path()).unwrap();
        assert!(living.path().exists() && other.path().exists() && !dead.exists());
        let gone = other.path().to_owned();
        drop(other);
        assert!(!gone.exists() && living.path().exists());
    }
}
