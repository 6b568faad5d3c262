//! A live instance of an environment.
//!
//! The secret of this crate is how a sandbox is made, spoken to and unmade. A [`Backend`] starts one; from then on
//! every backend's sandbox is the same thing: a [`Sandbox`] that talks over one framed stream to the guest, the
//! static helper that is the sandbox's first process. When the stream ends, the sandbox ends, so a killed runner
//! leaves nothing behind.
//!
//! Invariants:
//! - Frames from the guest are untrusted input: bounded, checked, never a reason to panic.
//! - Deadlines are kept on this side too; the guest's word is not needed for a command to end.
//! - An error says whether there is evidence from outside the sandbox ([`SandboxError::fault`]). What the code
//!   inside can cause by itself is never a fault.
//! - No type of `bollard` or `kube` appears in a public signature.

mod error;
mod guest;
mod image_cache;
mod spec;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod docker;
pub mod embedded;
#[cfg(feature = "pods")]
pub mod pods;
pub mod process;

pub use error::SandboxError;
pub use guest::Sandbox;
pub use image_cache::{Lease, WaterMarks};
pub use spec::{
    Command, CommandEnd, CommandOutput, DirEntry, EntryKind, FileMode, Prepared, SandboxSpec, SearchHit,
    SearchQuery, SnapshotEntry, StartOptions, Streams,
};

use async_trait::async_trait;
use thresher_core::ImageCounts;
use thresher_core::task::ImageRef;

/// Starts sandboxes. Implementations: [`docker::Docker`], [`embedded::Embedded`], [`process::Process`], and with the
/// feature `pods` `pods::Pods`.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Makes the image usable on this node: resolves it to a digest and pulls or unpacks it if it is missing.
    ///
    /// One preparation per image and node runs at a time; a second caller, also in another process, waits for the first.
    /// The image stays for as long as the answer's [`Prepared::lease`].
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError>;

    /// Makes exactly that content of `image` usable which `digest` names, whatever the reference stands for now: what
    /// an earlier [`Prepared::digest`] of the same reference said. The answer has that digest.
    ///
    /// # Errors
    /// [`SandboxError::NoImage`] if it cannot be had any more.
    async fn prepare_locked(&self, image: &ImageRef, digest: &str) -> Result<Prepared, SandboxError> {
        let found = self.prepare(image).await;
        match &found {
            Ok(prepared) if prepared.digest == digest => return found,
            Ok(_) | Err(SandboxError::NoImage { .. }) => {}
            Err(_) => return found,
        }
        // The tag stands for something else now, or for nothing.
        let locked = self.prepare(&spec::at_digest(image, digest)).await;
        match locked {
            Ok(prepared) if prepared.digest == digest => Ok(Prepared { image: image.clone(), ..prepared }),
            Ok(_) | Err(SandboxError::NoImage { .. }) => Err(SandboxError::not_locked(image, digest)),
            Err(error) => Err(error),
        }
    }

    /// Looks up a layer derived earlier with [`Backend::derive`] under `key`.
    async fn derived(&self, base: &Prepared, key: &str) -> Result<Option<Prepared>, SandboxError>;

    /// Keeps the present file system of `sandbox`, which was started from `base`, as a layer under `key`, and ends
    /// the sandbox. Later sandboxes start from it. Creating the same key twice keeps the first.
    async fn derive(&self, sandbox: Sandbox, base: &Prepared, key: &str) -> Result<Prepared, SandboxError>;

    /// Whether layers can be kept. Where they cannot, [`Backend::derived`] finds none and [`Backend::derive`] makes none:
    /// who needs a set-up repeats it in every sandbox.
    fn keeps_layers(&self) -> bool {
        true
    }

    /// Starts a sandbox and returns it with its guest attached and answering.
    async fn start(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError>;

    /// Looks, from outside, for a cause of a sandbox's sudden end: `Some` is evidence of an outside cause (the
    /// daemon does not answer, the node's disk is full), `None` means that there is none.
    async fn evidence(&self) -> Option<SandboxError>;

    /// Waits until everything that closed sandboxes left behind is gone, where closing returns earlier.
    async fn settle(&self) {}

    /// What became of images in this process, where this backend keeps them; else nothing.
    fn image_counts(&self) -> ImageCounts {
        ImageCounts::default()
    }

    /// Removes what earlier, dead runners left on this machine, and never what belongs to a live one. Returns how
    /// many things were removed.
    async fn reap(&self) -> Result<usize, SandboxError>;
}
