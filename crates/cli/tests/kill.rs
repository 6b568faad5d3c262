//! `thresher run` killed with SIGKILL at any instant: nothing that was finished is lost, nothing is there twice,
//! and nothing is left on the machine after the next start.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::endpoint::Endpoint;
use common::row::{Row, job};
use common::{Home, eventually, quickstart, traces};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_testkit::ModelServerSpec;

/// How often a run is killed.
const KILLS: u32 = 20;
/// Rollouts of the quickstart: 8 tasks, 2 samples.
const ROLLOUTS: usize = 16;
/// Run directory of the run that is left alone.
const UNDISTURBED: &str = "undisturbed";

/// Rows of each table, as the manifest counts them; but for faults, which every kill may add to.
fn rows(home: &Home, out: &str) -> BTreeMap<String, u64> {
    let mut rows = BTreeMap::new();
    let files = home.manifest(out)["files"].take();
    for file in files.as_array().unwrap().iter().filter(|file| file["table"] != "faults") {
        *rows.entry(file["table"].as_str().unwrap().to_owned()).or_default() +=
            file["rows"].as_u64().unwrap();
    }
    rows
}

/// Runs the quickstart on a run directory; kills it after `delay` if it still goes on. Whether it was killed.
fn run_and_kill(home: &Home, out: &str, delay: Duration) -> bool {
    let mut running = home.run(&quickstart(), out).spawn();
    let begun = Instant::now();
    while begun.elapsed() < delay {
        if running.ended().is_some() {
            running.expect(0);
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    running.kill();
    true
}

/// What must hold of every run directory that has come to its end.
fn check_whole(home: &Home, out: &str, undisturbed: &[String]) {
    assert_eq!(home.verdicts(out), undisturbed, "{out}");
    let ids: BTreeSet<_> = home.rollouts(out).into_iter().map(|row| row.rollout_id).collect();
    assert_eq!(ids.len(), ROLLOUTS, "{out}");
    assert_eq!(rows(home, out), rows(home, UNDISTURBED), "{out}");
    let counts = home.manifest(out)["counts"].clone();
    let wanted = serde_json::json!({
        "planned": ROLLOUTS, "graded": ROLLOUTS, "solved": counts["solved"], "faulted": 0,
        "fault_attempts": counts["fault_attempts"], "missing": 0,
    });
    assert_eq!(counts, wanted, "{out}");
    for fault in home.faults(out) {
        assert!(fault.to_string().contains("was lost while it ran"), "a kill makes no other fault: {fault}");
    }
    let packed: BTreeSet<String> = home.manifest(out)["files"].as_array().unwrap().iter().map(path).collect();
    let there: BTreeSet<String> =
        home.files(&format!("{out}/tables")).into_iter().map(|file| format!("tables/{file}")).collect();
    // Files of a pack that a kill kept from being named may stay, and no reader takes them for the run's.
    assert!(packed.is_subset(&there), "{out}: {packed:?} {there:?}");
    assert_eq!(home.files(&format!("{out}/.scratch")), Vec::<String>::new(), "{out}");
    // The store clears up when it writes; a start that finds nothing to write may leave a dead writer's empty lock.
    let staged = home.files(&format!("{out}/.staging"));
    assert!(staged.iter().all(|file| file.ends_with(".lock")), "{out}: {staged:?}");
}

fn path(file: &serde_json::Value) -> String {
    file["path"].as_str().unwrap().to_owned()
}

/// Kills a run whose sandbox is busy for certain: what it leaves is seen, so that seeing nothing later means something.
fn kill_with_a_busy_sandbox(home: &Home) {
    let endpoint = Endpoint::start(ModelServerSpec::default());
    endpoint.shut();
    let job = job(home, "busy", &[Row::new("busy__1")], &endpoint.yaml(false));
    let mut running = home.run(&job, "busy").spawn();
    eventually("the agent works", || (!endpoint.requests().is_empty()).then_some(()));
    let seen = traces::left(home);
    assert!(seen.iter().any(|trace| trace.contains("thresher-guest")), "the guest is seen: {seen:#?}");
    assert!(
        seen.iter().any(|trace| trace.starts_with("file")),
        "the claim of the process is seen: {seen:#?}"
    );
    running.kill();
    endpoint.open();
    home.run(&job, "busy").expect(0);
    assert_eq!(home.rewards("busy"), [("busy__1".to_owned(), 0, Some(1.0))]);
    let left = traces::left(home);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_run_that_is_killed_at_random_instants_ends_whole() {
    traces::adopt_orphans();
    let home = Home::new();
    kill_with_a_busy_sandbox(&home);
    let begun = Instant::now();
    home.run(&quickstart(), UNDISTURBED).expect(0);
    let mut reach = begun.elapsed();
    let undisturbed = home.verdicts(UNDISTURBED);
    assert_eq!(undisturbed.len(), ROLLOUTS);
    let cached: Vec<String> = home.files("cache");

    // Instants from just after the start to past the end. What a run takes depends on how much is left of it and on
    // what else the machine does, so the reach follows the runs. One that reaches its end makes place for a fresh one.
    let mut chance = StdRng::seed_from_u64(3);
    let (mut kills, mut number) = (0, 0);
    while kills < KILLS {
        let out = format!("killed-{number}");
        if run_and_kill(&home, &out, reach.mul_f64(chance.random_range(0.0..1.2))) {
            kills += 1;
            reach = reach.mul_f64(1.2);
        } else {
            check_whole(&home, &out, &undisturbed);
            number += 1;
            reach = reach.mul_f64(0.7);
        }
    }
    eprintln!("{KILLS} kills of {} runs", number + 1);
    // The next start removes what the killed ones left, and ends what they began.
    home.run(&quickstart(), &format!("killed-{number}")).expect(0);
    check_whole(&home, &format!("killed-{number}"), &undisturbed);
    home.run(&quickstart(), &format!("killed-{number}")).args(["-k", "3"]).expect(0);
    assert_eq!(home.files(&format!("killed-{number}/.staging")), Vec::<String>::new());
    let left = traces::left(&home);
    assert!(left.is_empty(), "left after {KILLS} kills: {left:#?}");
    assert_eq!(home.files("cache"), cached, "the cache has what an undisturbed run leaves, and nothing else");
}
