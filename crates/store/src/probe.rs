//! Whether a store keeps the promises that everything above it relies on.
//!
//! Servers exist that accept conditions and ignore them, and others that check them without ordering the writes that
//! race. Both lose results silently, so a store is tried before it is used.

use bytes::Bytes;
use futures::future::join_all;

use crate::{Etag, InvalidPath, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

/// Writers in each race, and races of each kind.
const RACERS: usize = 8;
const ROUNDS: usize = 5;

/// What is known to keep the promises, for messages.
const KNOWN_GOOD: &str =
    "known to work: AWS S3, versitygw 1.8, MinIO of August 2025 or later, and moto 5.2 for tests";

/// Why a store was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// The store breaks a promise: no run is safe on it. Use another server.
    #[error("the store is not safe to use: {broken}; {KNOWN_GOOD}")]
    Unsafe {
        /// What it did.
        broken: Broken,
    },
    /// The store could not be tried: what to do follows from its error.
    #[error("the store could not be tried")]
    Store(#[from] StoreError),
    /// The prefix or the nonce cannot be part of an object's path.
    #[error("the store could not be tried")]
    Path(#[from] InvalidPath),
}

/// A promise that a store does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An object that was stored is not there, or holds other bytes.
    #[error("it does not give back what was stored a moment ago")]
    ReadAfterWrite,
    /// An object that was stored is not in the listing.
    #[error("its listings do not show what was stored a moment ago")]
    ListAfterWrite,
    /// An object was created though one was there.
    #[error("it creates an object where there is one (`If-None-Match: *` is ignored)")]
    CreateTwice,
    /// An upload in parts was completed though an object was there.
    #[error("it completes a multipart upload where there is an object (`If-None-Match: *` is ignored there)")]
    CreateInParts,
    /// An update took effect though the object had changed.
    #[error("it updates an object that has changed (`If-Match` is ignored)")]
    StaleUpdate,
    /// An update took effect though there was no object.
    #[error("it updates an object that is not there (`If-Match` is ignored)")]
    UpdateOfNothing,
    /// A write was refused though its condition held.
    #[error("it refuses a conditional write whose condition holds")]
    RefusedWrite,
    /// Several of the writers that created an object at once were told that they did.
    #[error("of {RACERS} writers that create one object at once, not exactly one wins")]
    CreateRace,
    /// Several of the writers that updated an object at once were told that they did.
    #[error("of {RACERS} writers that update one object at once, not exactly one wins")]
    UpdateRace,
}

/// Tries `store` below `prefix` (empty, or a path) with about a hundred small requests, and removes what it wrote.
///
/// `nonce` keeps probes that run at the same time apart, so it differs between any two of them. Over a
/// [`Retrying`](crate::Retrying), so that a passing failure refuses no store.
///
/// Updates by multipart uploads are not tried: nothing needs them, and servers that are fine otherwise do not know
/// them.
pub async fn probe(store: &dyn ObjectStore, prefix: &str, nonce: &str) -> Result<(), ProbeError> {
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let probe = Probe { store, folder: format!("{folder}probe/{nonce}/") };
    // A prefix or a nonce that is no path shows here, before anything is written.
    probe.path("single")?;
    let tried = probe.run().await;
    let cleaned = probe.clean_up().await;
    // What the probe found weighs more than what it could not remove.
    tried?;
    cleaned
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
    folder: String,
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), ProbeError> {
        self.single_writer().await?;
        self.parts().await?;
        for round in 0..ROUNDS {
            self.create_race(&format!("race-{round}")).await?;
        }
        for round in 0..ROUNDS {
            self.update_race(&format!("race-{round}")).await?;
        }
        Ok(())
    }

    async fn single_writer(&self) -> Result<(), ProbeError> {
        let at = self.path("single")?;
        let created = self.put(&at, "1", PutMode::Create).await?;
        let first = self.must_hold(&at, "1", created, Broken::RefusedWrite).await?;
        self.must_fail(&at, "2", PutMode::Create, Broken::CreateTwice).await?;
        let updated = self.put(&at, "3", PutMode::Update(first.clone())).await?;
        self.must_hold(&at, "3", updated, Broken::RefusedWrite).await?;
        self.must_fail(&at, "4", PutMode::Update(first.clone()), Broken::StaleUpdate).await?;
        let listed = self.store.list(&self.folder, None).await?;
        if !listed.iter().any(|object| object.path == at) {
            return Err(Broken::ListAfterWrite.into());
        }
        let absent = self.path("absent")?;
        self.must_fail(&absent, "5", PutMode::Update(first), Broken::UpdateOfNothing).await
    }

    async fn parts(&self) -> Result<(), ProbeError> {
        let at = self.path("parts")?;
        let created = self.put_in_parts(&at, "1").await?;
        self.must_hold(&at, "1", created, Broken::RefusedWrite).await?;
        match self.put_in_parts(&at, "2").await? {
            PutOutcome::Stored(_) => Err(Broken::CreateInParts.into()),
            PutOutcome::Conflict => Ok(()),
        }
    }

    async fn create_race(&self, name: &str) -> Result<(), ProbeError> {
        let at = self.path(name)?;
        let modes = [const { PutMode::Create }; RACERS];
        self.race(&at, "create", modes, Broken::CreateRace).await
    }

    async fn update_race(&self, name: &str) -> Result<(), ProbeError> {
        let at = self.path(name)?;
        let PutOutcome::Stored(etag) = self.put(&at, "begin", PutMode::Overwrite).await? else {
            return Err(Broken::RefusedWrite.into());
        };
        let modes = [(); RACERS].map(|()| PutMode::Update(etag.clone()));
        self.race(&at, "update", modes, Broken::UpdateRace).await
    }

    /// Lets writers put at once; exactly one may win, and its bytes must be there.
    async fn race(
        &self,
        at: &ObjectPath,
        verb: &str,
        modes: [PutMode; RACERS],
        broken: Broken,
    ) -> Result<(), ProbeError> {
        let texts: Vec<String> = (0..RACERS).map(|racer| format!("{verb} {racer}")).collect();
        let puts = texts.iter().zip(modes).map(|(text, mode)| self.race_one(at, text, mode));
        let mut winners = Vec::new();
        for (text, outcome) in texts.iter().zip(join_all(puts).await) {
            if outcome? != PutOutcome::Conflict {
                winners.push(text.as_str());
            }
        }
        let bytes = self.read(at).await?;
        let kept = match winners[..] {
            [winner] => bytes.as_deref() == Some(winner.as_bytes()),
            // The winner's acknowledgement was lost, and its repetition met its own write.
            [] => texts.iter().any(|text| bytes.as_deref() == Some(text.as_bytes())),
            _ => false,
        };
        if kept { Ok(()) } else { Err(broken.into()) }
    }

    /// A server may answer a racer that another write is under way; that racer has not won.
    async fn race_one(&self, at: &ObjectPath, text: &str, mode: PutMode) -> Result<PutOutcome, StoreError> {
        match self.put(at, text, mode).await {
            Err(StoreError::Contended { .. }) => Ok(PutOutcome::Conflict),
            outcome => outcome,
        }
    }

    /// The etag of what was stored, if it is there. A conflict is none if the write took effect all the same: then its
    /// acknowledgement was lost.
    async fn must_hold(
        &self,
        at: &ObjectPath,
        text: &str,
        outcome: PutOutcome,
        otherwise: Broken,
    ) -> Result<Etag, ProbeError> {
        let read = match self.store.get(at).await {
            Err(error) if error.is_not_found() => None,
            read => Some(read?),
        };
        match (outcome, read) {
            (PutOutcome::Stored(etag), Some(object)) if object.bytes == text && object.etag == etag => {
                Ok(etag)
            }
            (PutOutcome::Conflict, Some(object)) if object.bytes == text => Ok(object.etag),
            (PutOutcome::Stored(_), _) => Err(Broken::ReadAfterWrite.into()),
            (PutOutcome::Conflict, _) => Err(otherwise.into()),
        }
    }

    async fn must_fail(
        &self,
        at: &ObjectPath,
        text: &str,
        mode: PutMode,
        broken: Broken,
    ) -> Result<(), ProbeError> {
        let before = self.read(at).await?;
        let outcome = self.put(at, text, mode).await?;
        let unchanged = self.read(at).await? == before;
        if outcome == PutOutcome::Conflict && unchanged { Ok(()) } else { Err(broken.into()) }
    }

    async fn put(&self, at: &ObjectPath, text: &str, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.store.put(at, Bytes::copy_from_slice(text.as_bytes()), mode).await
    }

    async fn put_in_parts(&self, at: &ObjectPath, text: &str) -> Result<PutOutcome, StoreError> {
        let mut upload = self.store.multipart(at).await?;
        let part = upload.part(Bytes::copy_from_slice(text.as_bytes())).await;
        let done = match part {
            Ok(()) => upload.complete(PutMode::Create).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            upload.abort().await;
        }
        done
    }

    async fn read(&self, at: &ObjectPath) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(at).await {
            Err(error) if error.is_not_found() => Ok(None),
            read => Ok(Some(read?.bytes)),
        }
    }

    async fn clean_up(&self) -> Result<(), ProbeError> {
        for name in ["single", "absent", "parts"] {
            self.store.delete(&self.path(name)?).await?;
        }
        for round in 0..ROUNDS {
            self.store.delete(&self.path(&format!("race-{round}"))?).await?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Result<ObjectPath, InvalidPath> {
        ObjectPath::parse(format!("{}{name}", self.folder))
    }
}

impl From<Broken> for ProbeError {
    fn from(broken: Broken) -> Self {
        Self::Unsafe { broken }
    }
}

#[cfg(test)]
mod tests;
