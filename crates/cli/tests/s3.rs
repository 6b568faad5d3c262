//! A run in a bucket, from its plan to its report, on a real S3 server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use common::fleet::{fleet_job, worker};
use common::row::{Row, job};
use common::{Home, Thresher, backend};
use serde_json::Value;
use thresher_testkit::{S3Server, S3ServerKind};

const URL: &str = "s3://thresher-test/team/runs/one";
/// Where the server keeps the objects of the run.
const FOLDER: &str = "s3/thresher-test/team/runs/one";
/// Tasks of the job.
const TASKS: u64 = 8;

fn server(home: &Home, kind: S3ServerKind) -> Option<S3Server> {
    let server = S3Server::start(kind, &home.path("s3")).unwrap();
    if server.is_none() {
        eprintln!("skipped: {} names no server: runs in buckets are not tested on it", kind.variable());
    }
    server
}

/// A command that reaches the server.
fn on<'h>(server: &S3Server, command: Thresher<'h>) -> Thresher<'h> {
    server.environment().into_iter().fold(command, |command, (name, value)| command.env(name, value))
}

#[test]
fn every_command_takes_a_run_in_a_bucket() {
    let home = Home::new();
    let Some(server) = server(&home, S3ServerKind::Versitygw) else { return };
    let job = fleet_job(&home, 1);
    let command = |verb: &str, args: &[&str]| on(&server, home.command(verb)).args(args.iter());
    let json = |verb: &str, args: &[&str]| command(verb, args).args(["--json"]).expect(0).json();
    let work = |samples: &str| {
        on(&server, home.run(&job, URL)).args(["-k", samples]).expect(0).json()["report"].clone()
    };

    let report = work("1");
    assert_eq!(report["graded"], TASKS, "{report}");
    home.run(&job, "local").expect(0);
    assert_eq!(home.verdicts(FOLDER), home.verdicts("local"));
    let attempts = home.files(&format!("{FOLDER}/attempts"));
    assert_eq!(work("1"), report, "nothing is run again");
    assert_eq!(home.files(&format!("{FOLDER}/attempts")), attempts);
    assert_eq!(home.files("cache/scratch"), Vec::<String>::new(), "no scratch folder is left");

    assert_eq!(json("report", &[URL]), report);
    let status = json("status", &[URL]);
    assert_eq!(
        (&status["state"], &status["graded"], &status["left"]),
        (&"sealed".into(), &TASKS.into(), &0.into())
    );
    let watched = command("watch", &[URL]).expect(0).stdout;
    assert!(watched.starts_with("one: sealed   8/8 graded"), "{watched}");
    assert_eq!(json("show", &[URL, "numerals__roman-3#0"])["task"]["instance_id"], "numerals__roman-3");
    for below in ["s3://thresher-test", "s3://thresher-test/team/", URL] {
        let runs = json("runs", &[below]);
        assert_eq!((runs[0]["run"].as_str(), runs.as_array().unwrap().len()), (Some(URL), 1), "{runs}");
    }
    assert_eq!(json("runs", &["s3://thresher-test/nothing"]), Value::Array(Vec::new()));
    assert_eq!(json("gc", &[URL])["gc"]["condemned"], 0);

    command("plan", &[&job, "-o", URL, "-k", "2"]).expect(0);
    command("pause", &[URL]).expect(0);
    assert_eq!(json("status", &[URL])["state"], "paused");
    command("resume", &[URL]).expect(0);
    assert_eq!(on(&server, worker(&home, URL, &[])).expect(0).json()["counts"]["graded"], 2 * TASKS);
    home.run(&job, "local").args(["-k", "2"]).expect(0);
    assert_eq!(home.verdicts(FOLDER), home.verdicts("local"));
    command("cancel", &[URL]).expect(0);
    assert_eq!(json("status", &[URL])["state"], "sealed", "what is over cannot be cancelled");
}

#[test]
fn a_worker_on_another_machine_fetches_the_dataset() {
    let home = Home::new();
    let Some(server) = server(&home, S3ServerKind::Versitygw) else { return };
    let job = job(&home, "away", &[Row::new("away__1"), Row::new("away__2")], "agent: { name: oracle }\n");
    let plan = |run: &str, more: &[&str]| {
        on(&server, home.command("plan")).args([&*job, "-o", run]).args(more).expect(0);
    };
    plan(URL, &[]);
    plan("s3://thresher-test/runs/two", &["--no-dataset"]);
    std::fs::rename(home.path("away.jsonl"), home.path("elsewhere.jsonl")).unwrap();
    let work = |run: &str, more: &[&str]| on(&server, worker(&home, run, more));
    let refused = work("s3://thresher-test/runs/two", &[]).expect(7);
    assert!(refused.stderr.contains("--dataset PATH"), "{refused:?}");
    assert_eq!(work(URL, &["--in-job"]).expect(0).json()["counts"]["solved"], 2);
    assert_eq!(home.files("cache/datasets").len(), 1, "and nothing is left of the fetching");
    let elsewhere = home.path("elsewhere.jsonl").display().to_string();
    let refused = work("s3://thresher-test/runs/two", &["--dataset", &elsewhere]).expect(7);
    assert!(refused.stderr.contains("not the one that was planned"), "{refused:?}");
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    let Some(server) = server(&home, S3ServerKind::Versitygw) else { return };
    let job = fleet_job(&home, 1);
    for (verb, args, code, said) in [
        (
            "status",
            vec!["s3://thresher-test/runs/none"],
            2,
            "there is no run at s3://thresher-test/runs/none",
        ),
        (
            "worker",
            vec!["--run", "s3://thresher-test/runs/none"],
            2,
            "thresher plan JOB.yaml -o s3://thresher-test",
        ),
        (
            "plan",
            vec![&*job, "-o", "s3://no-such-bucket/runs/x"],
            6,
            "s3://no-such-bucket/runs/x cannot be used",
        ),
        ("plan", vec![&*job, "-o", "s3://thresher-test"], 2, "names a bucket and no run in it"),
        ("runs", vec!["s3://no-such-bucket"], 6, "no-such-bucket"),
    ] {
        let refused = on(&server, home.command(verb)).args(args).expect(code);
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    let nobody =
        on(&server, home.command("status")).env("AWS_SECRET_ACCESS_KEY", "wrong").args([URL]).expect(6);
    assert!(nobody.stderr.contains("SignatureDoesNotMatch"), "{nobody:?}");
}

#[test]
fn a_store_that_orders_no_writes_is_refused_before_anything_begins() {
    let home = Home::new();
    let Some(server) = server(&home, S3ServerKind::S3sFs) else { return };
    let job = fleet_job(&home, 1);
    let refused = on(&server, home.command("run"))
        .args([&*job, "-q", "-o", "s3://thresher-test/runs/x"])
        .args(backend())
        .expect(6);
    assert!(refused.stderr.contains("s3://thresher-test/runs/x cannot be used"), "{refused:?}");
    assert!(refused.stderr.contains("versitygw"), "it names servers that are known good: {refused:?}");
    let written = home.files("s3/thresher-test/runs/x");
    assert!(!written.iter().any(|path| path.starts_with("plan/")), "{written:?}");
}
