//! SWE-bench's verdict: from a log and two lists of tests to resolved or not, as v5.0.2 of its harness decides.
//!
//! A stored log goes through [`read_log`], a run in one of our sandboxes through [`read_run`]; both give a
//! [`LogReading`], which [`report`] holds against the [`TestLists`](crate::TestLists). The differences to harness 4 are
//! kept under [`Generation::V4`], because the same log can grade differently.

mod infra;
mod instance_report;
mod log;
mod verdict;

use serde::{Deserialize, Serialize};

pub use infra::{InfraLabel, InfraTier, classify_infra};
pub use instance_report::{InstanceReport, PatchState, TestsStatus};
pub(crate) use log::{END, EXIT_CODE, START};
pub use log::{LogReading, NotFound, RunOutput, Scope, read_log, read_run};
pub use verdict::{EvalType, ListVerdict, Report, Resolution, report, resolve_name};
pub(crate) use verdict::{List, succeeded};

/// The generation of SWE-bench's harness whose rules decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Harness 4.1.0: no look at the exit code, no search for truncated ids, skipped tests in neither list.
    V4,
    /// Harness 5.0.2.
    #[default]
    V5,
}
