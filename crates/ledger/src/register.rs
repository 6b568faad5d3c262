//! Compare-and-swap registers: objects that are replaced only by a writer who saw what it replaces.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thresher_store::{Etag, Object, ObjectPath, PutMode, PutOutcome, StoreError};

use crate::{Ledger, LedgerError, PROTOCOL, codec};

/// What a register's object holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stamped<T> {
    protocol: u32,
    /// How often the register was written.
    version: u64,
    /// Random, so that a writer whose acknowledgement was lost recognizes its write: equal content proves nothing.
    nonce: String,
    content: T,
}

/// A register as it was read or written: what a next write is conditioned on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen<T> {
    pub(crate) content: T,
    version: u64,
    nonce: String,
    etag: Etag,
}

/// What a conditional write did.
#[derive(Debug)]
pub(crate) enum Swap<T> {
    /// It took effect.
    Won(Seen<T>),
    /// Another writer was first; what it wrote.
    Lost(Seen<T>),
}

impl Ledger {
    /// Reads a register; `None` if it was never written.
    pub(crate) async fn read_register<T: DeserializeOwned>(
        &self,
        path: &ObjectPath,
    ) -> Result<Option<Seen<T>>, LedgerError> {
        let Object { bytes, etag } = match self.store.get(path).await {
            Ok(object) => object,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Stamped { version, nonce, content, .. } = codec::parse(path.as_str(), &bytes)?;
        Ok(Some(Seen { content, version, nonce, etag }))
    }

    /// Creates a register, unless it is there.
    pub(crate) async fn create_register<T: Serialize + DeserializeOwned>(
        &self,
        path: &ObjectPath,
        content: T,
    ) -> Result<Swap<T>, LedgerError> {
        self.write_register(path, 1, content, PutMode::Create).await
    }

    /// Replaces what was `seen`, unless another writer did so first.
    pub(crate) async fn swap_register<T: Serialize + DeserializeOwned>(
        &self,
        path: &ObjectPath,
        seen: &Seen<T>,
        content: T,
    ) -> Result<Swap<T>, LedgerError> {
        self.write_register(path, seen.version + 1, content, PutMode::Update(seen.etag.clone())).await
    }

    async fn write_register<T: Serialize + DeserializeOwned>(
        &self,
        path: &ObjectPath,
        version: u64,
        content: T,
        mode: PutMode,
    ) -> Result<Swap<T>, LedgerError> {
        let stamped = Stamped { protocol: PROTOCOL, version, nonce: self.ids.fresh(), content };
        if let PutOutcome::Stored(etag) = self.store.put(path, codec::plain(&stamped), mode).await? {
            let Stamped { version, nonce, content, .. } = stamped;
            return Ok(Swap::Won(Seen { content, version, nonce, etag }));
        }
        let found = self.read_register(path).await?;
        let found = found.ok_or_else(|| codec::damaged(path.as_str(), "it was there and is gone"))?;
        // A lost acknowledgement looks like a lost race: only the nonce tells them apart.
        Ok(if found.nonce == stamped.nonce { Swap::Won(found) } else { Swap::Lost(found) })
    }
}
