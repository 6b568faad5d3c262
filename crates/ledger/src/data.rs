//! The dataset's files beside the run, for workers on machines that do not have them (protocol: D1 to D3).

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use thresher_core::Sha256Hex;
use thresher_store::{PutMode, put_large};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Ledger, LedgerError, codec};

/// Files are kept in pieces of this many bytes, so that no machine needs memory for a whole one.
const PIECE: u64 = 32 << 20;

/// Pieces under way at a time.
const AT_A_TIME: usize = 2;

/// What a dataset consists of. Once it is there, so is every piece.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    files: Vec<IndexFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct IndexFile {
    /// Path below the dataset's folder.
    name: String,
    bytes: u64,
    /// SHA-256 of each piece, in order.
    pieces: Vec<Sha256Hex>,
}

impl Ledger {
    /// Stores a dataset's files, given as paths below its folder and where they are on this machine. What is there
    /// already is not sent again.
    ///
    /// # Errors
    /// [`LedgerError::Data`] for a file that cannot be read.
    pub async fn store_data(
        &self,
        fingerprint: &Sha256Hex,
        files: &[(String, PathBuf)],
    ) -> Result<(), LedgerError> {
        let at = self.layout.data_index(fingerprint)?;
        if self.read(&at).await?.is_some() {
            return Ok(());
        }
        let mut index = Index { files: Vec::new() };
        for (name, path) in files {
            index.files.push(self.store_file(fingerprint, name, path).await?);
        }
        self.create(&at, codec::plain(&index)).await?;
        Ok(())
    }

    async fn store_file(
        &self,
        fingerprint: &Sha256Hex,
        name: &str,
        path: &Path,
    ) -> Result<IndexFile, LedgerError> {
        let unreadable = |source| LedgerError::Data { path: path.to_owned(), source };
        let bytes = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        let pieces = stream::iter((0..bytes).step_by(PIECE as usize)).map(async |from| {
            let piece = read_piece(path, from).await.map_err(unreadable)?;
            self.store_piece(fingerprint, piece).await
        });
        Ok(IndexFile {
            name: name.to_owned(),
            bytes,
            pieces: pieces.buffered(AT_A_TIME).try_collect().await?,
        })
    }

    async fn store_piece(&self, fingerprint: &Sha256Hex, piece: Bytes) -> Result<Sha256Hex, LedgerError> {
        let sha256 = Sha256Hex::of(&piece);
        let at = self.layout.data_piece(fingerprint, &sha256)?;
        match self.store.head(&at).await {
            Ok(_) => return Ok(sha256),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        // A conflict is with the very same bytes.
        put_large(&*self.store, &at, piece, PutMode::Create).await?;
        Ok(sha256)
    }

    /// Brings a dataset's files into the folder `into`, whole or not at all; what another process has brought there
    /// already stays. `false` if the run does not hold that dataset.
    ///
    /// # Errors
    /// [`LedgerError::Data`] where a file cannot be written, [`LedgerError::Damaged`] for other bytes than were stored.
    pub async fn fetch_data(&self, fingerprint: &Sha256Hex, into: &Path) -> Result<bool, LedgerError> {
        if into.is_dir() {
            return Ok(true);
        }
        let at = self.layout.data_index(fingerprint)?;
        let Some(bytes) = self.read(&at).await? else { return Ok(false) };
        let index: Index = codec::parse(at.as_str(), &bytes)?;
        let partial = into.with_extension(format!("partial-{}", self.nonce()));
        let fetched = self.fetch_files(fingerprint, &index, &partial).await;
        match fetched.and_then(|()| publish(&partial, into)) {
            Ok(()) => Ok(true),
            Err(error) => {
                if let Err(error) = std::fs::remove_dir_all(&partial) {
                    tracing::debug!(%error, "what was fetched of a dataset stays");
                }
                Err(error)
            }
        }
    }

    async fn fetch_files(
        &self,
        fingerprint: &Sha256Hex,
        index: &Index,
        folder: &Path,
    ) -> Result<(), LedgerError> {
        for file in &index.files {
            let path = folder.join(below(&file.name)?);
            let unwritable = |source| LedgerError::Data { path: path.clone(), source };
            tokio::fs::create_dir_all(path.parent().unwrap_or(folder)).await.map_err(unwritable)?;
            let mut written = tokio::fs::File::create(&path).await.map_err(unwritable)?;
            let pieces = stream::iter(&file.pieces).map(|piece| self.fetch_piece(fingerprint, piece));
            let mut pieces = std::pin::pin!(pieces.buffered(AT_A_TIME));
            while let Some(piece) = pieces.next().await {
                written.write_all(&piece?).await.map_err(unwritable)?;
            }
            written.flush().await.map_err(unwritable)?;
        }
        Ok(())
    }

    async fn fetch_piece(&self, fingerprint: &Sha256Hex, sha256: &Sha256Hex) -> Result<Bytes, LedgerError> {
        let at = self.layout.data_piece(fingerprint, sha256)?;
        let bytes = self.store.get(&at).await?.bytes;
        if Sha256Hex::of(&bytes) == *sha256 {
            return Ok(bytes);
        }
        let reason = "its content is not the one that its name tells".to_owned();
        Err(LedgerError::Damaged { path: at.to_string(), reason })
    }
}

async fn read_piece(path: &Path, from: u64) -> std::io::Result<Bytes> {
    use tokio::io::AsyncSeekExt as _;
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(from)).await?;
    let mut piece = Vec::new();
    file.take(PIECE).read_to_end(&mut piece).await?;
    Ok(piece.into())
}

/// A name as a path that stays below the folder it is joined to.
fn below(name: &str) -> Result<PathBuf, LedgerError> {
    let path = PathBuf::from(name);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    if stays && !name.is_empty() { Ok(path) } else { Err(LedgerError::BadName(name.to_owned())) }
}

/// Gives the folder its name. Another process may have been first, with the same files.
fn publish(partial: &Path, into: &Path) -> Result<(), LedgerError> {
    match std::fs::rename(partial, into) {
        Err(_) if into.is_dir() => std::fs::remove_dir_all(partial)
            .map_err(|source| LedgerError::Data { path: partial.to_owned(), source }),
        done => done.map_err(|source| LedgerError::Data { path: into.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_folder() {
        assert_eq!(below("a/b.parquet").unwrap(), PathBuf::from("a/b.parquet"));
        for bad in ["", "/etc/x", "../x", "a/../../x"] {
            assert!(below(bad).is_err(), "{bad}");
        }
    }
}
