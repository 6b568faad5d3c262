//! Image locks: what each image reference was resolved to, once per run, so that one run never mixes two images.

use serde::{Deserialize, Serialize};
use thresher_core::Sha256Hex;
use thresher_store::ObjectPath;

use crate::layout::Layout;
use crate::{Ledger, LedgerError, codec};

/// What a run's image reference stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLock {
    /// The reference, as the dataset names it.
    pub image: String,
    /// What whoever was first found it to be: the registry's digest; of an image without one, the image's own id.
    pub digest: String,
}

impl Ledger {
    /// What `image` was resolved to in this run; `None` if nobody has done so yet (protocol: I1).
    pub async fn locked_image(&self, image: &str) -> Result<Option<ImageLock>, LedgerError> {
        let path = self.layout.image_lock(image)?;
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        codec::parse(path.as_str(), &bytes).map(Some)
    }

    /// Says what `image` is resolved to, unless somebody else was first; returns what counts (protocol: I3).
    pub async fn lock_image(&self, image: &str, digest: &str) -> Result<ImageLock, LedgerError> {
        let path = self.layout.image_lock(image)?;
        let ours = ImageLock { image: image.to_owned(), digest: digest.to_owned() };
        if self.create(&path, codec::plain(&ours)).await? {
            return Ok(ours);
        }
        let gone = || LedgerError::Damaged { path: path.to_string(), reason: "it was removed".to_owned() };
        self.locked_image(image).await?.ok_or_else(gone)
    }
}

impl Layout {
    /// References hold characters that paths do not, and differ in case: the name is a hash, the object says of what.
    fn image_lock(&self, image: &str) -> Result<ObjectPath, LedgerError> {
        self.named("locks", &Sha256Hex::of(image.as_bytes()).as_str()[..32])
    }
}
