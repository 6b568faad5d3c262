//! Packs: results gathered into Parquet files.

use crate::{Ledger, LedgerError};

/// How results are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Raw bytes after which a pack is closed and the next one begun.
    pub raw_bytes: u64,
    /// Whether a pack may be smaller.
    pub when: PackWhen,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { raw_bytes: 128 << 20, when: PackWhen::Always }
    }
}

/// Whether there is enough to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackWhen {
    /// Pack whatever no pack covers yet.
    Always,
    /// Only when about a whole pack has come together.
    Full,
}

/// What packing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Packs that became part of the run.
    pub packs: u32,
    /// Rollouts in them.
    pub rollouts: u64,
}

impl Ledger {
    /// Gathers the results that no pack covers into Parquet files and makes those part of the run.
    pub async fn pack(&self, options: &PackOptions) -> Result<Packed, LedgerError> {
        todo!("{options:?}")
    }
}
