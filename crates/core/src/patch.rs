//! Git patches against a baseline tree: made, read and applied without git.
//!
//! The agent's work leaves the sandbox as one patch in git's format, and the grader's sandbox gets exactly those
//! bytes. Neither side may need git in its image, and both must agree with git to the byte, so the format lives
//! here: blob and tree ids ([`blob_id`], [`tree_id`]), writing ([`render`]), reading ([`parse`]) and applying
//! ([`FilePatch::apply`], [`Patch::apply`]).
//!
//! Invariants:
//! - What [`render`] writes applies with plain `git apply` and gives exactly the new blobs; [`ApplyMode::Exact`]
//!   proves it again by the blob ids of the index lines.
//! - [`ApplyMode::Git`] gives what `git apply` gives, or refuses what it refuses.
//! - No path that leaves the tree, or enters `.git`, gets out of [`parse`].

mod apply;
mod apply_tree;
mod base85;
mod binary;
mod error;
mod header;
mod hunk;
mod model;
mod parse;
mod quote;
mod render;
mod tree;

#[cfg(test)]
mod tests;

pub use apply::ApplyMode;
pub use apply_tree::Change;
pub use error::{ApplyError, ApplyReason, PatchError};
pub use model::{ChangeKind, FilePatch, Patch};
pub use parse::parse;
pub use render::{FileChange, Rendered, render};
pub use tree::{BlobId, ChangedPath, FileMode, TreeEntry, TreeId, blob_id, changed_paths, tree_id};
