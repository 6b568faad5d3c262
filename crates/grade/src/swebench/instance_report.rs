//! The harness's `report.json` of one instance.

use serde::{Deserialize, Serialize};

use super::infra::{InfraLabel, InfraTier};
use super::verdict::{ListVerdict, Report, Resolution};

/// The body of a `report.json`, which the file holds under the instance's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// The prediction held no patch at all.
    #[serde(rename = "patch_is_None")]
    pub patch_is_none: bool,
    /// The prediction held a patch.
    pub patch_exists: bool,
    /// The log could be graded. In spite of its name it is false also when the patch applied and the log was refused.
    pub patch_successfully_applied: bool,
    /// Every listed test did what was wanted.
    pub resolved: bool,
    /// An unresolved log shows signs of a broken environment. Absent before harness 5.
    #[serde(default)]
    pub infra_failure: bool,
    /// The sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infra_failure_reason: Option<String>,
    /// The verdict by test, when the log could be graded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests_status: Option<TestsStatus>,
}

/// The verdict by test, with the two lists that are always empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct TestsStatus {
    /// Tests that had to go from failing to passing.
    pub fail_to_pass: ListVerdict,
    /// Tests that had to keep passing.
    pub pass_to_pass: ListVerdict,
    /// Not graded by any generation.
    pub fail_to_fail: ListVerdict,
    /// Not graded by any generation.
    pub pass_to_fail: ListVerdict,
}

/// Whether a prediction has a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchState {
    /// `model_patch` is null.
    Absent,
    /// `model_patch` is text.
    Present,
}

impl InstanceReport {
    /// Writes a verdict in the harness's form; `report` is `None` when the log was refused.
    #[must_use]
    pub fn new(patch: PatchState, report: Option<&Report>, infra: Option<InfraLabel>) -> Self {
        if patch == PatchState::Absent {
            return Self { patch_is_none: true, ..Self::default() };
        }
        let resolved = report.is_some_and(|report| report.resolution == Resolution::Full);
        let infra = infra.filter(|label| !resolved && label.tier() == InfraTier::Environment);
        Self {
            patch_is_none: false,
            patch_exists: true,
            patch_successfully_applied: report.is_some(),
            resolved,
            infra_failure: infra.is_some(),
            infra_failure_reason: infra.map(|label| label.as_str().to_owned()),
            tests_status: report.map(TestsStatus::from),
        }
    }
}

impl From<&Report> for TestsStatus {
    fn from(report: &Report) -> Self {
        Self {
            fail_to_pass: report.fail_to_pass.clone(),
            pass_to_pass: report.pass_to_pass.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(resolution: Resolution) -> Report {
        let list = ListVerdict { success: vec!["a".into()], failure: vec![] };
        Report { fail_to_pass: list, pass_to_pass: ListVerdict::default(), resolution }
    }

    #[test]
    fn shapes_are_the_harnesss() {
        let empty = r#"{"success":[],"failure":[]}"#;
        let absent = r#"{"patch_is_None":true,"patch_exists":false,"patch_successfully_applied":false,"resolved":false,"infra_failure":false}"#;
        let refused = r#"{"patch_is_None":false,"patch_exists":true,"patch_successfully_applied":false,"resolved":false,"infra_failure":true,"infra_failure_reason":"out_of_memory"}"#;
        let full = format!(
            r#"{{"patch_is_None":false,"patch_exists":true,"patch_successfully_applied":true,"resolved":true,"infra_failure":false,"tests_status":{{"FAIL_TO_PASS":{{"success":["a"],"failure":[]}},"PASS_TO_PASS":{empty},"FAIL_TO_FAIL":{empty},"PASS_TO_FAIL":{empty}}}}}"#
        );
        let oom = Some(InfraLabel::OutOfMemory);
        let cases = [
            (InstanceReport::new(PatchState::Absent, None, oom), absent),
            (InstanceReport::new(PatchState::Present, None, oom), refused),
            (InstanceReport::new(PatchState::Present, Some(&report(Resolution::Full)), oom), &full),
        ];
        for (report, expected) in cases {
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(json, expected);
            assert_eq!(serde_json::from_str::<InstanceReport>(&json).unwrap(), report);
        }
    }

    #[test]
    fn an_ambiguous_sign_is_no_infra_failure() {
        let report = InstanceReport::new(PatchState::Present, None, Some(InfraLabel::MissingModule));
        assert_eq!((report.infra_failure, report.infra_failure_reason), (false, None));
    }

    #[test]
    fn reports_of_harness_4_are_read() {
        let old = r#"{"patch_is_None":false,"patch_exists":true,"patch_successfully_applied":true,"resolved":false}"#;
        let report: InstanceReport = serde_json::from_str(old).unwrap();
        assert!(report.patch_exists && !report.infra_failure && report.tests_status.is_none());
    }
}
