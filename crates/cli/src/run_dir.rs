//! A run directory: where it is, and the ledger in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thresher_core::{RunId, exit_code};
use thresher_ledger::Ledger;
use thresher_store::LocalDir;

use crate::exit::{Failure, WithCode as _};

/// Where a run goes that was not told where: `runs/<name>`.
pub(crate) fn default_for(name: Option<&str>) -> PathBuf {
    Path::new("runs").join(name.unwrap_or("run"))
}

/// Opens the ledger of a run that is to be written. Its id is the directory's name.
pub(crate) fn open(dir: &Path) -> Result<Ledger, Failure> {
    let absolute = std::path::absolute(dir)?;
    let name =
        absolute.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
    let store = LocalDir::new(absolute);
    Ok(Ledger::open(Arc::new(store), "", RunId::new(name))?)
}

/// Opens the ledger of a run that is to be read.
pub(crate) async fn find(dir: &Path) -> Result<Ledger, Failure> {
    if !dir.is_dir() {
        return Err(Failure::usage(format!("no run directory {}", dir.display()))
            .hint("`thresher run` prints the directory at its end; the default is runs/<job name>"));
    }
    let store = LocalDir::new(dir);
    Ledger::find(Arc::new(store), "").await.code(exit_code::USAGE)
}

/// The folder of a run directory for what is needed only while the run goes on. Its owner holds the run's lock, so
/// whatever is in it at the start was left by a killed process, and goes.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, empty.
    pub(crate) fn make(dir: &Path) -> std::io::Result<Self> {
        let scratch = Self(std::path::absolute(dir)?.join(".scratch"));
        scratch.remove()?;
        std::fs::create_dir(&scratch.0)?;
        Ok(scratch)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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
