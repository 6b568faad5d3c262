//! Runs on a real Kubernetes, with real tasks in real sandboxes, left alone and disturbed: whatever happens to pods, nodes,
//! coordinator, API server and store, the rewards are those of a run that was left alone.
//!
//! Needs a cluster of `scripts/cluster` (its variables in the environment, so that parts of it can be stopped), the dataset of
//! `scripts/demo-dataset` in THRESHER_DEMO, and Docker. Without them the tests say that they skip.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what is skipped is printed for scripts/test to collect"
)]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
#[path = "../common/mod.rs"]
mod common;
mod kubernetes;
mod model;
mod rig;
mod submitted;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kubernetes::{eventually, evict, kill_worker, kubectl};
use rig::{Rewards, Rig, Tasks};
use submitted::Submitted;

/// How long the store is away: longer than workers take each other's shards over.
const STORE_AWAY: Duration = Duration::from_secs(120);
/// How long the API server is away.
const API_AWAY: Duration = Duration::from_secs(60);
/// Between the model's question and its answer while a run is being disturbed, so that it is not over before.
const SLOW: Duration = Duration::from_secs(2);
/// The same where nothing is waited for.
const FAST: Duration = Duration::from_millis(20);

/// The tests share the machine's processors and the cluster's only node.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs give that nobody disturbs: one on this machine, without a cluster.
fn wanted(rig: &Rig) -> &'static Rewards {
    static WANTED: OnceLock<Rewards> = OnceLock::new();
    WANTED.get_or_init(|| {
        rig.model.pace(FAST);
        let job = rig.job("local", &Tasks::Sound);
        let images = rig.demo.join("images").display().to_string();
        let run = rig.command("run").args([job.as_str(), "-q", "--backend", "embedded", "--images", &images]);
        run.args(["-n", "4", "--out", "local"]).expect(0);
        let rewards = rig.rewards(&rig.path("local"));
        let with = |wanted: f64| rewards.values().filter(|reward| **reward == Some(wanted)).count();
        assert!(with(1.0) >= 6 && with(0.0) >= 2, "both kinds are there: {rewards:?}");
        rewards
    })
}

#[test]
fn every_placement_gives_the_rewards_of_a_run_on_one_machine() {
    let _turn = turn();
    let Some(rig) = Rig::start() else { return };
    let wanted = wanted(&rig);
    for placement in ["sidecar", "embedded", "pods"] {
        let mut run = Submitted::start(&rig, placement, &Tasks::Sound);
        run.end(0);
        assert_eq!(run.rewards(), *wanted, "{placement}");
        assert_eq!(run.failures(), 0, "{placement}: no pod failed");
        let logs = run.command("logs", &[]);
        let workers = run.workers();
        assert!(workers.len() == 3 && workers.iter().all(|worker| logs.contains(&worker.name)), "{logs}");
        assert!(run.command("logs", &["--slot", "0", "--tail", "9"]).contains("this worker: "), "{logs}");
        assert!(run.watched().contains(": sealed "), "{placement}");
    }
    assert_eq!(rig.model.refusals(), Vec::<String>::new());
}

/// Worker pods are deleted, evicted and killed, and the coordinator is killed: the failure policy counts the kill alone. The
/// tasks' agents have the network.
#[test]
fn workers_and_their_coordinator_may_go() {
    let _turn = turn();
    let Some(rig) = Rig::start() else { return };
    let wanted = wanted(&rig);
    rig.model.pace(SLOW);
    let mut run = Submitted::start(&rig, "sidecar", &Tasks::WithNetwork);
    run.wait_until_busy();

    let deleted = run.worker(0);
    kubectl(&["-n", "thresher", "delete", "pod", &deleted.name, "--wait=false"]);
    let next = run.successor(0, &deleted);
    assert_eq!((next.counted, next.ignored), (0, 1), "deleted: it drained, which counts nothing");

    let evicted = run.worker(1);
    evict(&rig, &evicted.name);
    let next = run.successor(1, &evicted);
    assert_eq!((next.counted, next.ignored), (0, 1), "evicted: not the worker's doing");

    run.kill_coordinator();
    let killed = run.worker(2);
    kill_worker(&killed);
    let next = run.successor(2, &killed);
    assert_eq!((next.counted, next.ignored), (1, 0), "killed: one of the slot's failures");
    run.follow();

    rig.model.pace(FAST);
    run.end(0);
    assert_eq!(run.rewards(), *wanted);
    assert_eq!(run.failed_indexes(), "", "no slot was given up");
}

/// The store is away for two minutes, the fleet is resized, the node takes no pods for a while.
#[test]
fn a_fleet_outlives_its_store_and_its_node() {
    let _turn = turn();
    let Some(rig) = Rig::start() else { return };
    let wanted = wanted(&rig);
    rig.model.pace(SLOW);
    let mut run = Submitted::start(&rig, "embedded", &Tasks::Sound);
    run.wait_until_busy();

    let before = run.workers();
    rig.cluster(&["stop", "s3"]);
    std::thread::sleep(STORE_AWAY);
    rig.cluster(&["start", "s3"]);
    assert_eq!(run.workers(), before, "the same pods wait, and none was begun again");
    assert_eq!(run.failures(), 0, "an outage fails no index");
    run.says("trying again");

    run.scale(1);
    eventually("one slot is left", || (run.running() == 1).then_some(()));
    run.scale(4);
    eventually("there are four", || (run.running() == 4).then_some(()));

    let node = rig.node();
    kubectl(&["cordon", &node]);
    let homeless = run.worker(3);
    kubectl(&["-n", "thresher", "delete", "pod", &homeless.name, "--wait=false"]);
    run.says("Unschedulable");
    kubectl(&["uncordon", &node]);
    run.successor(3, &homeless);

    rig.model.pace(FAST);
    run.end(0);
    assert_eq!(run.rewards(), *wanted);
    assert_eq!(run.failed_indexes(), "", "no slot was given up");
}

/// Sandboxes that are pods go on without an API server, an image that does not exist faults its own rollouts alone, a pause
/// ends the fleet and no rollout, and nothing is left of what workers made that are gone.
#[test]
fn sandboxes_outlive_the_api_server() {
    let _turn = turn();
    let Some(rig) = Rig::start() else { return };
    let wanted = wanted(&rig);
    rig.model.pace(SLOW);
    let mut run = Submitted::start(&rig, "pods", &Tasks::WithOneThatHasNoImage);
    run.wait_until_busy();
    rig.leave_a_slot(&run.name);

    // What has begun ends sooner.
    rig.model.pace(FAST);
    run.command("pause", &[]);
    assert_eq!(run.running(), 0, "the command waited for the last pod");
    rig.model.pace(SLOW);
    run.command("resume", &[]);
    run.wait_until_busy();
    let before = run.workers();

    rig.cluster(&["stop", "apiserver"]);
    std::thread::sleep(API_AWAY);
    rig.cluster(&["start", "apiserver"]);
    run.says("it answers again");

    rig.model.pace(FAST);
    run.end(3);
    let mut rewards = run.rewards();
    let absent: Vec<_> = rewards.extract_if(.., |(task, _), _| task.starts_with("nowhere")).collect();
    assert!(!absent.is_empty() && absent.iter().all(|(_, reward)| reward.is_none()), "{absent:?}");
    assert_eq!(rewards, *wanted);
    assert_eq!(run.failures(), 0, "no worker failed for it");
    assert!(before.iter().all(|worker| worker.counted == 0));
    eventually("no sandbox is left", || rig.sandboxes(&run.name).is_empty().then_some(()));
}
