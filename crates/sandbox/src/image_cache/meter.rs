//! Counts what becomes of images.

use std::sync::atomic::{AtomicU64, Ordering};

use thresher_core::ImageCounts;

/// Counters of this process.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    hits: AtomicU64,
    pulls: AtomicU64,
    pulled_bytes: AtomicU64,
    evictions: AtomicU64,
    freed_bytes: AtomicU64,
}

impl Meter {
    /// An image was there.
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// An image had to be brought here.
    pub(crate) fn pulled(&self, bytes: u64) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        self.pulled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Images or derived layers were removed.
    pub(crate) fn evicted(&self, count: u64) {
        self.evictions.fetch_add(count, Ordering::Relaxed);
    }

    /// Bytes were given back.
    pub(crate) fn freed(&self, bytes: u64) {
        self.freed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> ImageCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ImageCounts {
            hits: of(&self.hits),
            pulls: of(&self.pulls),
            pulled_bytes: of(&self.pulled_bytes),
            evictions: of(&self.evictions),
            freed_bytes: of(&self.freed_bytes),
        }
    }
}
