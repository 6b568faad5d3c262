//! Syncing of directories, one sync for many waiting writers.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::lock;

/// Makes new directory entries durable.
///
/// A sync covers every entry that was made before it began. So writers that wait while one is under way need only
/// one more between them, whatever their number: group commit, without a timer.
#[derive(Debug, Default)]
pub(super) struct DirSync {
    folders: Mutex<HashMap<PathBuf, Arc<Folder>>>,
}

#[derive(Debug, Default)]
struct Folder {
    /// Syncs asked for so far.
    asked: Mutex<u64>,
    /// The newest request that a finished sync covers; held while a sync runs.
    covered: Mutex<u64>,
}

impl DirSync {
    /// Returns when the entries that `dir` has now are durable.
    pub(super) fn sync(&self, dir: &Path) -> io::Result<()> {
        let folder = Arc::clone(lock(&self.folders).entry(dir.to_owned()).or_default());
        let ticket = folder.ask();
        let mut covered = lock(&folder.covered);
        if *covered >= ticket {
            return Ok(());
        }
        let covers = *lock(&folder.asked);
        // A relative root is its own empty-named parent's entry.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()?;
        *covered = covers;
        Ok(())
    }
}

impl Folder {
    fn ask(&self) -> u64 {
        let mut asked = lock(&self.asked);
        *asked += 1;
        *asked
    }
}
