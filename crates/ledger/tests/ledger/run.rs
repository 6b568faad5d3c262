//! The way of a run: attempts, results, packs, seal, resume; each step of PROTOCOL.md without conflicts.

use arrow_array::cast::AsArray as _;
use thresher_core::{RolloutId, RolloutRecord};
use thresher_ledger::{
    Commit, Ledger, LedgerError, Manifest, OutcomeCounts, PackOptions, PackWhen, Packed, RolloutSummary,
    Table,
};

use crate::fixtures::{dataset, faulted, local, memory, plan, record, records, spec};

/// Packs of about two records.
fn small() -> PackOptions {
    PackOptions { raw_bytes: 8_000, when: PackWhen::Always }
}

async fn rows(ledger: &Ledger, table: Table) -> usize {
    let batches = ledger.reader().await.unwrap().batches(table, &[]).await.unwrap();
    batches.iter().map(|batch| batch.num_rows()).sum()
}

fn solved(records: &[RolloutRecord]) -> u64 {
    records.iter().filter(|record| record.outcome.is_solved()).count() as u64
}

fn files(manifest: &Manifest, table: &str) -> u64 {
    manifest.files.iter().filter(|file| file.table == table).map(|file| file.rows).sum()
}

/// R1, A2 to A4.
#[tokio::test]
async fn results_and_attempts_are_kept_apart() {
    let ledger = memory();
    let graded = record(1);
    let (shard, rollout) = (&graded.shard_id, &graded.rollout_id);
    let fault = faulted(&graded, 1);
    assert!(matches!(ledger.commit(&fault, None).await, Err(LedgerError::NotGraded(_))));
    assert!(matches!(ledger.save_fault(&graded, None).await, Err(LedgerError::NotFaulted(_))));
    assert_eq!(ledger.attempts(shard, rollout).await.unwrap().next, 1);

    ledger.save_fault(&fault, None).await.unwrap();
    ledger.save_fault(&fault, None).await.unwrap();
    ledger.save_ungraded(shard, rollout, 2, "n2", &graded.steps).await.unwrap();
    let attempts = ledger.attempts(shard, rollout).await.unwrap();
    assert_eq!((attempts.faults.len(), attempts.ungraded, attempts.next), (1, true, 3));
    assert_eq!(attempts.faults[0].fault.message, "the daemon went away");
    let listed = ledger.all_attempts().await.unwrap();
    assert_eq!((listed.len(), listed[rollout].faults, listed[rollout].next), (1, 1, 3));
    let ungraded = ledger.load_ungraded::<Vec<_>>(shard, rollout).await.unwrap().unwrap();
    assert_eq!((ungraded.attempt, ungraded.nonce.as_str(), ungraded.body), (2, "n2", graded.steps.clone()));

    assert_eq!(ledger.result(shard, rollout).await.unwrap(), None);
    let commit = ledger.commit(&graded, None).await.unwrap();
    assert!(commit.is_committed());
    assert_eq!(ledger.commit(&graded, None).await.unwrap(), commit, "an own write is recognized");
    let mut rival = graded.clone();
    rival.nonce = "rival".into();
    assert_eq!(ledger.commit(&rival, None).await.unwrap(), Commit::AlreadyCommitted);
    assert_eq!(ledger.result(shard, rollout).await.unwrap(), Some(graded.clone()));
    assert_eq!(ledger.committed().await.unwrap().keys().collect::<Vec<_>>(), [rollout]);
}

/// R1 and A4: what a grading run printed lies behind its record.
#[tokio::test]
async fn a_graders_log_is_kept_with_the_record_that_names_it() {
    let ledger = memory();
    let (graded, fault) = (record(1), faulted(&record(2), 1));
    ledger.commit(&graded, Some(b"1 passed\n")).await.unwrap();
    ledger.save_fault(&fault, Some(b"killed")).await.unwrap();
    let kept = ledger.result(&graded.shard_id, &graded.rollout_id).await.unwrap().unwrap();
    let path = format!("results/{}/{}", graded.shard_id, graded.rollout_id);
    assert_eq!(kept.grader_log.as_deref(), Some(&*path));
    assert_eq!(*ledger.load_grader_log(&path).await.unwrap(), *b"1 passed\n");
    let reader = ledger.reader().await.unwrap();
    let kept = reader.record(&fault.rollout_id).await.unwrap().unwrap();
    let path = kept.grader_log.clone().unwrap();
    assert!(path.ends_with(".fault.json.zst"), "{path}");
    assert_eq!(*ledger.load_grader_log(&path).await.unwrap(), *b"killed");
    assert_eq!(RolloutRecord { grader_log: None, ..kept }, fault);

    let without = record(3);
    ledger.commit(&without, None).await.unwrap();
    let path = format!("results/{}/{}", without.shard_id, without.rollout_id);
    let error = ledger.load_grader_log(&path).await.unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    ledger.pack(&PackOptions::default()).await.unwrap();
    assert_eq!(ledger.reader().await.unwrap().rollouts().await.unwrap().len(), 3);
}

/// A run of format 1 has logs of their own.
#[tokio::test]
async fn a_graders_log_of_its_own_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = "attempts/a/b/c.grader.log.zst";
    std::fs::create_dir_all(dir.path().join("attempts/a/b")).unwrap();
    std::fs::write(dir.path().join(path), zstd::encode_all(&b"2 passed"[..], 3).unwrap()).unwrap();
    assert_eq!(*local(dir.path()).load_grader_log(path).await.unwrap(), *b"2 passed");
}

/// K1 to S5 and V1 to V4 over one run: nothing, part, all of it packed; sealed; retried; extended; sealed again.
#[tokio::test]
async fn a_run_reads_the_same_packed_or_not_and_goes_on_after_sealing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = local(dir.path());
    let plan_1 = plan(5, 0..2);
    ledger.extend_plan(&spec(2), &dataset(), &plan_1).await.unwrap();
    let all = records(&plan_1);
    let (graded, faults) = all.split_at(8);
    for record in graded {
        ledger.commit(record, None).await.unwrap();
    }
    for attempt in [1, 2] {
        ledger.save_fault(&faulted(&faults[0], attempt), None).await.unwrap();
        ledger.save_fault(&faulted(&graded[0], attempt), None).await.unwrap();
    }
    let before = ledger.reader().await.unwrap();
    let expected = before.rollouts().await.unwrap();
    assert_eq!((before.position(), before.is_sealed(), expected.len()), (0, false, 9));
    assert_eq!(expected.iter().filter(|row| row.outcome.reward().is_none()).count(), 1);
    let last = expected.iter().find(|row| row.rollout_id == faults[0].rollout_id).unwrap();
    assert_eq!(*last, RolloutSummary::of(&faulted(&faults[0], 2)));
    let steps: usize = graded.iter().chain(&faults[..1]).map(|record| record.steps.len()).sum();
    for (table, count) in
        [(Table::Rollouts, 9), (Table::Steps, steps), (Table::TestResults, 16), (Table::Faults, 4)]
    {
        assert_eq!(rows(&ledger, table).await, count, "{table:?}");
    }

    let packed = ledger.pack(&small()).await.unwrap();
    assert!(packed.packs >= 3 && packed.rollouts == 8, "{packed:?}");
    assert_eq!(ledger.reader().await.unwrap().rollouts().await.unwrap(), expected);
    assert_eq!(rows(&ledger, Table::Steps).await, steps);

    let manifest = ledger.seal(&small()).await.unwrap();
    let counts = OutcomeCounts {
        planned: 10,
        graded: 8,
        solved: solved(graded),
        faulted: 1,
        fault_attempts: 4,
        missing: 1,
    };
    assert_eq!(manifest.counts, counts);
    assert_eq!((files(&manifest, "rollouts"), files(&manifest, "faults")), (9, 4));
    assert_eq!(files(&manifest, "steps") as usize, steps);
    assert_eq!(ledger.seal(&small()).await.unwrap(), manifest, "sealing twice changes nothing");
    assert_eq!(ledger.manifest().await.unwrap(), Some(manifest.clone()));
    let sealed = ledger.reader().await.unwrap();
    assert!(sealed.is_sealed() && sealed.position() == manifest.log_position);
    assert_eq!(sealed.rollouts().await.unwrap(), expected);
    assert_eq!(rows(&ledger, Table::Faults).await, 4);

    // The faulted rollout succeeds at last, and more samples are asked for.
    for record in faults {
        ledger.commit(record, None).await.unwrap();
    }
    let open = ledger.reader().await.unwrap();
    assert!(!open.is_sealed());
    assert_eq!(open.rollouts().await.unwrap().len(), 10);
    let plan_2 = ledger.extend_plan(&spec(3), &dataset(), &plan(5, 0..3)).await.unwrap().plan;
    let done = ledger.committed().await.unwrap();
    for record in records(&plan_2).iter().filter(|record| !done.contains_key(&record.rollout_id)) {
        ledger.commit(record, None).await.unwrap();
    }
    let manifest = ledger.seal(&PackOptions::default()).await.unwrap();
    let counts = OutcomeCounts {
        planned: 15,
        graded: 15,
        solved: solved(&records(&plan_2)),
        faulted: 0,
        fault_attempts: 4,
        missing: 0,
    };
    assert_eq!(manifest.counts, counts);
    assert_eq!((files(&manifest, "rollouts"), files(&manifest, "faults")), (15, 4));
    let whole = ledger.reader().await.unwrap();
    let mut expected: Vec<_> = records(&plan_2).iter().map(RolloutSummary::of).collect();
    expected.sort_by(|a, b| (&a.instance_id, a.sample).cmp(&(&b.instance_id, b.sample)));
    assert_eq!(whole.rollouts().await.unwrap(), expected);
    assert_eq!(whole.faults().await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_reader_finds_one_rollout_by_a_part_of_its_id() {
    let ledger = memory();
    let (graded, other) = (record(1), record(2));
    ledger.commit(&graded, None).await.unwrap();
    ledger.save_fault(&faulted(&other, 1), None).await.unwrap();
    ledger.save_fault(&faulted(&other, 2), None).await.unwrap();
    let reader = ledger.reader().await.unwrap();
    assert_eq!(reader.matching("0000"), [graded.rollout_id.clone(), other.rollout_id.clone()]);
    assert_eq!(reader.matching(other.rollout_id.as_str()), std::slice::from_ref(&other.rollout_id));
    assert_eq!(reader.matching("f"), []);
    assert_eq!(reader.record(&graded.rollout_id).await.unwrap(), Some(graded));
    assert_eq!(reader.record(&other.rollout_id).await.unwrap(), Some(faulted(&other, 2)));
    assert_eq!(reader.record(&RolloutId::new("none")).await.unwrap(), None);
}

/// A packer that waits for full packs packs nothing small, and everything large.
#[tokio::test]
async fn waiting_for_full_packs_depends_on_what_has_come_together() {
    let ledger = memory();
    for seed in 0..10 {
        ledger.commit(&record(seed), None).await.unwrap();
    }
    let stored: u64 = ledger.committed().await.unwrap().values().map(|result| result.bytes).sum();
    let full = |raw_bytes| PackOptions { raw_bytes, when: PackWhen::Full };
    // Stored results are taken to be a fifth of their raw size.
    assert_eq!(ledger.pack(&full(stored * 5 + 1)).await.unwrap(), Packed::default());
    assert!(ledger.pack(&full(stored * 5)).await.unwrap().packs >= 1);
}

/// Every cell of every table is what the record says, packed or read from the result.
#[tokio::test]
async fn packed_rows_equal_unpacked_rows() {
    let ledger = memory();
    let mut all: Vec<_> = (0..8).map(record).collect();
    all[5].patch = None;
    all[6].steps.clear();
    for record in &all {
        ledger.commit(record, None).await.unwrap();
    }
    for table in [Table::Rollouts, Table::Steps, Table::TestResults] {
        let loose = ledger.reader().await.unwrap().batches(table, &[]).await.unwrap();
        let loose = concat(&loose);
        let packing = memory();
        for record in &all {
            packing.commit(record, None).await.unwrap();
        }
        packing.pack(&PackOptions::default()).await.unwrap();
        let packed = packing.reader().await.unwrap().batches(table, &[]).await.unwrap();
        assert_eq!(packed.len(), 1);
        assert_eq!(packed[0].schema().fields(), table.schema().fields());
        assert_eq!(format!("{:?}", concat(&packed)), format!("{loose:?}"), "{table:?}");
    }
    let reader = ledger.reader().await.unwrap();
    let narrow = reader.batches(Table::Rollouts, &["rollout_id", "patch_lossy"]).await.unwrap();
    assert_eq!(narrow[0].num_columns(), 2);
    assert!(narrow[0].column_by_name("patch_lossy").unwrap().as_boolean().value(0));
}

/// Rows of several batches, column by column.
fn concat(batches: &[arrow_array::RecordBatch]) -> Vec<Vec<String>> {
    let columns = batches[0].num_columns();
    let cell = |column: &arrow_array::ArrayRef, row| format!("{:?}", column.slice(row, 1));
    (0..columns)
        .map(|at| {
            let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
            rows.map(|(batch, row)| cell(batch.column(at), row)).collect()
        })
        .collect()
}
