//! Many `thresher worker` processes on one run, on a shared directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use common::endpoint::Endpoint;
use common::fleet::{fleet_job, worker};
use common::row::{Row, job};
use common::{Home, eventually};
use rustix::process::Signal;
use thresher_testkit::ModelServerSpec;

const WHOLE: &str = "undisturbed";

fn status(home: &Home, run: &str) -> serde_json::Value {
    home.command("status").args([run, "--json"]).expect(0).json()
}

/// Two tasks whose agents wait for the endpoint.
fn busy_job(home: &Home, endpoint: &Endpoint) -> String {
    let extra = format!("{}fleet: {{heartbeat_s: 1, take_over_s: 4}}\n", endpoint.yaml(false));
    job(home, "busy", &[Row::new("busy__1"), Row::new("busy__2")], &extra)
}

#[test]
fn three_workers_finish_one_run_and_each_rollout_has_one_row() {
    let home = Home::new();
    let job = fleet_job(&home, 2);
    home.run(&job, WHOLE).expect(0);
    home.command("plan").args([job.as_str(), "--out", "shared"]).expect(0);
    assert_eq!(status(&home, "shared")["state"], "idle");
    let workers: Vec<_> = (0..3).map(|_| worker(&home, "shared", &[]).spawn()).collect();
    let done: Vec<_> = workers.into_iter().map(|worker| worker.expect(0).json()).collect();
    let graded: u64 = done.iter().map(|report| report["graded"].as_u64().unwrap()).sum();
    assert_eq!(graded, 16, "{done:?}");
    assert_eq!(home.verdicts("shared"), home.verdicts(WHOLE));
    let standing = status(&home, "shared");
    assert_eq!((&standing["state"], &standing["graded"]), (&"sealed".into(), &16.into()), "{standing}");
    assert_eq!(home.files("shared/workers"), Vec::<String>::new(), "no heartbeat is left");
    let runs = home.command("runs").args([".", "--json"]).expect(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 2, "{runs}");
    let said = home.command("resume").args(["shared"]).expect(0).stdout;
    assert!(said.contains("nothing to go on with"), "{said}");
    assert_eq!(status(&home, "shared"), standing);
    let watched = home.command("watch").args(["shared"]).expect(0).stdout;
    assert!(watched.contains("shared: sealed   16/16 graded"), "{watched}");
    // A sealed run that grows goes on.
    home.command("plan").args([job.as_str(), "--out", "shared", "-k", "3"]).expect(0);
    assert_eq!(status(&home, "shared")["planned"], 24);
    worker(&home, "shared", &[]).expect(0);
    home.run(&job, WHOLE).args(["-k", "3"]).expect(0);
    assert_eq!(home.verdicts("shared"), home.verdicts(WHOLE));
}

#[test]
fn operators_pause_resume_and_cancel() {
    let home = Home::new();
    let job = fleet_job(&home, 1);
    home.command("plan").args([job.as_str(), "--out", "run"]).expect(0);
    let said = home.command("pause").args(["run"]).expect(0).stdout;
    assert!(said.contains("paused") && said.contains("nobody works on it now"), "{said}");
    let mut waiting = worker(&home, "run", &[]).spawn();
    eventually("the worker waits", || {
        let standing = status(&home, "run");
        (standing["workers"][0]["state"] == "waiting").then_some(())
    });
    assert!(waiting.ended().is_none());
    assert_eq!(status(&home, "run")["graded"], 0);
    home.command("resume").args(["run"]).expect(0);
    waiting.expect(0);
    assert_eq!(status(&home, "run")["graded"], 8);

    home.command("plan").args([job.as_str(), "--out", "other"]).expect(0);
    home.command("cancel").args(["other", "--now"]).expect(0);
    worker(&home, "other", &[]).expect(8);
    assert_eq!(status(&home, "other")["state"], "cancelled");
    home.command("watch").args(["other"]).expect(0);
    let unknown = home.command("pause").args(["nowhere"]).expect(2);
    assert!(unknown.stderr.contains("nowhere"), "{unknown:?}");
}

#[test]
fn a_budget_of_rollouts_is_shared_by_all_workers() {
    let home = Home::new();
    let job = fleet_job(&home, 2);
    home.command("plan").args([job.as_str(), "--out", "run"]).expect(0);
    home.command("resume").args(["run", "--budget-rollouts", "5"]).expect(0);
    let workers: Vec<_> = (0..3).map(|_| worker(&home, "run", &[]).spawn()).collect();
    for worker in workers {
        let ended = worker.expect(4);
        assert!(ended.stdout.contains("rollout budget"), "{ended:?}");
    }
    assert_eq!(home.verdicts("run").len(), 5, "five, and not one more");
    let text = home.command("status").args(["run"]).expect(0).stdout;
    assert!(text.contains("budget of rollouts: 5 spent, 0 reserved, of 5"), "{text}");
    home.command("resume").args(["run", "--budget-rollouts", "100"]).expect(0);
    worker(&home, "run", &[]).expect(0);
    assert_eq!(home.verdicts("run").len(), 16);
}

#[test]
fn a_worker_that_is_told_to_stop_leaves_its_work_to_another() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    let job = busy_job(&home, &endpoint);
    let plan = |samples: &str| {
        home.command("plan").args([job.as_str(), "-o", "run", "-k", samples]).expect(0);
    };
    plan("1");
    worker(&home, "run", &[]).expect(0);
    // That the run was whole before it was extended makes it no less unfinished.
    plan("2");
    endpoint.shut();
    let before = endpoint.requests().len();
    let first = worker(&home, "run", &[]).spawn();
    eventually("an agent works", || (endpoint.requests().len() > before).then_some(()));
    first.signal(Signal::TERM);
    let left = first.expect(4).json();
    assert_eq!((&left["graded"], &left["counts"]), (&0.into(), &serde_json::Value::Null), "{left}");
    assert_eq!(home.files("run/workers"), Vec::<String>::new());
    let claims = home.files("run/claims").into_iter().map(|claim| home.path("run/claims").join(claim));
    let claims: Vec<_> = claims.map(|claim| std::fs::read_to_string(claim).unwrap()).collect();
    assert!(claims.iter().any(|claim| claim.contains("released")), "{claims:#?}");
    endpoint.open();
    worker(&home, "run", &[]).expect(0);
    assert_eq!(home.rewards("run").iter().map(|(_, _, reward)| *reward).collect::<Vec<_>>(), [Some(1.0); 4]);
}

#[test]
fn a_run_that_is_drained_while_its_last_rollouts_run_is_whole() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    let job = busy_job(&home, &endpoint);
    endpoint.shut();
    let run = home.run(&job, "run").args(["-n", "2"]).spawn();
    eventually("both agents work", || (endpoint.requests().len() >= 2).then_some(()));
    run.signal(Signal::INT);
    endpoint.open();
    run.expect(0);
    assert_eq!(home.manifest("run")["counts"]["graded"], 2);
}

#[test]
fn those_who_share_a_run_directory_keep_out_who_wants_it_alone_and_the_other_way_round() {
    let home = Home::new();
    let endpoint = Endpoint::start(ModelServerSpec::default());
    let job = busy_job(&home, &endpoint);
    endpoint.shut();
    home.command("plan").args([job.as_str(), "-o", "run"]).expect(0);
    let sharing = worker(&home, "run", &[]).spawn();
    eventually("an agent works", || endpoint.requests().first().map(|_| ()));
    let refused = home.run(&job, "run").expect(5);
    assert!(refused.stderr.contains("in use by another process"), "{refused:?}");
    endpoint.open();
    sharing.expect(0);

    endpoint.shut();
    let before = endpoint.requests().len();
    let alone = home.run(&job, "run").args(["-k", "2"]).spawn();
    eventually("an agent works", || (endpoint.requests().len() > before).then_some(()));
    let refused = worker(&home, "run", &[]).expect(5);
    assert!(refused.stderr.contains("`thresher run` works on a directory alone"), "{refused:?}");
    endpoint.open();
    alone.expect(0);
}

#[test]
fn a_worker_refuses_another_dataset_and_another_protocol_by_name() {
    let home = Home::new();
    let job = fleet_job(&home, 1);
    home.command("plan").args([job.as_str(), "--out", "run"]).expect(0);
    let tasks = std::fs::read_to_string(common::jobs().join("quickstart/tasks.jsonl")).unwrap();
    let fewer: String = tasks.split_inclusive('\n').skip(1).collect();
    let other = home.write("other.jsonl", fewer);
    let refused = worker(&home, "run", &["--dataset", &other]).expect(7);
    assert!(refused.stderr.contains("is not the one that was planned"), "{refused:?}");
    let plan = home.path("run/plan/00000001.json");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replace("\"protocol\": 1", "\"protocol\": 2")).unwrap();
    let refused = worker(&home, "run", &[]).expect(5);
    assert!(refused.stderr.contains("protocol 2 and this program speaks 1"), "{refused:?}");
    let listed = home.command("runs").args(["."]).expect(0).stdout;
    assert!(listed.contains("./run: ") && listed.contains("protocol 2"), "{listed}");
    let nothing = worker(&home, "nothing", &[]).expect(2);
    assert!(nothing.stderr.contains("no run directory nothing"), "{nothing:?}");
}
