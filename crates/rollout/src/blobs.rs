//! Contents of baseline trees, kept on the node by git blob id: the old side of every patch.
//!
//! A patch is made and applied on the host, so it needs neither git nor trust in the sandbox. The price is that the
//! host must hold the baseline's contents; they are fetched once per image and shared by all its rollouts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::id::hex;
use thresher_core::patch::{BlobId, TreeId, blob_id};

/// A content-addressed folder.
#[derive(Clone, Debug)]
pub(crate) struct BlobCache {
    folder: PathBuf,
    /// Trees whose blobs this process has seen to be there, so that later rollouts need not look at each file.
    complete: Arc<Mutex<HashSet<TreeId>>>,
}

impl BlobCache {
    /// Uses `folder`, which is created when the first blob is stored.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, complete: Arc::default() }
    }

    /// Whether all blobs of `tree` were seen to be there.
    pub(crate) fn is_complete(&self, tree: TreeId) -> bool {
        self.complete.lock().expect("no holder of this lock panics").contains(&tree)
    }

    /// Notes that all blobs of `tree` are there.
    pub(crate) fn set_complete(&self, tree: TreeId) {
        self.complete.lock().expect("no holder of this lock panics").insert(tree);
    }

    /// Whether the blob is there.
    pub(crate) fn contains(&self, id: &BlobId) -> bool {
        self.path(id).is_file()
    }

    /// Stores `content` under its own id; storing it twice is harmless, and a kill leaves no half blob.
    pub(crate) fn put(&self, content: &[u8]) -> Result<BlobId, Fault> {
        let id = blob_id(content);
        let path = self.path(&id);
        if !path.is_file() {
            write_atomically(&path, content).map_err(|error| disk_fault(&path, &error))?;
        }
        Ok(id)
    }

    /// Reads a blob and checks its hash: a cache damaged by a power cut must not flip a verdict.
    pub(crate) fn get(&self, id: &BlobId) -> Result<Bytes, Fault> {
        let path = self.path(id);
        let content = std::fs::read(&path).map_err(|error| disk_fault(&path, &error))?;
        if blob_id(&content) != *id {
            let removed = std::fs::remove_file(&path).is_ok();
            self.complete.lock().expect("no holder of this lock panics").clear();
            let message = format!("baseline blob {} is damaged (removed: {removed})", path.display());
            return Err(Fault::new(Blame::Disk, Retry::Now, Phase::Patch, message));
        }
        Ok(content.into())
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        let name = hex(&id.0);
        self.folder.join(&name[..2]).join(&name[2..])
    }
}

/// Writes through a temporary name in the same folder.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a cache path has a parent");
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, content)?;
    file.persist(path)?;
    Ok(())
}

/// The fault that a failing node disk is.
pub(crate) fn disk_fault(path: &Path, error: &std::io::Error) -> Fault {
    let retry = match error.kind() {
        std::io::ErrorKind::StorageFull => Retry::Elsewhere,
        _ => Retry::Now,
    };
    Fault::new(Blame::Disk, retry, Phase::Patch, format!("node cache {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_blob_is_a_fault_and_is_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache::new(folder.path().join("blobs"));
        let id = cache.put(b"content").unwrap();
        assert_eq!(cache.get(&id).unwrap(), "content");
        std::fs::write(cache.path(&id), b"conte").unwrap();
        let fault = cache.get(&id).unwrap_err();
        assert_eq!((fault.blame, fault.retry), (Blame::Disk, Retry::Now));
        assert!(!cache.contains(&id));
        cache.put(b"content").unwrap();
        assert_eq!(cache.get(&id).unwrap(), "content");
    }
}
