//! Large bodies, in parts.

use bytes::Bytes;

use crate::{ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

/// Bodies above this size in bytes are stored in parts of this size.
pub const LARGE: usize = 16 << 20;

/// How often an upload is made from its first part before its error is given up on.
const TRIES: u32 = 5;

/// Stores `bytes` at `path` if `mode`'s condition holds: small bodies with one put, large ones in parts.
///
/// Where the store wants a new upload ([`StoreError::Contended`], [`StoreError::UploadGone`]), the whole is sent
/// again, a bounded number of times. So also here a conflict may be with this caller's own write, whose
/// acknowledgement was lost.
pub async fn put_large(
    store: &dyn ObjectStore,
    path: &ObjectPath,
    bytes: Bytes,
    mode: PutMode,
) -> Result<PutOutcome, StoreError> {
    if bytes.len() <= LARGE {
        return store.put(path, bytes, mode).await;
    }
    let mut tries = 1;
    loop {
        match put_in_parts(store, path, &bytes, mode.clone()).await {
            Err(StoreError::Contended { .. } | StoreError::UploadGone { .. }) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn put_in_parts(
    store: &dyn ObjectStore,
    path: &ObjectPath,
    bytes: &Bytes,
    mode: PutMode,
) -> Result<PutOutcome, StoreError> {
    let mut upload = store.multipart(path).await?;
    let mut sent = Ok(());
    for start in (0..bytes.len()).step_by(LARGE) {
        let end = bytes.len().min(start + LARGE);
        sent = upload.part(bytes.slice(start..end)).await;
        if sent.is_err() {
            break;
        }
    }
    let done = match sent {
        Ok(()) => upload.complete(mode).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        upload.abort().await;
    }
    done
}
