//! G1 to G6: what is deleted was condemned first, and nothing that is named, now or later, is deleted.

use std::sync::Arc;
use std::time::Duration;

use thresher_core::{RolloutRecord, ShardId};
use thresher_ledger::{CompactOptions, Deleted, GcOptions, GcReport, Ledger, PackOptions, Packed};
use thresher_store::{Memory, ObjectPath, ObjectStore as _, PutMode};
use tokio::sync::oneshot;

use crate::conflicts::{assert_whole, count, pack, six};
use crate::fixtures::{faulted, record};
use crate::hooked::{Trouble, blind, plain, troubled};

const DAY: i64 = 24 * 60 * 60;

fn at_once(now_unix_s: i64) -> GcOptions {
    GcOptions { keep: Duration::ZERO, ..GcOptions::at(now_unix_s) }
}

/// Three packs of two rollouts each, merged into one.
async fn merged() -> (Arc<Memory>, Vec<RolloutRecord>) {
    let (shared, records) = six().await;
    for known in [2, 4, 6] {
        assert_eq!(pack(blind(&shared, &records[known..])).await.rollouts, 2);
    }
    let compacted = plain(&shared).compact(&CompactOptions::default()).await.unwrap();
    assert_eq!(compacted.removed, 3);
    (shared, records)
}

#[tokio::test]
async fn g3_and_g4_files_stay_for_their_time_after_they_were_condemned() {
    let (shared, _) = merged().await;
    let ledger = plain(&shared);
    let dry = GcOptions { dry_run: true, ..GcOptions::at(DAY) };
    let found = ledger.gc(&dry).await.unwrap();
    assert_eq!((found.condemned, found.kept.objects, found.tables), (3, 9, Deleted::default()));
    assert_eq!((count(&shared, "tables/").await, count(&shared, "log/").await), (12, 4), "it only looked");

    assert_eq!(ledger.gc(&GcOptions::at(DAY)).await.unwrap(), found);
    assert_eq!(count(&shared, "log/").await, 5);
    for day in [0, 2, 7] {
        let early = ledger.gc(&GcOptions::at(day * DAY)).await.unwrap();
        assert_eq!((early.condemned, early.kept.objects, early.tables.objects), (0, 9, 0), "day {day}");
    }
    let late = ledger.gc(&GcOptions::at(8 * DAY)).await.unwrap();
    assert_eq!((late.kept, late.tables), (Deleted::default(), found.kept));
    assert_eq!((count(&shared, "tables/").await, count(&shared, "log/").await), (3, 5));
    assert_eq!(ledger.gc(&GcOptions::at(9 * DAY)).await.unwrap(), GcReport::default());
    assert_whole(&shared, 6).await;
}

/// G4: also what the author of a condemned pack writes after it was condemned.
#[tokio::test]
async fn g4_late_files_of_a_condemned_pack_go_too() {
    let (shared, _) = six().await;
    troubled(&shared, "log/", Trouble::Crash).pack(&PackOptions::default()).await.unwrap_err();
    let files = shared.list("tables/", None).await.unwrap();
    let ledger = plain(&shared);
    assert_eq!(ledger.gc(&at_once(DAY)).await.unwrap().tables.objects, 3);
    shared.put(&files[0].path, "late".into(), PutMode::Create).await.unwrap();
    let others = ObjectPath::parse("tables/rollouts/somebodys.parquet").unwrap();
    shared.put(&others, "not ours".into(), PutMode::Create).await.unwrap();
    let report = ledger.gc(&at_once(DAY)).await.unwrap();
    assert_eq!((report.condemned, report.tables), (0, Deleted { objects: 1, bytes: 4 }));
    shared.delete(&others).await.expect("what is not ours is left alone");
    assert_whole(&shared, 6).await;
}

/// G3: a packer that was stopped between its files and its entry gets the entry in just before it would be condemned.
#[tokio::test]
async fn g3_a_pack_that_is_named_first_is_not_condemned() {
    let (shared, _) = six().await;
    let (frozen, is_frozen) = oneshot::channel();
    let (thaw, thawed) = oneshot::channel();
    let act = Trouble::before(move || async move {
        frozen.send(()).unwrap();
        thawed.await.unwrap();
    });
    let packer = tokio::spawn(pack(troubled(&shared, "log/", act)));
    is_frozen.await.unwrap();
    assert_eq!(count(&shared, "tables/").await, 3);
    let act = Trouble::before(move || async move {
        thaw.send(()).unwrap();
        assert_eq!(packer.await.unwrap(), Packed { packs: 1, rollouts: 6 });
    });
    let report = troubled(&shared, "log/", act).gc(&at_once(DAY)).await.unwrap();
    assert_eq!(report, GcReport::default());
    assert_eq!(count(&shared, "log/").await, 1);
    assert_whole(&shared, 6).await;
}

/// G3: of two that condemn the same, one does.
#[tokio::test]
async fn g3_collectors_at_once_agree() {
    let (shared, _) = merged().await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        assert_eq!(other.gc(&at_once(DAY)).await.unwrap().condemned, 3);
    });
    let report = troubled(&shared, "log/", act).gc(&at_once(DAY)).await.unwrap();
    assert_eq!((report.condemned, report.tables.objects), (0, 9));
    assert_eq!(count(&shared, "log/").await, 5);
    assert_whole(&shared, 6).await;
}

/// S4: a sealing beside a collection writes its fault rows again.
#[tokio::test]
async fn s4_a_fault_pack_that_was_condemned_is_written_again() {
    let (shared, _) = six().await;
    plain(&shared).save_fault(&faulted(&record(10), 1), None).await.unwrap();
    pack(plain(&shared)).await;
    let other = plain(&shared);
    let act = Trouble::before(move || async move {
        assert_eq!(other.gc(&at_once(DAY)).await.unwrap().condemned, 1);
    });
    let manifest = troubled(&shared, "log/", act).seal(&PackOptions::default()).await.unwrap();
    assert_eq!((manifest.counts.graded, manifest.counts.faulted), (6, 1));
    assert_whole(&shared, 7).await;
}

/// G2: what the manifest lists stays until there is another one, also if the log has moved on.
#[tokio::test]
async fn g2_files_of_the_manifest_stay() {
    let (shared, _) = six().await;
    let ledger = plain(&shared);
    ledger.save_fault(&faulted(&record(10), 1), None).await.unwrap();
    let manifest = ledger.seal(&PackOptions::default()).await.unwrap();
    ledger.commit(&record(11), None).await.unwrap();
    pack(plain(&shared)).await;
    assert_eq!(ledger.gc(&at_once(DAY)).await.unwrap(), GcReport::default());
    for file in &manifest.files {
        shared.head(&ObjectPath::parse(&*file.path).unwrap()).await.unwrap();
    }
    ledger.seal(&PackOptions::default()).await.unwrap();
    let report = ledger.gc(&at_once(DAY)).await.unwrap();
    assert_eq!(report.condemned, 1, "the fault rows of the first sealing");
    assert_whole(&shared, 8).await;
}

async fn trajectories(ledger: &Ledger, of: &[RolloutRecord]) {
    for record in of {
        ledger.save_ungraded(&record.shard_id, &record.rollout_id, 1, "n", &record.steps).await.unwrap();
    }
}

#[tokio::test]
async fn g5_trajectories_go_once_the_run_is_sealed_and_their_results_are_packed() {
    let (shared, records) = six().await;
    let ledger = plain(&shared);
    trajectories(&ledger, &records).await;
    trajectories(&ledger, &[record(10)]).await;
    ledger.pack(&PackOptions::default()).await.unwrap();
    let options = GcOptions { ungraded: true, ..GcOptions::at(DAY) };
    assert_eq!(ledger.gc(&options).await.unwrap().ungraded, Deleted::default(), "the run goes on");
    ledger.seal(&PackOptions::default()).await.unwrap();
    assert_eq!(ledger.gc(&GcOptions::at(DAY)).await.unwrap().ungraded, Deleted::default(), "nobody asked");
    assert_eq!(ledger.gc(&options).await.unwrap().ungraded.objects, 6);
    let left = ledger.all_attempts().await.unwrap();
    assert_eq!(left.keys().collect::<Vec<_>>(), [&record(10).rollout_id]);
    let gone = ledger.load_ungraded::<Vec<u8>>(&ShardId::new("shard"), &records[0].rollout_id).await.unwrap();
    assert!(gone.is_none());
}
