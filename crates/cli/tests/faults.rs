//! What goes wrong: what a patch or an agent does is graded, and what the node does has no reward.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use common::docker::{Daemon, IMAGE, processes};
use common::row::{RIGHT, Row, job};
use common::{Home, Output, backend, eventually, isolated, quickstart};
use rustix::process::Signal;
use thresher_core::Outcome;
use thresher_ledger::RolloutSummary;

/// Reward and end of the grading of a rollout that must be graded.
fn graded(row: &RolloutSummary) -> (f64, String) {
    match &row.outcome {
        Outcome::Graded(graded) => (graded.reward, graded.stop.to_string()),
        Outcome::Faulted(fault) => panic!("{}: {fault:?}", row.instance_id),
    }
}

/// Patches of the oracle, and how they are graded.
const PATCHES: &[(&str, &str, f64, &[&str])] = &[
    ("right", RIGHT, 1.0, &["evaluated"]),
    ("loops when it is read", "while :; do :; done", 0.0, &["test_timeout"]),
    ("waits when it is read", "sleep 100000", 0.0, &["test_timeout"]),
    ("ends the tests when it is read", "exit 0", 0.0, &["no_test_output"]),
    ("kills the tests when it is read", "kill -9 $$", 0.0, &["no_test_output"]),
    // The last line about a test counts. A patch that prints after the tests could still lie, as with every log.
    ("prints results of its own", "echo ok 1 answer\necho 1..1\nanswer() { echo 41; }", 0.0, &["evaluated"]),
    ("prints the end of a log", "echo '>>>>> End Test Output'\nanswer() { echo 41; }", 0.0, &["evaluated"]),
    ("breaks its neighbour", "answer() { echo 42; }\necho broken > neighbour.txt", 0.0, &["evaluated"]),
];

#[test]
fn what_a_patch_does_to_its_tests_is_graded() {
    let home = Home::new();
    let rows: Vec<Row> = PATCHES
        .iter()
        .enumerate()
        .map(|(at, case)| Row::new(&format!("patch__{at:02}")).patch(case.1))
        .collect();
    let job = job(&home, "job", &rows, "agent: { name: oracle }\ngrading: { timeout_s: 2 }\n");
    home.run(&job, "out").expect(0);
    let found = home.rollouts("out");
    assert_eq!(found.len(), PATCHES.len());
    for (row, (what, _, reward, stops)) in found.iter().zip(PATCHES) {
        let (found, stop) = graded(row);
        assert!(found == *reward && stops.contains(&stop.as_str()), "a patch that {what}: {found} {stop}");
    }
}

/// What an agent does before it mends the line, and whether its sandbox must be as good as before.
const ATTACKS: &[(&str, &str, bool)] = &[
    ("kills everything", "kill -9 -1", true),
    ("fills its disk", "cat /dev/zero > /tmp/full; cat /dev/zero > full; ls -l full; rm full", true),
    ("takes all memory", "perl -e 'push @a, \"x\" x 1e7 while 1'", true),
    // The bomb may take every process that the sandbox may have, and then nothing can be mended.
    ("forks without end", "bomb() { bomb | bomb & }; bomb", false),
    ("leaves a disk full", "cat /dev/zero > /tmp/full; cat /dev/zero > full", false),
];

/// Only where limits are enforced: elsewhere the attacks would hit the machine.
fn has_limits() -> bool {
    let home = Home::new();
    let checks = home.command("doctor").args(["--json"]).output().json();
    let enforced = |check: &serde_json::Value| check["name"] == "cgroups" && check["state"] == "ok";
    isolated() && checks.as_array().unwrap().iter().any(enforced)
}

#[test]
fn what_an_agent_does_to_its_sandbox_is_graded() {
    if !has_limits() {
        eprintln!("skipped: no limits of memory and processes can be enforced here");
        return;
    }
    let home = Home::new();
    let mend = format!("echo '{RIGHT}' > answer.sh");
    let attack = |(at, (_, command, _)): (usize, &(&str, &str, bool))| {
        Row::new(&format!("attack__{at:02}")).bash(command).bash(&mend)
    };
    let rows: Vec<Row> = ATTACKS.iter().enumerate().map(attack).collect();
    let limits =
        "sandbox: { limits: { memory_mb: 256, pids: 64, disk_mb: 64 } }\nagent: { command_timeout_s: 20 }\n";
    let job = job(&home, "job", &rows, limits);
    home.run(&job, "out").expect(0);
    let found = home.rollouts("out");
    assert_eq!(found.len(), ATTACKS.len());
    for (row, (what, _, recovers)) in found.iter().zip(ATTACKS) {
        let (reward, stop) = graded(row);
        assert!(!recovers || reward == 1.0, "an agent that {what}: {reward} {stop} {:?}", row.stop_reason);
    }
}

#[test]
fn a_model_that_is_down_is_a_fault_of_the_model() {
    let home = Home::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let model = format!(
        "model: {{ name: m, base_url: \"http://127.0.0.1:{port}/v1\", client: {{ max_tries: 2, backoff_ms: 1 }} }}\n"
    );
    let job = job(&home, "job", &[Row::new("down__1"), Row::new("down__2")], &(model + "fault_retries: 0\n"));
    let ended = home.run(&job, "out").expect(3).json();
    let found = home.rollouts("out");
    assert_eq!(found.len(), 2);
    for row in found {
        let Outcome::Faulted(fault) = row.outcome else { panic!("{:?}", row.outcome) };
        assert_eq!(fault.blame.to_string(), "model", "{fault:?}");
    }
    let report = &ended["report"];
    assert_eq!((&report["graded"], &report["faulted"], &report["solved"]), (&0.into(), &2.into(), &0.into()));
    assert_eq!(report["fault_classes"][0]["blame"], "model", "{report}");
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said on standard error, where nothing can be mounted.
    fn mount(home: &Home, kilobytes: u32) -> Option<Self> {
        let place = home.path(&format!("disk-{kilobytes}"));
        std::fs::create_dir(&place).unwrap();
        let disk = Self(place);
        let mounted = disk.command("mount", &["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "none"]);
        if !mounted {
            eprintln!("skipped: no file system can be mounted here, so no disk can be full");
            return None;
        }
        Some(disk)
    }

    fn enlarge(&self) {
        assert!(self.command("mount", &["-o", "remount,size=256m"]));
    }

    fn command(&self, program: &str, args: &[&str]) -> bool {
        let ended = Command::new(program).args(args).arg(&self.0).output();
        ended.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.command("umount", &["-l"]);
    }
}

#[test]
fn a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_space() {
    let home = Home::new();
    home.run(&quickstart(), "undisturbed").expect(0);
    let undisturbed = home.verdicts("undisturbed");
    for kilobytes in [4, 64, 200, 320] {
        let Some(disk) = SmallDisk::mount(&home, kilobytes) else { return };
        let out = format!("disk-{kilobytes}/out");
        let full = home.run(&quickstart(), &out).output();
        let text = format!("{}{}", full.stdout, full.stderr);
        assert_ne!(full.code, Some(0), "{kilobytes} KiB are enough: {text}");
        assert!(text.contains("full") || text.contains("o space left"), "{kilobytes} KiB: {full:?}");
        assert!(full.code.is_some_and(|code| code != 101), "{full:?}");
        let before = if kilobytes > 4 { home.verdicts(&out) } else { Vec::new() };
        let graded = before.iter().filter(|verdict| verdict.contains("Graded"));
        let missing: Vec<_> = graded.filter(|verdict| !undisturbed.contains(verdict)).collect();
        assert!(missing.is_empty(), "{kilobytes} KiB: {missing:?}");
        disk.enlarge();
        home.run(&quickstart(), &out).expect(0);
        assert_eq!(home.verdicts(&out), undisturbed, "{kilobytes} KiB");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_said() {
    let home = Home::new();
    let job = job(
        &home,
        "job",
        &[Row::new("docker__1")],
        "agent: { name: oracle }\nsandbox: { backend: docker }\n",
    );
    let socket = format!("unix://{}", home.path("absent.sock").display());
    let run = home
        .command("run")
        .args([&job, "-q", "--json", "--out", "out"])
        .env("DOCKER_HOST", &socket)
        .expect(6);
    assert!(run.stderr.contains("absent.sock") && run.stderr.contains("thresher doctor"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    // Nothing was begun, so another backend may take the run over.
    home.command("run").args([&job, "-q", "--json", "--out", "out"]).args(backend()).expect(0);
}

/// Starts a job on a daemon.
fn run_docker(home: &Home, job: &str, daemon: &Daemon) -> common::Running {
    let run = home.command("run").args([job, "-q", "--json", "--out", "out"]);
    run.env("DOCKER_HOST", daemon.host()).spawn()
}

const DOCKER: &str = "sandbox: { backend: docker }\nfault_retries: 0\n";

/// The only rollout of a run.
fn only(home: &Home) -> RolloutSummary {
    let mut found = home.rollouts("out");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Nothing of ours stays in the daemon: what ends at the run's end is removed by the daemon in its own time.
fn no_container_stays(daemon: &Daemon) {
    eventually("no container is left", || daemon.containers().is_empty().then_some(()));
}

#[test]
fn what_a_patch_does_in_a_container_is_graded() {
    let Some(daemon) = Daemon::start() else { return };
    let home = Home::new();
    let row = |(at, case): (usize, &(&str, &str, f64, &[&str]))| {
        Row::new(&format!("patch__{at:02}")).patch(case.1).in_image(IMAGE, "")
    };
    let rows: Vec<Row> = PATCHES.iter().enumerate().map(row).collect();
    let extra = format!("agent: {{ name: oracle }}\ngrading: {{ timeout_s: 5 }}\n{DOCKER}");
    let job = job(&home, "job", &rows, &extra);
    let ended = run_docker(&home, &job, &daemon).output();
    let found = home.rollouts("out");
    assert_eq!((ended.code, found.len()), (Some(0), PATCHES.len()), "{ended:?}");
    for (row, (what, _, reward, stops)) in found.iter().zip(PATCHES) {
        let (found, stop) = graded(row);
        assert!(found == *reward && stops.contains(&stop.as_str()), "a patch that {what}: {found} {stop}");
    }
    no_container_stays(&daemon);
}

#[test]
fn a_daemon_that_dies_while_tests_run_is_a_fault_and_the_same_command_finishes() {
    const PAUSE: &str = "sleep 7.0413";
    let Some(mut daemon) = Daemon::start() else { return };
    let home = Home::new();
    let rows = [Row::new("daemon__1").in_image(IMAGE, PAUSE)];
    let job = job(&home, "job", &rows, &format!("agent: {{ name: oracle }}\n{DOCKER}"));
    let running = run_docker(&home, &job, &daemon);
    eventually("the tests run", || (!processes(PAUSE).is_empty()).then_some(()));
    daemon.kill();
    let ended: Output = running.expect(3);
    let row = only(&home);
    let Outcome::Faulted(fault) = &row.outcome else { panic!("{row:?}") };
    assert_eq!(fault.blame.to_string(), "daemon", "{fault:?}");
    assert_eq!(ended.json()["report"]["graded"], 0);

    daemon.start_again();
    run_docker(&home, &job, &daemon).expect(0);
    assert_eq!(graded(&only(&home)), (1.0, "evaluated".to_owned()));
    no_container_stays(&daemon);
}

#[test]
fn an_image_that_goes_before_the_grading_is_no_reward_of_zero() {
    const PAUSE: &str = "sleep 5.0421";
    let Some(daemon) = Daemon::start() else { return };
    let home = Home::new();
    let mend = format!("echo '{RIGHT}' > answer.sh");
    let rows = [Row::new("image__1").bash(&mend).bash(PAUSE).in_image(IMAGE, "")];
    let job = job(&home, "job", &rows, DOCKER);
    let running = run_docker(&home, &job, &daemon);
    eventually("the agent works", || (!processes(PAUSE).is_empty()).then_some(()));
    daemon.remove_images();
    let ended = running.output();
    match only(&home).outcome {
        Outcome::Graded(graded) => assert_eq!(graded.reward, 1.0, "{ended:?}"),
        Outcome::Faulted(fault) => {
            assert!(matches!(fault.blame.to_string().as_str(), "image" | "registry"), "{fault:?}");
            assert_eq!(ended.code, Some(3), "{ended:?}");
        }
    }
    no_container_stays(&daemon);
}

#[test]
fn a_runner_that_is_killed_leaves_no_container() {
    const PAUSE: &str = "sleep 4.0437";
    let Some(daemon) = Daemon::start() else { return };
    let home = Home::new();
    let mend = format!("echo '{RIGHT}' > answer.sh");
    let rows = [Row::new("runner__1").bash(PAUSE).bash(&mend).in_image(IMAGE, "")];
    let job = job(&home, "job", &rows, DOCKER);
    let mut running = run_docker(&home, &job, &daemon);
    eventually("the agent works", || (!processes(PAUSE).is_empty()).then_some(()));
    assert!(!daemon.containers().is_empty());
    running.kill();
    run_docker(&home, &job, &daemon).expect(0);
    assert_eq!(graded(&only(&home)), (1.0, "evaluated".to_owned()));
    no_container_stays(&daemon);
}

/// The engine beside a worker begins when the worker does, and may take longer.
#[test]
fn a_worker_in_a_job_waits_for_its_engine_and_may_be_drained_meanwhile() {
    let Some(mut daemon) = Daemon::start() else { return };
    let home = Home::new();
    let rows = [Row::new("engine__1").in_image(IMAGE, "")];
    let job = job(&home, "job", &rows, &format!("agent: {{ name: oracle }}\n{DOCKER}"));
    home.command("plan").args([job.as_str(), "--out", "out"]).expect(0);
    let host = daemon.host();
    let worker = || home.command("worker").args(["--run", "out", "-q"]).env("DOCKER_HOST", &host);
    let waits = || {
        let worker = worker().args(["--in-job"]).env("THRESHER_LOG", "thresher=info").spawn();
        eventually("it waits", || worker.stderr().contains("waiting for what makes sandboxes").then_some(()));
        worker
    };
    daemon.kill();
    let told = worker().expect(6).stderr;
    assert!(told.contains(&host), "on a machine of one's own one hears of it at once: {told}");
    let drained = waits();
    drained.signal(Signal::TERM);
    drained.expect(4);
    let worker = waits();
    daemon.start_again();
    worker.expect(0);
    assert_eq!(graded(&only(&home)), (1.0, "evaluated".to_owned()));
    no_container_stays(&daemon);
}

/// As engines beside workers are: what would run without the network that it asks for is not begun.
#[test]
fn an_engine_without_a_bridge_refuses_a_job_that_asks_for_the_network() {
    let Some(daemon) = Daemon::start() else { return };
    let home = Home::new();
    let rows = [Row::new("network__1").in_image(IMAGE, "")];
    let docker = DOCKER.replacen('{', "{ network: full,", 1);
    let job = job(&home, "job", &rows, &format!("agent: {{ name: oracle }}\n{docker}"));
    let told = run_docker(&home, &job, &daemon).expect(6).stderr;
    assert!(told.contains("network: full") && told.contains("--bridge=none"), "{told}");
}
