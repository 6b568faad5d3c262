//! The protocol under everything that can happen to a fleet of workers, in virtual time, one seed per case.
//!
//! `THRESHER_SIM_SEED=7 cargo test -p thresher-testkit --test simulation -- --nocapture` plays one seed and prints what
//! happened in it; `THRESHER_SIM_SEEDS=50000` plays so many.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by panicking, and traces are for people"
)]

use std::collections::BTreeMap;
use std::env;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use thresher_testkit::sim::{Scenario, SimStore, StoreFaults, Trace, Variant, Verdict, play};

/// Cases of every ordinary run of the tests.
const SEEDS: u64 = 1_000;

/// Within so many seeds a broken variant must be caught.
const PATIENCE: u64 = 100;

#[test]
fn every_seed_keeps_the_promises_of_the_protocol() {
    if let Ok(seed) = env::var("THRESHER_SIM_SEED") {
        return replay(seed.parse().unwrap());
    }
    let seeds = env::var("THRESHER_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let failed = failures(0..seeds, usize::MAX, Variant::Sound);
    assert!(failed.is_empty(), "{} of {seeds} seeds failed:\n{}", failed.len(), failed.join("\n"));
}

/// Plays one seed and tells all of it.
fn replay(seed: u64) {
    let scenario = Scenario::of(seed);
    println!("{scenario:#?}");
    let Verdict { violations, trace, took } = play(&scenario, Variant::Sound, true);
    println!("{}", trace.lines().join("\n"));
    println!("{} events in {took:?}", trace.events());
    assert_eq!(violations, Vec::<String>::new(), "seed {seed}");
}

#[test]
fn a_seed_replays_identically() {
    for seed in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89] {
        let hashes = [(); 2].map(|()| play(&Scenario::of(seed), Variant::Sound, false).trace.hash());
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}

/// What does not happen in any case is not shown by them.
#[test]
fn the_cases_reach_what_they_are_for() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..150 {
        for (what, times) in play(&Scenario::of(seed), Variant::Sound, false).trace.counts() {
            *counts.entry(what.clone()).or_default() += times;
        }
    }
    let all: Vec<String> = counts.iter().map(|(what, times)| format!("{times:>7} {what}")).collect();
    println!("{}", all.join("\n"));
    let missing: Vec<&str> = REACHED.iter().copied().filter(|what| !counts.contains_key(*what)).collect();
    assert_eq!(missing, [""; 0], "of\n{}", all.join("\n"));
}

/// Event, folder of its object, outcome.
const REACHED: &[&str] = &[
    "create log conflict",
    "create plan conflict",
    "create results conflict",
    "create results no answer",
    "create results outage",
    "create tables conflict",
    "delete tables ok",
    "get results ok",
    "is fenced  ",
    "is killed  ",
    "sets aside  ",
    "takes  ",
    "update claims conflict",
    "update claims contended",
    "update claims no answer",
];

#[test]
fn claims_without_epochs_are_caught() {
    assert_caught(Variant::NoEpochCheck);
}

#[test]
fn commits_that_overwrite_are_caught() {
    assert_caught(Variant::CommitByOverwrite);
}

#[test]
fn writers_that_share_names_are_caught() {
    assert_caught(Variant::SharedNonces);
}

#[test]
fn readers_without_a_position_are_caught() {
    assert_caught(Variant::ReaderWithoutPosition);
}

#[test]
fn clearing_away_without_the_log_is_caught() {
    assert_caught(Variant::GcWithoutLog);
}

#[test]
fn workers_that_hear_no_heartbeat_are_caught() {
    assert_caught(Variant::DeafToHeartbeats);
}

#[test]
fn rollouts_that_kill_for_ever_are_caught() {
    assert_caught(Variant::NothingSetAside);
}

fn assert_caught(variant: Variant) {
    let caught = failures(0..PATIENCE, 1, variant);
    assert!(!caught.is_empty(), "no seed below {PATIENCE} shows what is wrong with {variant:?}");
    println!("{variant:?} is caught by {}", caught[0]);
}

/// Plays seeds on all processors until `enough` of them have failed, and says why.
fn failures(seeds: std::ops::Range<u64>, enough: usize, variant: Variant) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < enough {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    failed.lock().unwrap().extend(failure(seed, variant));
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed.into_iter().map(|(seed, why)| format!("seed {seed}: {why}")).collect()
}

fn failure(seed: u64, variant: Variant) -> Option<(u64, String)> {
    let violations = match catch_unwind(|| play(&Scenario::of(seed), variant, false).violations) {
        Ok(violations) => violations,
        Err(_) => vec!["panicked".to_owned()],
    };
    (!violations.is_empty()).then(|| (seed, violations.join("; ")))
}

#[tokio::test(start_paused = true)]
async fn the_simulated_store_is_a_store() {
    let keep = Duration::ZERO;
    let store = SimStore::new(0, StoreFaults::default(), keep, Trace::default());
    thresher_store::conformance::check(Arc::new(store.truth())).await;
    let small_pages = StoreFaults { page: 1..3, ..StoreFaults::default() };
    let store = SimStore::new(0, small_pages, keep, Trace::default());
    let link = thresher_testkit::sim::Link::new(1, &[]);
    thresher_store::conformance::check(Arc::new(store.handle(link))).await;
}
