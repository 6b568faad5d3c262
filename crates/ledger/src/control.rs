//! The operators' object: pause, cancel, a new round, other budgets.

use serde::{Deserialize, Serialize};
use thresher_core::run_spec::BudgetSpec;
use thresher_store::ObjectPath;

use crate::layout::Layout;
use crate::register::Swap;
use crate::{Ledger, LedgerError};

/// What the operators of a run want of its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Whether work goes on.
    pub state: RunState,
    /// Counts from 1; goes up when an operator wants faulted rollouts tried again.
    pub round: u32,
    /// When the round began, by the operator's clock, in seconds since the epoch: the wall-clock budget counts from here.
    pub round_began_unix_s: i64,
    /// Limits that replace those of the plan.
    pub budget: Option<BudgetSpec>,
    /// Worker slots that a cluster is to have for the run; as its configuration says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// When the run was submitted to a cluster for the first time, by that computer's clock, in seconds since the epoch: a
    /// campaign's runs are told apart by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_unix_s: Option<i64>,
    /// Hash of the template that a cluster makes the run's workers from, as it was last submitted: who looks after the run with
    /// another one begins none. Whoever looks decides if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Whether a pause ends a cluster's pods at once, instead of when they have finished what they had begun.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold_now: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Default for Control {
    fn default() -> Self {
        Self {
            state: RunState::Running,
            round: 1,
            round_began_unix_s: 0,
            budget: None,
            slots: None,
            submitted_unix_s: None,
            template: None,
            hold_now: false,
        }
    }
}

/// Whether work on a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Workers take shards.
    Running,
    /// Workers finish the rollouts that they have begun, begin no others and wait.
    Paused,
    /// Workers begin no rollouts any more and leave.
    Cancelled {
        /// Whether rollouts that have begun are broken off.
        now: bool,
    },
}

impl Ledger {
    /// What the operators want; the default if nobody has ever said anything.
    pub async fn control(&self) -> Result<Control, LedgerError> {
        let seen = self.read_register::<Control>(&self.layout.control()?).await?;
        Ok(seen.map(|seen| seen.content).unwrap_or_default())
    }

    /// Changes what the operators want (protocol: O1 and O2). `change` may be called more than once.
    pub async fn change_control(
        &self,
        change: impl Fn(&mut Control) + Send + Sync,
    ) -> Result<Control, LedgerError> {
        let path = self.layout.control()?;
        let mut seen = self.read_register::<Control>(&path).await?;
        loop {
            let mut wanted = seen.as_ref().map(|seen| seen.content.clone()).unwrap_or_default();
            change(&mut wanted);
            if seen.as_ref().is_some_and(|seen| seen.content == wanted) {
                return Ok(wanted);
            }
            let swap = match &seen {
                None => self.create_register(&path, wanted).await?,
                Some(seen) => self.swap_register(&path, seen, wanted).await?,
            };
            match swap {
                Swap::Won(done) => return Ok(done.content),
                Swap::Lost(found) => seen = Some(found),
            }
        }
    }
}

impl Layout {
    fn control(&self) -> Result<ObjectPath, LedgerError> {
        self.object("control.json")
    }
}
