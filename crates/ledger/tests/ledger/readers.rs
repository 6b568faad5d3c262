//! Other people's readers load a run's tables: pyarrow, Hugging Face datasets, DuckDB and Polars.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use thresher_core::record::Totals;
use thresher_ledger::{PackOptions, PackWhen};

use crate::fixtures::{dataset, faulted, local, plan, records, spec};

/// The interpreter that has the libraries: by the environment, or the system's.
fn python() -> String {
    std::env::var("THRESHER_TEST_PYTHON").unwrap_or_else(|_| "python3".into())
}

fn has_libraries(python: &str) -> bool {
    let probe = Command::new(python).args(["-c", "import pyarrow, datasets, duckdb, polars"]).output();
    probe.is_ok_and(|output| output.status.success())
}

#[test]
fn other_readers_see_the_same_rows() {
    let python = python();
    if !has_libraries(&python) {
        eprintln!(
            "skipped: {python} has not all of pyarrow, datasets, duckdb and polars; set THRESHER_TEST_PYTHON"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let expected = make_run(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
    let output = Command::new(python)
        .arg(script)
        .arg(dir.path())
        .arg(expected.to_string())
        .env("HF_HOME", dir.path().join("hf"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Seals a run of several packs with some faults, and says what is in it.
#[tokio::main(flavor = "current_thread")]
async fn make_run(dir: &Path) -> serde_json::Value {
    let ledger = local(dir);
    let planned = plan(20, 0..2);
    ledger.extend_plan(&spec(2), &dataset(), &planned).await.unwrap();
    let all = records(&planned);
    let (faults, graded) = all.split_at(5);
    for record in graded {
        ledger.commit(record, None).await.unwrap();
    }
    for record in faults {
        ledger.save_fault(&faulted(record, 1), None).await.unwrap();
        ledger.save_fault(&faulted(record, 2), None).await.unwrap();
    }
    ledger.seal(&PackOptions { raw_bytes: 40_000, when: PackWhen::Always }).await.unwrap();
    let totals: Vec<Totals> = all.iter().map(|record| Totals::of(&record.steps)).collect();
    let observations = all.iter().flat_map(|record| &record.steps).flat_map(|step| &step.observations);
    json!({
        "rollouts": all.len(),
        "null_rewards": faults.len(),
        "reward_sum": graded.iter().filter_map(|record| record.outcome.reward()).sum::<f64>(),
        "steps": totals.iter().map(|totals| totals.steps).sum::<u32>(),
        "tool_calls": totals.iter().map(|totals| totals.tool_calls).sum::<u32>(),
        "exit_codes": observations.filter(|seen| seen.exit_code.is_some()).count(),
        "test_results": graded.iter().map(|record| record.tests.len()).sum::<usize>(),
        "faults": 2 * faults.len(),
        "patch_bytes_sha256": all[0].patch.as_ref().unwrap().sha256,
    })
}
