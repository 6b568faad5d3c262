//! The column `execution_result_content`: the test runs from which a row was made.

use serde::{Deserialize, Serialize};

/// The tests' sources and what they printed before and after the fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionResult {
    /// Short repository name.
    pub repo_name: String,
    /// The fixing commit.
    pub new_commit_hash: String,
    /// The hidden tests' sources.
    #[serde(default)]
    pub test_file_codes: Vec<String>,
    /// Their file names, in the same order.
    #[serde(default)]
    pub test_file_names: Vec<String>,
    /// Exit code of the set-up.
    #[serde(default)]
    pub setup_res_code: Option<i64>,
    /// Its output.
    #[serde(default)]
    pub setup_res_stdout: String,
    /// Its error output.
    #[serde(default)]
    pub setup_res_stderr: String,
    /// Exit code of the tests after the fix; -1 if they did not run.
    #[serde(default = "not_run")]
    pub new_commit_res_code: i64,
    /// Their output.
    #[serde(default)]
    pub new_commit_res_stdout: String,
    /// Their error output.
    #[serde(default)]
    pub new_commit_res_stderr: String,
    /// Exit code of the tests before the fix; -1 if they did not run.
    #[serde(default = "not_run")]
    pub old_commit_res_code: i64,
    /// Their output.
    #[serde(default)]
    pub old_commit_res_stdout: String,
    /// Their error output.
    #[serde(default)]
    pub old_commit_res_stderr: String,
}

fn not_run() -> i64 {
    -1
}
