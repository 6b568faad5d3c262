//! S5 beside G2: whatever is deleted, every file that `manifest.json` lists is there.

use std::sync::Arc;
use std::time::Duration;

use thresher_ledger::{Deleted, GcOptions, GcReport, Ledger, PackOptions};
use thresher_store::{Memory, ObjectPath, ObjectStore as _};

use crate::conflicts::{assert_whole, pack, six};
use crate::fixtures::{faulted, record};
use crate::hooked::{Trouble, plain, troubled};

async fn collect(ledger: &Ledger) -> GcReport {
    ledger.gc(&GcOptions { keep: Duration::ZERO, ..GcOptions::at(0) }).await.unwrap()
}

/// Six results and a rollout that has only a fault.
async fn six_and_a_fault() -> Arc<Memory> {
    let (shared, _) = six().await;
    plain(&shared).save_fault(&faulted(&record(10), 1), None).await.unwrap();
    shared
}

/// The rollout gets its result, which is packed: the rows of its fault are no part of the run any more.
async fn go_on(shared: &Arc<Memory>) {
    plain(shared).commit(&record(10), None).await.unwrap();
    assert_eq!(pack(plain(shared)).await.rollouts, 1);
}

async fn assert_manifest_is_whole(shared: &Arc<Memory>) {
    for file in plain(shared).manifest().await.unwrap().unwrap().files {
        let path = ObjectPath::parse(file.path).unwrap();
        assert_eq!(shared.head(&path).await.unwrap().size, file.bytes);
    }
}

async fn seal_and_collect(shared: &Arc<Memory>) {
    let manifest = plain(shared).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((manifest.counts.graded, manifest.counts.faulted), (7, 0));
    assert_eq!(collect(&plain(shared)).await.tables.objects, 3, "the fault rows of the first sealing");
    assert_manifest_is_whole(shared).await;
    assert_whole(shared, 7).await;
}

#[tokio::test]
async fn g2_s5_a_sealer_that_was_frozen_before_its_manifest_lists_no_file_that_is_gone() {
    let shared = six_and_a_fault().await;
    let other = shared.clone();
    let act = Trouble::before(move || async move {
        go_on(&other).await;
        assert_eq!(collect(&plain(&other)).await.tables, Deleted::default());
    });
    let late = troubled(&shared, "manifest.json", act).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((late.counts.graded, late.counts.faulted), (6, 1));
    assert_manifest_is_whole(&shared).await;
    seal_and_collect(&shared).await;
}

#[tokio::test]
async fn g2_s5_a_sealer_that_died_before_its_manifest_gets_it_from_the_collector() {
    let shared = six_and_a_fault().await;
    troubled(&shared, "manifest.json", Trouble::Crash).seal(&PackOptions::default()).await.unwrap_err();
    go_on(&shared).await;
    let look = GcOptions { dry_run: true, ..GcOptions::at(0) };
    assert_eq!(plain(&shared).gc(&look).await.unwrap(), GcReport::default());
    assert_eq!(plain(&shared).manifest().await.unwrap(), None, "it only looked");
    assert_eq!(collect(&plain(&shared)).await, GcReport::default());
    assert_eq!(plain(&shared).manifest().await.unwrap().unwrap().counts.graded, 6);
    assert_manifest_is_whole(&shared).await;
    seal_and_collect(&shared).await;
}

#[tokio::test]
async fn g2_a_manifest_that_comes_while_packs_are_condemned_is_heeded() {
    let shared = six_and_a_fault().await;
    // Something to condemn, so that there is an entry to be late with.
    troubled(&shared, "log/", Trouble::Crash).pack(&PackOptions::default()).await.unwrap_err();
    let other = shared.clone();
    let act = Trouble::before(move || async move {
        troubled(&other, "manifest.json", Trouble::Crash).seal(&PackOptions::default()).await.unwrap_err();
        go_on(&other).await;
    });
    let report = troubled(&shared, "log/", act).gc(&GcOptions::at(0)).await.unwrap();
    assert_eq!(report.condemned, 1);
    assert_manifest_is_whole(&shared).await;
}
