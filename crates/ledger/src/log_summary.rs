//! What the log alone says of a run: cheap also for a large one.

use thresher_core::RolloutId;

use crate::log::PackKind;
use crate::log_state::LogState;
use crate::{Ledger, LedgerError, OutcomeCounts, Position};

/// What a run's log says at one position. Results that no pack covers yet are not in it.
#[derive(Debug)]
pub struct LogSummary {
    ledger: Ledger,
    state: LogState,
}

/// What is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedTotals {
    /// Rollouts whose results are packed.
    pub rollouts: u64,
    /// Of those, the solved ones.
    pub solved: u64,
    /// Packs of results.
    pub packs: u64,
    /// Bytes of all table files that are part of the run.
    pub bytes: u64,
}

impl Ledger {
    /// Reads the log.
    pub async fn log_summary(&self) -> Result<LogSummary, LedgerError> {
        Ok(LogSummary { ledger: self.clone(), state: self.log_state().await? })
    }
}

impl LogSummary {
    /// Reads on; if there is nothing new, that costs one request.
    pub async fn refresh(&mut self) -> Result<(), LedgerError> {
        self.ledger.read_on(&mut self.state).await
    }

    /// The position of the log that it is of.
    pub fn position(&self) -> Position {
        Position(self.state.position)
    }

    /// The counts of the sealing, if the run is sealed and nothing was packed since.
    pub fn sealed(&self) -> Option<OutcomeCounts> {
        self.state.seal.as_ref().map(|seal| seal.counts)
    }

    /// What is packed.
    pub fn packed(&self) -> PackedTotals {
        let results = || self.state.of_kind(PackKind::Results);
        PackedTotals {
            rollouts: self.state.covered.len() as u64,
            solved: results().map(|pack| pack.solved).sum(),
            packs: results().count() as u64,
            bytes: self.state.packs().flat_map(|pack| &pack.files).map(|file| file.bytes).sum(),
        }
    }

    /// Whether the result of a rollout is packed.
    pub fn is_covered(&self, rollout: &RolloutId) -> bool {
        self.state.covered.contains(rollout)
    }
}
