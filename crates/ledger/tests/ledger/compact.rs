//! M1 to M4: small packs are merged, and no row is lost, doubled or changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thresher_ledger::{
    CompactOptions, Compacted, GcOptions, Ledger, LedgerError, PackOptions, PackWhen, RolloutSummary,
};
use thresher_store::{Memory, ObjectStore as _};

use crate::conflicts::{count, pack};
use crate::fixtures::{faulted, record};
use crate::hooked::{Trouble, plain, troubled};

/// A store with `packs` packs of one rollout each.
async fn small_packs(packs: u32) -> Arc<Memory> {
    let shared = Arc::new(Memory::new());
    for seed in 0..packs {
        plain(&shared).commit(&record(seed), Some(b"1 passed")).await.unwrap();
        assert_eq!(pack(plain(&shared)).await.rollouts, 1);
    }
    shared
}

async fn compact(ledger: &Ledger) -> Compacted {
    ledger.compact(&CompactOptions::default()).await.unwrap()
}

async fn rows(shared: &Arc<Memory>) -> Vec<RolloutSummary> {
    plain(shared).reader().await.unwrap().rollouts().await.unwrap()
}

async fn packs(shared: &Arc<Memory>) -> u64 {
    plain(shared).log_summary().await.unwrap().packed().packs
}

async fn collect(ledger: &Ledger) {
    ledger.gc(&GcOptions { keep: Duration::ZERO, ..GcOptions::at(1) }).await.unwrap();
}

/// After a collection, the tables hold the files of the run and no others.
async fn assert_rows(shared: &Arc<Memory>, rollouts: usize) {
    let found = rows(shared).await;
    let ids: BTreeSet<_> = found.iter().map(|row| &row.rollout_id).collect();
    assert_eq!((found.len(), ids.len()), (rollouts, rollouts));
    collect(&plain(shared)).await;
    assert_eq!(count(shared, "tables/").await as u64, 3 * packs(shared).await);
    assert_eq!(rows(shared).await, found);
}

#[tokio::test]
async fn m1_to_m4_merge_small_packs_by_one_entry() {
    let shared = small_packs(5).await;
    let before = rows(&shared).await;
    let ledger = plain(&shared);
    assert_eq!(compact(&ledger).await, Compacted { removed: 5, added: 1, rollouts: 5 });
    assert_eq!((packs(&shared).await, count(&shared, "log/").await), (1, 6));
    assert_eq!(rows(&shared).await, before);
    assert_eq!(compact(&ledger).await, Compacted::default(), "one pack is not many");
    assert_rows(&shared, 5).await;
}

/// Packs of at least a quarter of the size stay, and a merged one is not much above it.
#[tokio::test]
async fn m1_only_small_packs_are_merged() {
    let shared = small_packs(9).await;
    let tiny = CompactOptions { raw_bytes: 4, at_least: 2 };
    assert_eq!(plain(&shared).compact(&tiny).await.unwrap(), Compacted::default());
    let many = CompactOptions { raw_bytes: 128 << 20, at_least: 10 };
    assert_eq!(plain(&shared).compact(&many).await.unwrap(), Compacted::default());
    let some = CompactOptions { raw_bytes: 20_000, at_least: 2 };
    let Compacted { removed, added, .. } = plain(&shared).compact(&some).await.unwrap();
    assert_eq!((removed, added, packs(&shared).await), (6, 1, 4), "three are not small");
    assert_rows(&shared, 9).await;
}

#[tokio::test]
async fn m1_a_merge_ends_at_about_one_pack() {
    let shared = small_packs(9).await;
    let options = CompactOptions { raw_bytes: 26_000, at_least: 2 };
    let Compacted { removed, added, .. } = plain(&shared).compact(&options).await.unwrap();
    assert_eq!((removed, added, packs(&shared).await), (9, 2, 2));
    assert_rows(&shared, 9).await;
}

#[tokio::test]
async fn m3_a_merge_goes_behind_entries_that_leave_its_packs() {
    let shared = small_packs(3).await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        other.commit(&record(10), None).await.unwrap();
        pack(other).await;
    });
    let compacted = compact(&troubled(&shared, "log/", act)).await;
    assert_eq!(compacted, Compacted { removed: 5, added: 2, rollouts: 7 }, "the new one is small too");
    assert_rows(&shared, 4).await;
}

#[tokio::test]
async fn m3_of_two_merges_of_the_same_packs_one_counts() {
    let shared = small_packs(3).await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        assert_eq!(compact(&other).await.added, 1);
        collect(&other).await;
    });
    assert_eq!(compact(&troubled(&shared, "log/", act)).await, Compacted::default());
    assert_eq!(packs(&shared).await, 1);
    assert_rows(&shared, 3).await;
}

#[tokio::test]
async fn m3_a_merge_that_was_condemned_is_made_again() {
    let shared = small_packs(3).await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move { collect(&other).await });
    assert_eq!(compact(&troubled(&shared, "log/", act)).await.added, 1);
    assert_rows(&shared, 3).await;
}

#[tokio::test]
async fn m2_a_pack_that_was_merged_and_deleted_meanwhile_is_read_from_the_log_again() {
    let shared = small_packs(3).await;
    let other = plain(&shared);
    let act = Trouble::before_read(move || async move {
        compact(&other).await;
        collect(&other).await;
    });
    assert_eq!(compact(&troubled(&shared, "tables/", act)).await, Compacted::default());
    assert_rows(&shared, 3).await;

    let shared = small_packs(2).await;
    for object in shared.list("tables/", None).await.unwrap() {
        shared.delete(&object.path).await.unwrap();
    }
    let error = plain(&shared).compact(&CompactOptions::default()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Outdated { .. }), "nothing explains it: {error}");
}

#[tokio::test]
async fn m4_a_sealed_run_stays_sealed_and_its_manifest_lists_the_merged_pack() {
    let shared = small_packs(3).await;
    let ledger = plain(&shared);
    ledger.save_fault(&faulted(&record(9), 1), None).await.unwrap();
    let sealed = ledger.seal(&PackOptions::default()).await.unwrap();
    let before = rows(&shared).await;
    assert_eq!(compact(&ledger).await.removed, 3);
    let manifest = ledger.manifest().await.unwrap().unwrap();
    assert_eq!((manifest.log_position, manifest.counts), (sealed.log_position + 1, sealed.counts));
    assert_eq!(manifest.files.len(), sealed.files.len() - 6);
    assert!(ledger.reader().await.unwrap().is_sealed());
    assert_eq!(ledger.seal(&PackOptions::default()).await.unwrap(), manifest);
    collect(&ledger).await;
    assert!(ledger.reader().await.unwrap().is_sealed(), "a collection leaves the rows as they are");
    let named: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let stored = shared.list("tables/", None).await.unwrap();
    assert_eq!(named, stored.iter().map(|object| object.path.as_str()).collect());
    assert_eq!(rows(&shared).await, before);
}

#[tokio::test]
async fn s1_a_sealing_merges_many_small_packs() {
    for (small, left) in [(7, 7), (8, 1)] {
        let shared = small_packs(small).await;
        let options = PackOptions { raw_bytes: 128 << 20, when: PackWhen::Always };
        let manifest = plain(&shared).seal(&options).await.unwrap();
        assert_eq!((packs(&shared).await, manifest.counts.graded), (left, u64::from(small)));
        assert_rows(&shared, small as usize).await;
    }
}
