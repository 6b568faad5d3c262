//! F1 to F3: a follower hears of each rollout once, whatever becomes of the packs, and can be resumed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::RolloutId;
use thresher_ledger::{
    CompactOptions, Follower, GcOptions, Ledger, LedgerError, PackOptions, Position, Table,
};
use thresher_store::Memory;

use crate::conflicts::pack;
use crate::fixtures::{faulted, record};
use crate::hooked::{metered, plain};

/// The rollouts that the follower reports, as the rows of its files have them.
async fn hear(follower: &mut Follower) -> Vec<RolloutId> {
    let mut heard = Vec::new();
    for new in follower.next().await.unwrap() {
        let mut here = Vec::new();
        for batch in new.batches(Table::Rollouts, &["rollout_id"]).await.unwrap() {
            let ids = batch.column(0).as_string::<i32>();
            here.extend(ids.iter().map(|id| RolloutId::new(id.unwrap())));
        }
        assert_eq!(here.iter().cloned().collect::<BTreeSet<_>>(), new.rollouts.iter().cloned().collect());
        heard.extend(here);
    }
    heard
}

async fn collect(ledger: &Ledger) {
    ledger.gc(&GcOptions { keep: Duration::ZERO, ..GcOptions::at(1) }).await.unwrap();
}

#[tokio::test]
async fn f1_and_f2_each_rollout_is_reported_once_whatever_becomes_of_its_pack() {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let shared = Arc::new(Memory::new());
        let ledger = plain(&shared);
        let mut steady = ledger.follow(None);
        let mut position = None;
        let (mut by_steady, mut by_resumed) = (Vec::new(), Vec::new());
        for at in 0..30 {
            match random.random_range(0..8) {
                0..3 => {
                    ledger.commit(&record(at), None).await.unwrap();
                    pack(ledger.clone()).await;
                }
                3 => {
                    ledger.compact(&CompactOptions::default()).await.unwrap();
                }
                4 => collect(&ledger).await,
                5 => {
                    ledger.save_fault(&faulted(&record(at), 1), None).await.unwrap();
                    ledger.seal(&PackOptions::default()).await.unwrap();
                }
                6 => by_steady.extend(hear(&mut steady).await),
                _ => {
                    let mut resumed = ledger.follow(position);
                    by_resumed.extend(hear(&mut resumed).await);
                    position = Some(resumed.position());
                }
            }
        }
        by_steady.extend(hear(&mut steady).await);
        by_resumed.extend(hear(&mut ledger.follow(position)).await);
        let expected: BTreeSet<RolloutId> = ledger.committed().await.unwrap().into_keys().collect();
        for heard in [by_steady, by_resumed] {
            assert_eq!(heard.len(), expected.len(), "seed {seed}");
            assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), expected, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn f1_a_look_costs_what_is_new() {
    let shared = Arc::new(Memory::new());
    let writer = plain(&shared);
    for at in 0..5 {
        writer.commit(&record(at), None).await.unwrap();
        pack(writer.clone()).await;
    }
    let (store, ledger) = metered(&shared);
    let mut follower = ledger.follow(None);
    assert_eq!(follower.next().await.unwrap().len(), 5);
    assert_eq!(follower.position(), Position(5));
    let before = store.usage();
    assert!(follower.next().await.unwrap().is_empty());
    assert_eq!((store.usage().reads(), store.usage().gets), (before.reads() + 1, before.gets + 1));
    writer.commit(&record(5), None).await.unwrap();
    pack(writer.clone()).await;
    let new = follower.next().await.unwrap();
    assert_eq!((new.len(), new[0].whole, new[0].rollouts.len()), (1, true, 1));
    // The new entry, a listing behind it, and a look for another.
    assert_eq!(store.usage().reads(), before.reads() + 4);
}

#[tokio::test]
async fn f2_only_the_new_rows_of_a_merged_pack_are_reported() {
    let shared = Arc::new(Memory::new());
    let ledger = plain(&shared);
    let mut follower = ledger.follow(None);
    for at in 0..4 {
        ledger.commit(&record(at), None).await.unwrap();
        pack(ledger.clone()).await;
        if at == 1 {
            assert_eq!(hear(&mut follower).await.len(), 2);
        }
    }
    ledger.compact(&CompactOptions::default()).await.unwrap();
    collect(&ledger).await;
    let new = follower.next().await.unwrap();
    assert_eq!((new.len(), new[0].whole, new[0].rollouts.len()), (1, false, 2));

    // The files may be deleted between the report and the reading.
    ledger.commit(&record(4), None).await.unwrap();
    pack(ledger.clone()).await;
    ledger.compact(&CompactOptions::default()).await.unwrap();
    collect(&ledger).await;
    let batches = new[0].batches(Table::Steps, &["step_index"]).await.unwrap();
    let steps: usize = [2, 3].into_iter().map(|at| record(at).steps.len()).sum();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), steps);
}

#[tokio::test]
async fn f3_a_position_that_the_log_never_had_is_refused() {
    let ledger = plain(&Arc::new(Memory::new()));
    let error = ledger.follow(Some(Position(3))).next().await.unwrap_err();
    assert!(matches!(&error, LedgerError::Damaged { path, .. } if path == "log/00000003.json"), "{error}");
}
