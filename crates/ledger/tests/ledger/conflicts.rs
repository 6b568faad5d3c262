//! Every conflict branch of PROTOCOL.md, with the other writer acting at the worst instant.

use std::collections::BTreeSet;
use std::sync::Arc;

use thresher_core::{RolloutId, RolloutRecord};
use thresher_ledger::{Commit, Ledger, PackOptions, Packed, RunLock};
use thresher_store::{Memory, ObjectStore as _};

use crate::fixtures::{dataset, faulted, plan, record, spec};
use crate::hooked::{Trouble, blind, plain, troubled};

/// A store with the results of six rollouts.
pub(crate) async fn six() -> (Arc<Memory>, Vec<RolloutRecord>) {
    let shared = Arc::new(Memory::new());
    let records: Vec<RolloutRecord> = (0..6).map(record).collect();
    for record in &records {
        plain(&shared).commit(record, None).await.unwrap();
    }
    (shared, records)
}

pub(crate) async fn pack(ledger: Ledger) -> Packed {
    ledger.pack(&PackOptions::default()).await.unwrap()
}

pub(crate) async fn count(shared: &Memory, prefix: &str) -> usize {
    shared.list(prefix, None).await.unwrap().len()
}

/// Every rollout is in the run once, and every file below `tables/` is part of it.
pub(crate) async fn assert_whole(shared: &Arc<Memory>, rollouts: usize) {
    let manifest = plain(shared).seal(&PackOptions::default()).await.unwrap();
    let named: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let stored = shared.list("tables/", None).await.unwrap();
    assert_eq!(named, stored.iter().map(|object| object.path.as_str()).collect::<BTreeSet<_>>());
    let rows = plain(shared).reader().await.unwrap().rollouts().await.unwrap();
    let ids: BTreeSet<&RolloutId> = rows.iter().map(|row| &row.rollout_id).collect();
    assert_eq!((rows.len(), ids.len()), (rollouts, rollouts));
    assert_eq!(manifest.counts.graded + manifest.counts.faulted, rollouts as u64);
}

#[tokio::test]
async fn k3_a_pack_goes_behind_entries_that_cover_none_of_it() {
    let (shared, records) = six().await;
    let late = record(10);
    let other = blind(&shared, &records);
    let act = Trouble::before(move || async move {
        other.commit(&late, None).await.unwrap();
        assert_eq!(pack(other).await, Packed { packs: 1, rollouts: 1 });
    });
    assert_eq!(pack(troubled(&shared, "log/", act)).await, Packed { packs: 1, rollouts: 6 });
    assert_eq!(count(&shared, "log/").await, 2);
    assert_whole(&shared, 7).await;
}

#[tokio::test]
async fn k3_a_pack_that_is_covered_in_whole_or_part_is_dropped_and_made_again() {
    for covered_by_other in [6, 2] {
        let (shared, records) = six().await;
        let other = blind(&shared, &records[covered_by_other..]);
        let act = Trouble::before(move || async move {
            assert_eq!(pack(other).await.rollouts, covered_by_other as u64);
        });
        let ours = pack(troubled(&shared, "log/", act)).await;
        assert_eq!(ours.rollouts, 6 - covered_by_other as u64);
        assert_whole(&shared, 6).await;
    }
}

#[tokio::test]
async fn k2_files_of_a_packer_that_died_are_no_part_of_the_run() {
    let (shared, _) = six().await;
    let dead = troubled(&shared, "log/", Trouble::Crash).pack(&PackOptions::default()).await;
    assert!(dead.is_err());
    assert_eq!((count(&shared, "tables/").await, count(&shared, "log/").await), (3, 0));
    let manifest = plain(&shared).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((manifest.files.len(), manifest.counts.graded), (3, 6));
    assert_eq!(count(&shared, "tables/").await, 6, "orphans stay, unnamed");

    let dir = tempfile::tempdir().unwrap();
    let lock = RunLock::acquire(dir.path()).unwrap();
    let ledger = plain(&shared);
    assert_eq!(ledger.sweep(&lock).await.unwrap(), 3, "the holder of the run's lock deletes them");
    assert_eq!(ledger.sweep(&lock).await.unwrap(), 0, "and nothing else");
    assert_whole(&shared, 6).await;
    assert_eq!(plain(&shared).reader().await.unwrap().rollouts().await.unwrap().len(), 6);
}

#[tokio::test]
async fn l2_r1_a_lost_acknowledgement_is_no_lost_race() {
    let (shared, _) = six().await;
    let packed = pack(troubled(&shared, "log/", Trouble::LostAcknowledgement)).await;
    assert_eq!(packed, Packed { packs: 1, rollouts: 6 });
    assert_eq!(count(&shared, "log/").await, 1);

    let mut late = record(10);
    let commit =
        troubled(&shared, "results/", Trouble::LostAcknowledgement).commit(&late, None).await.unwrap();
    assert!(commit.is_committed());
    late.nonce = "rival".into();
    assert_eq!(plain(&shared).commit(&late, None).await.unwrap(), Commit::AlreadyCommitted);
    assert_whole(&shared, 7).await;
}

#[tokio::test]
async fn r1_of_two_attempts_that_end_at_once_one_counts() {
    let shared = Arc::new(Memory::new());
    let (ours, mut theirs) = (record(3), record(3));
    theirs.nonce = "theirs".into();
    let (other, rival) = (plain(&shared), theirs.clone());
    let act = Trouble::before(move || async move {
        assert!(other.commit(&rival, None).await.unwrap().is_committed());
    });
    assert_eq!(
        troubled(&shared, "results/", act).commit(&ours, None).await.unwrap(),
        Commit::AlreadyCommitted
    );
    let kept = plain(&shared).result(&ours.shard_id, &ours.rollout_id).await.unwrap();
    assert_eq!(kept, Some(theirs));
    assert_whole(&shared, 1).await;
}

#[tokio::test]
async fn p4_a_planner_that_died_blocks_nobody() {
    for (samples, segment, objects) in [(2, 1, 2), (3, 2, 4)] {
        let shared = Arc::new(Memory::new());
        let dead = troubled(&shared, "plan/00000001.json", Trouble::Crash);
        dead.extend_plan(&spec(2), &dataset(), &plan(4, 0..2)).await.unwrap_err();
        assert_eq!(plain(&shared).plan().await.unwrap(), None, "rows without their JSON are no plan");
        let wanted = plan(4, 0..samples);
        let stored = plain(&shared).extend_plan(&spec(samples), &dataset(), &wanted).await.unwrap();
        assert_eq!((&stored.plan, stored.segment), (&wanted, segment));
        assert_eq!(count(&shared, "plan/").await, objects);
    }
}

#[tokio::test]
async fn p5_planners_at_once_agree() {
    for theirs in [2, 3] {
        let shared = Arc::new(Memory::new());
        let other = plain(&shared);
        let act = Trouble::before(move || async move {
            other.extend_plan(&spec(theirs), &dataset(), &plan(4, 0..theirs)).await.unwrap();
        });
        let ours = troubled(&shared, "plan/00000001.json", act);
        let stored = ours.extend_plan(&spec(2), &dataset(), &plan(4, 0..2)).await.unwrap();
        assert_eq!(stored.plan.rollout_count(), 4 * theirs as usize);
        assert_eq!(plain(&shared).plan().await.unwrap(), Some(stored));
    }
}

#[tokio::test]
async fn s4_a_result_that_comes_while_sealing_is_sealed_too() {
    let (shared, _) = six().await;
    let fault = faulted(&record(10), 1);
    plain(&shared).save_fault(&fault, None).await.unwrap();
    pack(plain(&shared)).await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        other.commit(&record(10), None).await.unwrap();
        pack(other).await;
    });
    let manifest = troubled(&shared, "log/", act).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((manifest.counts.graded, manifest.counts.faulted, manifest.counts.fault_attempts), (7, 0, 1));
    assert_whole(&shared, 7).await;
}

#[tokio::test]
async fn s2_a_run_whose_plan_grew_is_not_sealed_any_more() {
    let shared = Arc::new(Memory::new());
    let ledger = plain(&shared);
    for (samples, planned) in [(1, 4), (2, 8)] {
        ledger.extend_plan(&spec(samples), &dataset(), &plan(4, 0..samples)).await.unwrap();
        let manifest = ledger.seal(&PackOptions::default()).await.unwrap();
        assert_eq!((manifest.counts.planned, manifest.counts.missing), (planned, planned));
        assert_eq!(ledger.seal(&PackOptions::default()).await.unwrap(), manifest);
    }
    assert_eq!(count(&shared, "log/").await, 2);
}

#[tokio::test]
async fn s5_the_manifest_is_of_the_latest_seal() {
    let (shared, _) = six().await;
    let dead = troubled(&shared, "manifest.json", Trouble::Crash).seal(&PackOptions::default()).await;
    assert!(dead.is_err());
    assert_eq!(plain(&shared).manifest().await.unwrap(), None);
    let entries = count(&shared, "log/").await;
    let first = plain(&shared).seal(&PackOptions::default()).await.unwrap();
    assert_eq!(count(&shared, "log/").await, entries, "the seal was there already");

    plain(&shared).commit(&record(10), None).await.unwrap();
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        other.commit(&record(11), None).await.unwrap();
        other.seal(&PackOptions::default()).await.unwrap();
    });
    let late = troubled(&shared, "manifest.json", act).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((first.counts.graded, late.counts.graded), (6, 8));
    assert_eq!(plain(&shared).manifest().await.unwrap(), Some(late));
    assert_whole(&shared, 8).await;
}

#[tokio::test]
async fn v3_a_view_stays_as_it_is_while_the_run_goes_on() {
    let (shared, _) = six().await;
    plain(&shared).save_fault(&faulted(&record(10), 1), None).await.unwrap();
    let view = plain(&shared).reader().await.unwrap();
    let before = view.rollouts().await.unwrap();
    plain(&shared).seal(&PackOptions::default()).await.unwrap();
    plain(&shared).commit(&record(10), None).await.unwrap();
    plain(&shared).commit(&record(11), None).await.unwrap();
    plain(&shared).seal(&PackOptions::default()).await.unwrap();
    assert_eq!(view.rollouts().await.unwrap(), before);
    assert_eq!(before.len(), 7);
    assert_whole_after_faults(&shared).await;
}

/// The fault rows of the first seal left the run, and their files stay for views of that position.
async fn assert_whole_after_faults(shared: &Arc<Memory>) {
    let rows = plain(shared).reader().await.unwrap().rollouts().await.unwrap();
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|row| row.outcome.reward().is_some()));
}
