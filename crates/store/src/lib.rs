//! Bytes in object storage.
//!
//! This crate's secret is how an object gets into a store so that nobody ever sees half of it: [`LocalDir`] does
//! it with files, [`Memory`] with a map, `S3` (feature `s3`) with conditional requests. Everything above it knows
//! only [`ObjectStore`]; [`StoreUrl`] makes one from text, [`Retrying`], [`Limited`] and [`Metered`] go around it, and
//! [`probe`] tells whether it can be relied on.
//!
//! Invariants, checked for every store by the suite in `conformance`:
//! - An object is visible whole or not at all, also when the writer is killed at any instant.
//! - Of any number of writers that create the same path, exactly one is told [`PutOutcome::Stored`].
//! - A put that did not meet its condition is a value ([`PutOutcome::Conflict`]), not an error, and changes nothing.
//! - When a put returns, its object survives the loss of power, as far as the medium keeps its promises.
//! - Listings are sorted by path, and hold every object that was stored before they began.
//! - A multipart upload is invisible until it is completed, and its completion obeys the same conditions as a put.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod large;
mod limited;
mod local;
mod memory;
mod metered;
mod path;
mod probe;
mod retrying;
#[cfg(feature = "s3")]
mod s3;
mod s3_options;
#[cfg(test)]
mod scripted;
mod url;

use std::fmt::Write as _;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub use error::StoreError;
pub use large::{LARGE, put_large};
pub use limited::{Limited, Limits};
pub use local::LocalDir;
pub use memory::Memory;
pub use metered::{Metered, Usage};
pub use path::{InvalidPath, ObjectPath};
pub use probe::{Broken, ProbeError, probe};
pub use retrying::{RetryPolicy, Retrying};
#[cfg(feature = "s3")]
pub use s3::S3;
pub use s3_options::{Addressing, S3Credentials, S3Options, Timeouts};
pub use url::{InvalidUrl, StoreUrl};

/// The version of an object's content, as the store names it. Opaque: only equality means something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Etag(String);

impl Etag {
    /// Wraps what a store calls the version.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What the store calls the version.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A mark of an object's content, for noticing that it was replaced. Opaque: it differs whenever other content was
/// put in its place, and equals only marks that the same store gave.
///
/// It costs no read of the content, so that a listing can hold it, and it is no [`Etag`]: never a condition of a put.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeTag(String);

impl ChangeTag {
    /// Wraps what a store marks the content with.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
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
    /// Differs once other content is there.
    pub tag: ChangeTag,
}

/// A store of immutable byte strings under paths.
///
/// Small on purpose: a backend implements exactly these, and everything else is built on them.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug + 'static {
    /// Stores `bytes` at `path` if `mode`'s condition holds.
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError>;

    /// Begins an object that is given in parts. Nothing is visible before [`Multipart::complete`].
    ///
    /// For bodies that are there as a whole, [`put_large`] does everything.
    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError>;

    /// Reads an object; [`StoreError::NotFound`] if there is none.
    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError>;

    /// Reads the bytes of `range` that exist: a range that reaches past the end is cut, one beyond it is empty.
    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Says whether an object is there and how large it is; [`StoreError::NotFound`] if there is none.
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError>;

    /// Lists the objects whose path begins with `prefix` (as text, so end it with `/` to mean a folder), sorted;
    /// with `after`, only those whose path is greater than it as text. What lies before costs
    /// next to nothing.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes an object; removing one that is not there is no error.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;

    /// The folders right below `folder` (empty for the root): what follows it in paths, up to their next `/`. Sorted.
    ///
    /// Given for free by [`Self::list`]; a store that can do it without looking at every object does so.
    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let listed = self.list(&below, None).await?;
        let names =
            listed.iter().filter_map(|object| Some(object.path.as_str()[below.len()..].split_once('/')?.0));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }
}

/// The least size of a part in bytes, except for the last one, which may be smaller.
pub const MIN_PART: usize = 5 << 20;

/// An object on its way into a store, part by part; at most 10,000 parts.
///
/// Dropping it without [`Self::complete`] or [`Self::abort`] stores nothing but may leave parts in a bucket, which
/// its lifecycle rule for unfinished uploads removes.
#[async_trait]
pub trait Multipart: Send {
    /// Appends a part of at least [`MIN_PART`] bytes, or the last one. After a transient error the same part may be
    /// given again.
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Makes the parts one object if `mode`'s condition holds. Either outcome ends the upload.
    ///
    /// Some servers heed [`PutMode::Create`] here but not [`PutMode::Update`], so no protocol should need the latter.
    ///
    /// After [`StoreError::Contended`] and [`StoreError::UploadGone`] a new upload is needed; after any other
    /// transient error the completion alone may be repeated.
    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError>;

    /// Gives the upload up and frees what it holds, as far as the store can be reached.
    async fn abort(self: Box<Self>);
}

/// The etag of content: its hash, so that an update is refused exactly when the content it was based on is gone.
fn etag_of(bytes: &[u8]) -> Etag {
    etag_from(Sha256::new_with_prefix(bytes))
}

/// The etag of all that was hashed.
fn etag_from(hash: Sha256) -> Etag {
    let hex = hash.finalize()[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    });
    Etag(hex)
}
