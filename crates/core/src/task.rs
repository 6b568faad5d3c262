//! A task: one problem of a dataset, with its environment and hidden tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, Sha256Hex};

/// The family that a task belongs to: it decides set-up and grading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// R2E-Gym's own rows (Lite, Subset, V1).
    R2eGym,
    /// SWE-bench rows, also R2E-Gym's variant of them.
    SweBench,
    /// Rows that carry their whole repository and tests: no image needed.
    Inline,
}

crate::fault::snake_case_display!(Family);

/// One problem: repository state, statement, environment, hidden tests.
#[derive(Clone, Debug)]
pub struct Task {
    /// The dataset's id of it.
    pub instance_id: InstanceId,
    /// Which rules apply.
    pub family: Family,
    /// The dataset that it comes from, by name.
    pub dataset: String,
    /// Hash of the row's content.
    pub row_sha256: Sha256Hex,
    /// `owner/name` or the short name, as the dataset has it.
    pub repo: Option<String>,
    /// Commit of the buggy state.
    pub base_commit: Option<String>,
    /// What the agent is told. Never holds the gold patch, the tests or the dataset's metadata.
    pub problem_statement: String,
    /// Where it runs.
    pub environment: EnvironmentSpec,
    /// The gold patch without test files, as a git patch.
    pub gold_patch: Option<Bytes>,
    /// The hidden tests.
    pub tests: TestSpec,
}

/// A file's content and mode, as put into a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path, or relative to the working directory.
    pub path: String,
    /// Content.
    pub content: Bytes,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRef {
    /// A container image by reference, as the dataset writes it.
    Registry(String),
    /// The machine's own `/usr` and libraries, read-only, with a private working directory.
    Host,
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => f.write_str(reference),
            Self::Host => f.write_str("host"),
        }
    }
}

/// The declared environment of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// Root file system.
    pub image: ImageRef,
    /// The repository's folder: working directory, and root of the patch.
    pub workdir: String,
    /// Variables that are set before anything runs; they replace the image's own.
    pub env: BTreeMap<String, String>,
    /// A bash snippet whose resulting environment is captured once per sandbox and given to every command.
    pub activation: Option<String>,
    /// Files put in place before set-up (inline rows carry their repository here).
    pub files: Vec<FileSpec>,
    /// Whether the grading run may use the network: some rows install packages at grading time.
    pub grading_needs_network: bool,
}

/// The hidden tests of a task: they exist only in the grading sandbox.
#[derive(Clone, Debug, PartialEq)]
pub enum TestSpec {
    /// R2E-Gym: the image's own runner and test folder, and the map of expected statuses.
    R2eGym {
        /// Test name to `PASSED`, `FAILED` or `ERROR`, as parsed from the log of the fixed commit.
        expected: BTreeMap<String, String>,
    },
    /// SWE-bench: a script, a parser and two lists.
    SweBench {
        /// The evaluation script, or `None` where it is `/run_tests.sh` of the image.
        eval_script: Option<String>,
        /// Name of the log parser in SWE-bench's registry.
        log_parser: String,
        /// Whether only recorded failures count (`fail_only`).
        fail_only: bool,
        /// Tests that must go from failing to passing.
        fail_to_pass: Vec<String>,
        /// Tests that must keep passing.
        pass_to_pass: Vec<String>,
    },
    /// Inline rows: files and a command, graded like SWE-bench.
    Inline {
        /// Put in place before the command, over whatever the patch left there.
        files: Vec<FileSpec>,
        /// Bash command, run in the working directory.
        command: String,
        /// Name of the log parser.
        log_parser: String,
        /// Tests that must go from failing to passing.
        fail_to_pass: Vec<String>,
        /// Tests that must keep passing.
        pass_to_pass: Vec<String>,
    },
}
