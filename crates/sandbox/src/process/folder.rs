//! The folder of one sandbox: its working directory and its temporary files.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A folder that the launcher removes with its sandbox.
pub(super) struct Folder {
    path: PathBuf,
    workdir: String,
}

impl Folder {
    /// Makes it, with the stand-in for the working directory `asked`.
    pub(super) fn make(path: PathBuf, asked: &str) -> io::Result<Self> {
        let workdir = path.join("root").join(below(asked));
        fs::create_dir_all(&workdir)?;
        fs::create_dir(path.join("tmp"))?;
        let workdir = workdir.into_os_string().into_string();
        let workdir = workdir.map_err(|_| io::Error::other("the data folder's path is not UTF-8"))?;
        Ok(Self { path, workdir })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the working directory is.
    pub(super) fn workdir(&self) -> &str {
        &self.workdir
    }

    /// For `TMPDIR`.
    pub(super) fn temporary(&self) -> String {
        self.path.join("tmp").to_string_lossy().into_owned()
    }

    /// Removes it again, where no launcher could be started that does so.
    pub(super) fn remove(self) {
        // What cannot be removed now is removed by a later reap.
        fs::remove_dir_all(self.path).ok();
    }
}

/// A path without its root and without steps up.
fn below(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_stays_in_the_folder() {
        for (asked, expected) in [("/testbed", "testbed"), ("/a/../../b", "a/b"), ("/", ""), ("", "")] {
            assert_eq!(below(asked), PathBuf::from(expected));
        }
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::make(data.path().join("x.1"), "/a/b").unwrap();
        assert!(Path::new(folder.workdir()).is_dir() && folder.workdir().ends_with("x.1/root/a/b"));
        folder.remove();
        assert!(!data.path().join("x.1").exists());
    }
}
