use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use thresher_core::trajectory::Step;

use super::*;

/// A record of `steps` steps with `text` each; what it is about does not matter here.
fn record(steps: u32, text: &str) -> Arc<RolloutRecord> {
    let json = serde_json::json!({
        "schema_version": 1, "run_id": "r", "shard_id": "s", "rollout_id": "o", "attempt": 1, "nonce": "n",
        "task": {
            "instance_id": "i", "dataset": "d", "dataset_fingerprint": "f", "row_sha256": "h",
            "family": "inline", "repo": null, "base_commit": null,
        },
        "sample": 0,
        "policy": {
            "agent": "null", "agent_version": "1", "agent_sha256": "a", "tool_mode": "native",
            "system_prompt": "", "task_prompt": "", "tools": null, "model": "", "provider": "", "sampling": null,
        },
        "sandbox": thresher_core::record::SandboxIdentity::default(),
        "outcome": {
            "kind": "faulted", "blame": "node", "retry": "never", "phase": "start", "message": "no",
        },
        "stop_reason": null, "patch": null, "totals": thresher_core::record::Totals::default(),
        "timings": thresher_core::record::Timings::default(), "runner_version": "0", "grader_log": null,
        "steps": [], "tests": [],
    });
    let mut record: RolloutRecord = serde_json::from_value(json).unwrap();
    record.steps =
        (0..steps).map(|index| Step { index, content: text.to_owned(), ..Step::default() }).collect();
    Arc::new(record)
}

fn steps_file(records: &[Arc<RolloutRecord>], raw_bytes: u64) -> Option<SerializedFileReader<Bytes>> {
    let mut writer = TableWriter::new(Table::Steps, &RunId::new("r")).unwrap();
    for record in records {
        writer.append(record, raw_bytes).unwrap();
    }
    let encoded = writer.finish().unwrap()?;
    let file = SerializedFileReader::new(Bytes::from(encoded.bytes)).unwrap();
    assert_eq!(file.metadata().file_metadata().num_rows() as u64, encoded.rows);
    Some(file)
}

#[test]
fn row_groups_are_cut_by_raw_bytes_and_not_by_what_compression_makes_of_them() {
    // 200 MiB of one letter compress to almost nothing.
    let record = record(50, &"a".repeat(1 << 20));
    let file = steps_file(&vec![record; 4], 50 << 20).unwrap();
    let groups = file.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [64, 64, 64, 8]);
    assert!(groups.iter().all(|group| group.total_byte_size() < 80 << 20));
}

#[test]
fn a_table_without_rows_makes_no_file() {
    assert!(steps_file(&[], 0).is_none());
    assert!(steps_file(&[record(0, "")], 10).is_none());
    assert!(steps_file(&[record(0, ""), record(2, "x")], 10).is_some());
}
