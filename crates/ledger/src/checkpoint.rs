//! Checkpoints: what the log says up to some entry, so that not every reader reads it from its beginning.
//!
//! A checkpoint is derived from the log and decides nothing. One that is missing or broken is just not used.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use thresher_core::RunId;
use thresher_store::{ObjectPath, PutMode};
use tracing::warn;

use crate::layout::Layout;
use crate::log_state::LogState;
use crate::pack::off_runtime;
use crate::{Ledger, LedgerError, codec};

/// Entries from one checkpoint to the next.
const EVERY: u64 = 64;

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    run_id: RunId,
    state: LogState,
}

impl Ledger {
    /// Writes the checkpoint of a state whose last entry this caller has appended, if it is to have one. A failure is
    /// no failure of the entry, which is in the log.
    pub(crate) async fn checkpoint_if_due(&self, state: &LogState) {
        if !state.position.is_multiple_of(EVERY) {
            return;
        }
        if let Err(error) = self.write_checkpoint(state).await {
            warn!(position = state.position, %error, "the log's checkpoint could not be written");
        }
    }

    async fn write_checkpoint(&self, state: &LogState) -> Result<(), LedgerError> {
        let path = self.layout.checkpoint(state.position)?;
        let checkpoint = Checkpoint { run_id: self.run.clone(), state: state.clone() };
        let bytes = off_runtime(move || Ok(codec::pack(&checkpoint))).await?;
        // Whoever writes it writes the same, up to the version of the program.
        self.store.put(&path, bytes, PutMode::Overwrite).await?;
        Ok(())
    }

    /// Puts the newest usable checkpoint up to entry `last` in the place of an empty state; says whether there was one.
    pub(crate) async fn load_checkpoint(&self, state: &mut LogState, last: u64) -> Result<bool, LedgerError> {
        let mut paths = self.checkpoints().await?;
        paths.retain(|(number, _)| (1..=last).contains(number));
        paths.sort_by_key(|(number, _)| Reverse(*number));
        for (number, path) in paths {
            let Some(bytes) = self.read(&path).await? else { continue };
            let name = path.to_string();
            let read = off_runtime(move || {
                let Checkpoint { run_id, state } = codec::unpack(&name, &bytes)?.0;
                Ok((run_id, state.restored()))
            });
            match read.await {
                Ok((run_id, found)) if run_id == self.run && found.position == number => {
                    *state = found;
                    return Ok(true);
                }
                Ok(_) => warn!(%path, "the log's checkpoint is another one's and is not used"),
                Err(error) => warn!(%path, %error, "the log's checkpoint is not used"),
            }
        }
        Ok(false)
    }

    /// Every checkpoint with its number, oldest first.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<(u64, ObjectPath)>, LedgerError> {
        let listed = self.store.list(&self.layout.folder("checkpoints/"), None).await?;
        let numbered = listed.into_iter().map(|object| object.path);
        Ok(numbered.filter_map(|path| Some((Layout::checkpoint_number(&path)?, path))).collect())
    }
}
