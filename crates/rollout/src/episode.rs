//! The agent's part of a rollout: what it is given, what it has used up, and the record of its turns.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use thresher_core::run_spec::AgentSpec;
use thresher_core::trajectory::Step;
use thresher_core::{RolloutId, Task};
use thresher_sandbox::Sandbox;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::journal::{Journal, Progress};
use crate::llm::Llm;

/// Everything an agent works with. It lives as long as the agent's part of one rollout.
pub struct Episode<'a> {
    /// The problem.
    pub task: &'a Task,
    /// Where the agent acts.
    pub sandbox: &'a mut Sandbox,
    /// The repository's folder inside the sandbox.
    pub workdir: String,
    /// The captured environment of every command.
    pub env: BTreeMap<String, String>,
    /// The model, for agents that ask one.
    pub model: Option<Arc<dyn Llm>>,
    /// Limits and tool mode.
    pub spec: &'a AgentSpec,
    /// Identity of the rollout: also the session id towards the model.
    pub rollout: &'a RolloutId,
    /// Sample number.
    pub sample: u32,
    /// Time of day.
    pub clock: Clock,
    /// Ends waiting for the model when the run is stopped.
    pub cancel: CancellationToken,
    pub(crate) started: Instant,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) spill: StepSpill,
}

impl Episode<'_> {
    /// Wall-clock time since the agent's part began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records a turn: it goes to disk at once, so that long trajectories cost no memory.
    pub fn record(&mut self, step: &Step) -> std::io::Result<()> {
        self.spill.push(step)?;
        let tokens = step.usage.prompt_tokens + step.usage.completion_tokens;
        self.journal.progress(
            self.rollout,
            Progress::Step { steps: self.spill.len(), tokens, cost_usd: step.cost_usd },
        );
        Ok(())
    }
}

/// Turns on disk, in an unnamed file that vanishes with the process.
pub(crate) struct StepSpill {
    file: BufWriter<std::fs::File>,
    len: u32,
}

impl StepSpill {
    /// Opens an unnamed file in `folder`.
    pub(crate) fn create(folder: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile_in(folder)?), len: 0 })
    }

    /// How many turns it holds.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    fn push(&mut self, step: &Step) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.file, step)?;
        self.file.write_all(b"\n")?;
        self.file.flush()?;
        self.len += 1;
        Ok(())
    }

    /// Reads all turns back.
    pub(crate) fn into_steps(self) -> std::io::Result<Vec<Step>> {
        let mut file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.rewind()?;
        BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_back_from_disk_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = StepSpill::create(folder.path()).unwrap();
        let steps: Vec<Step> = (0..3)
            .map(|index| Step { index, content: format!("line\n{index}\u{2028}"), ..Step::default() })
            .collect();
        steps.iter().for_each(|step| spill.push(step).unwrap());
        assert_eq!(spill.len(), 3);
        assert_eq!(spill.into_steps().unwrap(), steps);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
