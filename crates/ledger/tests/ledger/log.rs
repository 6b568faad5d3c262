//! L1: the log is read from its newest usable checkpoint, and from then on only what is new.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thresher_core::RolloutId;
use thresher_ledger::{
    GcOptions, Ledger, LedgerError, LogSummary, PackOptions, PackedTotals, PackerOptions, Position,
};
use thresher_store::{Memory, ObjectPath, ObjectStore as _, PutMode};

use crate::fixtures::{faulted, record};
use crate::hooked::{metered, plain};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

async fn overwrite(shared: &Memory, at: &str, bytes: impl Into<Bytes>) {
    shared.put(&path(at), bytes.into(), PutMode::Overwrite).await.unwrap();
}

/// A log of `entries` entries that add one rollout each.
async fn long_log(shared: &Arc<Memory>, entries: u32) {
    let ledger = plain(shared);
    let packer = ledger.packer(PackerOptions::default());
    for seed in 0..entries {
        let record = record(seed);
        let thresher_ledger::Commit::Committed(stored) = ledger.commit(&record, None).await.unwrap() else {
            panic!("nobody else works here");
        };
        packer.add(&record, stored);
        packer.pack().await.unwrap();
    }
}

fn assert_all(summary: &LogSummary, entries: u32) {
    let PackedTotals { rollouts, solved, packs, bytes } = summary.packed();
    let count = u64::from(entries);
    assert_eq!((rollouts, solved, packs), (count, count.div_ceil(3), count));
    assert!(bytes > 0);
    assert_eq!(summary.position(), Position(count));
    assert!((0..entries).all(|seed| summary.is_covered(&record(seed).rollout_id)));
    assert!(!summary.is_covered(&RolloutId::new("none")));
}

#[tokio::test]
async fn l1_a_checkpoint_saves_reading_and_decides_nothing() {
    let shared = Arc::new(Memory::new());
    long_log(&shared, 131).await;
    let first = shared.get(&path("checkpoints/00000064.json.zst")).await.unwrap().bytes;
    let second = shared.get(&path("checkpoints/00000128.json.zst")).await.unwrap().bytes;
    let (store, ledger) = metered(&shared);
    let mut summary = ledger.log_summary().await.unwrap();
    assert_all(&summary, 131);
    // The first entry, the checkpoint, the three entries behind it, and a look for a fourth.
    assert_eq!((store.usage().gets, store.usage().lists), (6, 2));
    summary.refresh().await.unwrap();
    assert_eq!((store.usage().gets, store.usage().lists), (7, 2), "nothing new costs one request");

    let newest = "checkpoints/00000128.json.zst";
    for broken in [Bytes::from_static(b"junk"), second.slice(..second.len() / 2), first] {
        overwrite(&shared, newest, broken).await;
        assert_all(&plain(&shared).log_summary().await.unwrap(), 131);
    }
    for name in ["checkpoints/00000064.json.zst", newest] {
        shared.delete(&path(name)).await.unwrap();
        assert_all(&plain(&shared).log_summary().await.unwrap(), 131);
    }
}

/// G5: but the last two.
#[tokio::test]
async fn checkpoints_that_nobody_needs_are_deleted() {
    let shared = Arc::new(Memory::new());
    for number in [64, 128, 192] {
        overwrite(&shared, &format!("checkpoints/{number:08}.json.zst"), "").await;
    }
    let ledger = plain(&shared);
    let options = GcOptions::at(0);
    let dry = ledger.gc(&GcOptions { dry_run: true, ..options.clone() }).await.unwrap();
    assert_eq!(ledger.gc(&options).await.unwrap(), dry);
    assert_eq!(dry.checkpoints, 1);
    assert_eq!(shared.list("checkpoints/", None).await.unwrap().len(), 2);
}

fn entry(number: u64, format: u32, change: &str) -> String {
    format!(r#"{{"format": {format}, "body": {{"number": {number}, "nonce": "n{number}", {change}}}}}"#)
}

#[tokio::test]
async fn entries_of_format_1_are_read() {
    let shared = Arc::new(Memory::new());
    let results = r#"{"name": "00000000000000aa", "kind": "results", "files": [], "covered": ["r1", "r2"],
        "solved": 1}"#;
    let faults =
        r#"{"name": "00000000000000bb", "kind": "faults", "files": [], "covered": ["r3"], "solved": 0}"#;
    let counts =
        r#"{"planned": 3, "graded": 2, "solved": 1, "faulted": 1, "fault_attempts": 1, "missing": 0}"#;
    let first = format!(r#""added": [{results}], "removed": [], "seal": null"#);
    let seal =
        format!(r#""added": [{faults}], "removed": [], "seal": {{"counts": {counts}, "faults": ["f"]}}"#);
    overwrite(&shared, "log/00000001.json", entry(1, 1, &first)).await;
    overwrite(&shared, "log/00000002.json", entry(2, 1, &seal)).await;
    let summary = plain(&shared).log_summary().await.unwrap();
    assert_eq!(summary.packed(), PackedTotals { rollouts: 2, solved: 1, packs: 1, bytes: 0 });
    assert_eq!(summary.sealed().map(|counts| counts.planned), Some(3));
    assert!(summary.is_covered(&RolloutId::new("r2")) && !summary.is_covered(&RolloutId::new("r3")));
}

#[tokio::test]
async fn a_log_that_no_writers_made_is_damaged() {
    let pack = |name: &str, rollout: &str| {
        format!(
            r#"{{"name": "{name}", "kind": "results", "files": [], "covered": "{rollout}", "solved": 0}}"#
        )
    };
    let adds = |pack: &str| format!(r#""added": [{pack}], "removed": [], "seal": null"#);
    let condemns =
        r#""added": [], "removed": [], "condemned": {"packs": ["b"], "at_unix_s": 1}, "seal": null"#;
    for (entries, expected) in [
        (vec![(1, adds(&pack("a", "r1"))), (2, adds(&pack("b", "r1")))], "covers rollout r1 a second time"),
        (vec![(1, condemns.to_owned()), (2, adds(&pack("b", "r1")))], "adds pack b, which is condemned"),
        (vec![(1, adds(&pack("b", "r1"))), (2, condemns.to_owned())], "condemns pack b, which is part"),
        (vec![(1, adds(&pack("a", "r1"))), (3, adds(&pack("b", "r2")))], "the log has a gap here"),
    ] {
        let shared = Arc::new(Memory::new());
        for (number, change) in entries {
            overwrite(&shared, &format!("log/{number:08}.json"), entry(number, 2, &change)).await;
        }
        let error = plain(&shared).log_summary().await.unwrap_err();
        assert!(error.to_string().starts_with("`log/00000002.json` is damaged: "), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// V4: a view that is older than its files is replaced by a new one.
#[tokio::test]
async fn a_view_whose_files_were_deleted_is_opened_anew() {
    let shared = Arc::new(Memory::new());
    long_log(&shared, 3).await;
    let ledger: Ledger = plain(&shared);
    ledger.save_fault(&faulted(&record(9), 1), None).await.unwrap();
    ledger.seal(&PackOptions::default()).await.unwrap();
    let (view, gone) = (ledger.reader().await.unwrap(), ledger.reader().await.unwrap());
    let expected = view.rollouts().await.unwrap();
    assert_eq!(ledger.compact(&thresher_ledger::CompactOptions::default()).await.unwrap().removed, 3);
    let options = GcOptions { keep: Duration::ZERO, ..GcOptions::at(1) };
    assert_eq!(ledger.gc(&options).await.unwrap().tables.objects, 9);
    assert_eq!(view.rollouts().await.unwrap(), expected);
    let rows = view.batches(thresher_ledger::Table::Rollouts, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 4);

    // Where the log does not explain it, it is said.
    for object in shared.list("tables/", None).await.unwrap() {
        shared.delete(&object.path).await.unwrap();
    }
    let error = gone.rollouts().await.unwrap_err();
    assert!(matches!(error, LedgerError::Outdated { .. }), "{error}");
}
