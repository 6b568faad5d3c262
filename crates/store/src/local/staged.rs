//! Private files on their way to become objects.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{LocalDir, Staging};
use crate::{Etag, Multipart, ObjectPath, PutMode, PutOutcome, StoreError, etag_from};

/// A private file with content. Dropping it removes the file, unless it was moved away: on a full disk, what a failed
/// put left would keep the space that the next try needs.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    file: File,
    hash: Sha256,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Best effort: the next writer removes what stays.
        drop(fs::remove_file(&self.path));
    }
}

impl Staged {
    pub(super) fn create(staging: &Staging) -> io::Result<Self> {
        let (path, file) = staging.create()?;
        Ok(Self { path, file, hash: Sha256::new() })
    }

    /// Appends `bytes`. After an error the content is unknown and the file of no use.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Makes the content durable and says its version.
    pub(super) fn finish(&self) -> io::Result<Etag> {
        self.file.sync_all()?;
        Ok(etag_from(self.hash.clone()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// An object in parts: they are appended to one private file.
pub(super) struct Upload {
    store: LocalDir,
    path: ObjectPath,
    /// `None` once the upload is over.
    staged: Option<Staged>,
}

impl Upload {
    pub(super) fn new(store: LocalDir, path: ObjectPath, staged: Staged) -> Self {
        Self { store, path, staged: Some(staged) }
    }

    fn take(&mut self) -> Result<Staged, StoreError> {
        self.staged.take().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })
    }
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut staged = self.take()?;
        let written = self.store.blocking(self.path.as_str(), move |_| {
            staged.write(&bytes)?;
            Ok(staged)
        });
        self.staged = Some(written.await?);
        Ok(())
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let staged = self.take()?;
        let target = self.store.inner.file(&self.path);
        let placed = self.store.blocking(self.path.as_str(), move |store| {
            let placed = store.place(&staged, &target, &mode);
            Ok((staged, placed))
        });
        let (staged, placed) = placed.await?;
        if placed.is_err() {
            self.staged = Some(staged);
        }
        placed.map_err(|error| StoreError::from_io(self.path.as_str(), error))
    }

    async fn abort(self: Box<Self>) {}
}
