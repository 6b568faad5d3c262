//! K1 to K4 as a worker does them: it packs what it committed itself, and lists nothing.

use std::sync::Arc;
use std::time::Duration;

use thresher_core::RolloutRecord;
use thresher_ledger::{Commit, GcOptions, Ledger, Packed, Packer, PackerOptions, Stored, UnpackedCounts};
use thresher_store::Memory;
use tokio::time::{Instant, advance};

use crate::conflicts::{assert_whole, count, pack};
use crate::fixtures::record;
use crate::hooked::{Trouble, blind, metered, plain, troubled};

async fn committed(ledger: &Ledger, record: &RolloutRecord) -> Stored {
    match ledger.commit(record, Some(b"1 passed")).await.unwrap() {
        Commit::Committed(stored) => stored,
        Commit::AlreadyCommitted => panic!("nobody else works here"),
    }
}

/// A packer that holds the results of rollouts 0 to 5.
async fn holding_six(ledger: &Ledger) -> (Packer, Vec<RolloutRecord>) {
    let packer = ledger.packer(PackerOptions::default());
    let records: Vec<RolloutRecord> = (0..6).map(record).collect();
    for record in &records {
        packer.add(record, committed(ledger, record).await);
    }
    (packer, records)
}

#[tokio::test(start_paused = true)]
async fn a_packer_is_due_by_size_or_by_time() {
    let ledger = plain(&Arc::new(Memory::new()));
    let first = committed(&ledger, &record(0)).await;
    assert!(first.raw_bytes > first.record_bytes && first.stored_bytes > first.record_bytes);
    let every = Duration::from_secs(600);
    let packer = ledger.packer(PackerOptions { raw_bytes: first.raw_bytes + 100, every });
    assert_eq!((packer.due(Instant::now()), packer.due_at()), (false, None));
    packer.add(&record(0), first);
    assert_eq!(packer.due_at(), Some(Instant::now() + every));
    advance(every).await;
    assert!(packer.due(Instant::now()));
    assert_eq!(packer.unpacked(), [(record(0).rollout_id, true)]);
    assert_eq!(packer.pack().await.unwrap(), Packed { packs: 1, rollouts: 1 });
    assert!(packer.unpacked().is_empty() && !packer.due(Instant::now()));

    for seed in [4, 8] {
        assert!(!packer.due(Instant::now()));
        packer.add(&record(seed), committed(&ledger, &record(seed)).await);
    }
    assert!(packer.due(Instant::now()), "two are more than a pack");
    assert_eq!(packer.unpacked_counts(), UnpackedCounts { graded: 2, solved: 0 });
}

#[tokio::test]
async fn k1_a_packer_lists_no_results_and_reads_only_entries_that_are_new() {
    let shared = Arc::new(Memory::new());
    let (store, ledger) = metered(&shared);
    let (packer, _) = holding_six(&ledger).await;
    let before = store.usage();
    assert_eq!(packer.pack().await.unwrap(), Packed { packs: 1, rollouts: 6 });
    let after = store.usage();
    // One look for a first entry, and each record once per pass over the tables.
    assert_eq!((after.lists - before.lists, after.gets - before.gets, after.puts - before.puts), (0, 13, 4));

    let before = store.usage();
    packer.add(&record(7), committed(&ledger, &record(7)).await);
    packer.pack().await.unwrap();
    let after = store.usage();
    assert_eq!((after.lists - before.lists, after.gets - before.gets, after.puts - before.puts), (0, 3, 5));
    assert_eq!(packer.pack().await.unwrap(), Packed::default());
    assert_eq!(store.usage().gets, after.gets + 1);
    assert_whole(&shared, 7).await;
}

#[tokio::test]
async fn k3_what_another_packed_meanwhile_is_dropped() {
    for theirs in [6, 2] {
        let shared = Arc::new(Memory::new());
        let (_, records) = holding_six(&plain(&shared)).await;
        let other = blind(&shared, &records[theirs..]);
        let act = Trouble::before(move || async move {
            pack(other).await;
        });
        let ledger = troubled(&shared, "log/", act);
        let (packer, _) = holding_six(&ledger).await;
        assert_eq!(packer.pack().await.unwrap().rollouts, 6 - theirs as u64);
        assert!(packer.unpacked().is_empty());
        assert_whole(&shared, 6).await;
    }
}

#[tokio::test]
async fn k3_a_pack_that_was_condemned_is_written_again_under_another_name() {
    let shared = Arc::new(Memory::new());
    let gc = plain(&shared);
    let act = Trouble::before(move || async move {
        let report = gc.gc(&GcOptions { keep: Duration::ZERO, ..GcOptions::at(1_000) }).await.unwrap();
        assert_eq!((report.condemned, report.tables.objects), (1, 3));
    });
    let (packer, _) = holding_six(&troubled(&shared, "log/", act)).await;
    assert_eq!(packer.pack().await.unwrap(), Packed { packs: 1, rollouts: 6 });
    assert_eq!(count(&shared, "log/").await, 2);
    assert_whole(&shared, 6).await;
}

#[tokio::test]
async fn what_could_not_be_packed_is_held_on_to() {
    let shared = Arc::new(Memory::new());
    let (packer, _) = holding_six(&troubled(&shared, "log/", Trouble::Crash)).await;
    packer.pack().await.unwrap_err();
    assert_eq!(packer.unpacked().len(), 6);
    assert_eq!(packer.pack().await.unwrap(), Packed { packs: 1, rollouts: 6 });

    let shared = Arc::new(Memory::new());
    let (packer, _) = holding_six(&troubled(&shared, "log/", Trouble::LostAcknowledgement)).await;
    assert_eq!(packer.pack().await.unwrap(), Packed { packs: 1, rollouts: 6 });
    assert!(packer.unpacked().is_empty());
    assert_whole(&shared, 6).await;
}
