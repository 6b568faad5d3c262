//! What became of the images of one process, in numbers.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// How a process came by its images, and which it removed, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageCounts {
    /// Images that were asked for and were on the node.
    pub hits: u64,
    /// Images that had to be pulled, or unpacked from an archive.
    pub pulls: u64,
    /// Bytes that came over the network for them, or out of archives.
    pub pulled_bytes: u64,
    /// Images and derived layers that were removed to make room.
    pub evictions: u64,
    /// Bytes that their removal gave back, as far as known.
    pub freed_bytes: u64,
}

impl ImageCounts {
    /// Whether no image was asked for, and none removed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Add for ImageCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            pulls: self.pulls + other.pulls,
            pulled_bytes: self.pulled_bytes + other.pulled_bytes,
            evictions: self.evictions + other.evictions,
            freed_bytes: self.freed_bytes + other.freed_bytes,
        }
    }
}
