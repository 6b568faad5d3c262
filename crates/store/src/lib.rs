//! Bytes in object storage.
//!
//! This crate's secret is how an object gets into a store so that nobody ever sees half of it: [`LocalDir`] does
//! it with files, [`Memory`] with a map. Everything above it knows only [`ObjectStore`].
//!
//! Invariants, checked for every store by the suite in `conformance`:
//! - An object is visible whole or not at all, also when the writer is killed at any instant.
//! - Of any number of writers that create the same path, exactly one is told [`PutOutcome::Stored`].
//! - A put that did not meet its condition is a value ([`PutOutcome::Conflict`]), not an error, and changes nothing.
//! - When a put returns, its object survives the loss of power, as far as the medium keeps its promises.
//! - Listings are sorted by path, and hold every object that was stored before they began.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod local;
mod memory;
mod path;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::StoreError;
pub use local::LocalDir;
pub use memory::Memory;
pub use path::ObjectPath;

/// The version of an object's content, as the store names it. Opaque: only equality means something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Etag(String);

impl Etag {
    /// Wraps what a store calls the version.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The condition under which a put takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Only if there is no object at the path.
    Create,
    /// In any case.
    Overwrite,
    /// Only if the object is still the one with this etag.
    Update(Etag),
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, under this etag.
    Stored(Etag),
    /// The condition did not hold; nothing changed.
    Conflict,
}

/// An object with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// Its version, for [`PutMode::Update`].
    pub etag: Etag,
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectMeta {
    /// Where it is.
    pub path: ObjectPath,
    /// Its size in bytes.
    pub size: u64,
}

/// A store of immutable byte strings under paths.
///
/// Small on purpose: a backend implements exactly these, and everything else is built on them.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug + 'static {
    /// Stores `bytes` at `path` if `mode`'s condition holds.
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError>;

    /// Reads an object; [`StoreError::NotFound`] if there is none.
    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError>;

    /// Reads the bytes of `range` that exist: a range that reaches past the end is cut, one beyond it is empty.
    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Says whether an object is there and how large it is; [`StoreError::NotFound`] if there is none.
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError>;

    /// Lists the objects whose path begins with `prefix` (as text, so end it with `/` to mean a folder), sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes an object; removing one that is not there is no error.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;
}

/// The etag of content: its hash, so that an update is refused exactly when the content it was based on is gone.
fn etag_of(bytes: &[u8]) -> Etag {
    use sha2::{Digest as _, Sha256};
    use std::fmt::Write as _;
    let hex = Sha256::digest(bytes)[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    });
    Etag(hex)
}
