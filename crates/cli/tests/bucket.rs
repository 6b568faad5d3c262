//! Runs in a bucket, by a real S3 server on loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use common::fleet::{fleet_job, worker};
use common::{Home, Thresher};
use thresher_testkit::{S3Server, S3ServerKind};

const URL: &str = "s3://thresher-test/runs/one";
/// Where the server keeps the objects of the run.
const FOLDER: &str = "s3/thresher-test/runs/one";

/// A server that keeps its files in the home; `None`, and said so, where there is none.
fn server(home: &Home) -> Option<S3Server> {
    let server = S3Server::start(S3ServerKind::Versitygw, &home.path("s3")).unwrap();
    if server.is_none() {
        eprintln!("skipped: THRESHER_TEST_VERSITYGW names no server: runs in buckets are not tested");
    }
    server
}

/// The command, pointed at the server.
fn at<'h>(server: &S3Server, command: Thresher<'h>) -> Thresher<'h> {
    server.environment().into_iter().fold(command, |command, (name, value)| command.env(name, value))
}

#[test]
fn a_run_in_a_bucket_is_run_resumed_joined_and_read_like_one_in_a_directory() {
    let home = Home::new();
    let Some(server) = server(&home) else { return };
    let job = fleet_job(&home, 1);
    let verb = |verb: &str, args: &[&str]| at(&server, home.command(verb)).args(args).expect(0).stdout;
    home.run(&job, "quiet").args(["-k", "2"]).expect(0);
    at(&server, home.run(&job, URL)).expect(0);
    let again = at(&server, home.run(&job, URL)).expect(0).json();
    assert_eq!(again["report"]["graded"], 8, "{again}");
    verb("plan", &[&job, "--out", URL, "-k", "2"]);
    at(&server, worker(&home, URL, &[])).expect(0);
    assert_eq!(home.verdicts(FOLDER), home.verdicts("quiet"));
    assert!(verb("status", &[URL]).starts_with("one: sealed   16/16 graded"));
    assert!(verb("watch", &[URL]).contains("sealed"));
    assert!(verb("runs", &["s3://thresher-test"]).contains("runs/one"));
    assert!(verb("report", &[URL]).contains("graded: solved"));
    let instance = home.rollouts(FOLDER)[0].instance_id.to_string();
    assert!(verb("show", &[URL, &instance]).contains("step"));
    assert!(verb("gc", &[URL, "--keep", "0s"]).contains("deleted"));
    verb("pause", &[URL]);
    assert!(verb("status", &[URL]).contains("sealed"), "a run that is over stays so");
}

#[test]
fn what_is_wrong_with_a_bucket_is_said() {
    let home = Home::new();
    let Some(mut server) = server(&home) else { return };
    let job = fleet_job(&home, 1);
    let absent = at(&server, home.run(&job, "s3://no-such-bucket/runs/x")).expect(6);
    assert!(absent.stderr.contains("no-such-bucket"), "{absent:?}");
    let bare = at(&server, home.run(&job, "s3://thresher-test")).expect(2);
    assert!(bare.stderr.contains("s3://thresher-test/runs/my-run"), "{bare:?}");
    let nothing = at(&server, home.command("status").args([URL])).expect(2);
    assert!(nothing.stderr.contains("there is no run at"), "{nothing:?}");
    let denied =
        at(&server, home.command("status").args([URL])).env("AWS_SECRET_ACCESS_KEY", "wrong").expect(6);
    assert!(!denied.stderr.contains("wrong") && denied.stderr.contains("permission"), "{denied:?}");
    server.kill();
    let dead = at(&server, home.command("status").args([URL])).expect(6);
    assert!(dead.stderr.contains("runs/one"), "{dead:?}");
}
