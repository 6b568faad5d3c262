//! Workers on a bucket that are killed, stopped and started again, under a store that dies and a disk that fills: the
//! run ends with the rewards of one that was left alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is said")]

#[expect(dead_code, reason = "every test binary uses a part of what they share")]
mod common;

use std::path::Path;
use std::time::Duration;

use common::fleet::{fleet_job, worker};
use common::{Home, Running, traces};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use thresher_testkit::{S3Server, S3ServerKind};

/// How often a worker is killed.
const KILLS: u32 = 50;
/// Workers at a time.
const WORKERS: usize = 4;
/// Longer than a worker may be silent.
const FROZEN: Duration = Duration::from_secs(7);
/// How long the store is away.
const OUTAGE: Duration = Duration::from_secs(30);
/// How long its disk is full.
const FULL: Duration = Duration::from_secs(5);

const URL: &str = "s3://thresher-test/runs/chaos";
/// Where the server keeps the objects of the run.
const FOLDER: &str = "s3/thresher-test/runs/chaos";

/// A small disk for the server, so that it can be filled. `false` where mounting is not allowed.
fn small_disk(folder: &Path) -> bool {
    std::fs::create_dir(folder).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", folder, "tmpfs", flags, Some(c"size=256m")).is_ok()
}

/// Writes a file until nothing more fits.
fn fill(file: &Path) {
    let block = vec![0; 1 << 20];
    let mut written = std::fs::File::create(file).unwrap();
    while std::io::Write::write_all(&mut written, &block).is_ok() {}
}

struct Fleet<'h> {
    home: &'h Home,
    server: S3Server,
    workers: Vec<Running>,
    job: String,
    samples: u32,
}

impl Fleet<'_> {
    fn start(&self) -> Running {
        let worker = worker(self.home, URL, &[]);
        self.server
            .environment()
            .into_iter()
            .fold(worker, |worker, (name, value)| worker.env(name, value))
            .spawn()
    }

    /// Plans the run, or more samples of it.
    fn plan(&self) {
        let samples = self.samples.to_string();
        let plan = self.home.command("plan").args([self.job.as_str(), "--out", URL, "-k", samples.as_str()]);
        self.server
            .environment()
            .into_iter()
            .fold(plan, |plan, (name, value)| plan.env(name, value))
            .expect(0);
    }

    /// Workers that have come to their end did so because there was nothing left: then there is more to do.
    fn keep_busy(&mut self) {
        for at in 0..WORKERS {
            if let Some(status) = self.workers[at].ended() {
                assert_eq!(status.code(), Some(0), "{}", self.workers[at].stderr());
                if self.workers.iter_mut().all(|worker| worker.ended().is_some()) {
                    self.samples += 4;
                    self.plan();
                }
                self.workers[at] = self.start();
            }
        }
    }
}

#[test]
fn whatever_happens_to_workers_and_store_the_rewards_are_those_of_a_quiet_run() {
    traces::adopt_orphans();
    let home = Home::new();
    let disk = small_disk(&home.path("s3"));
    let Some(server) = S3Server::start(S3ServerKind::Versitygw, &home.path("s3")).unwrap() else {
        eprintln!("skipped: THRESHER_TEST_VERSITYGW names no server: a run in a bucket is not tested");
        return unmount(&home, disk);
    };
    let (job, mut chance) = (fleet_job(&home, 1), StdRng::seed_from_u64(11));
    let mut fleet = Fleet { home: &home, server, workers: Vec::new(), job, samples: 4 };
    fleet.plan();
    fleet.workers = (0..WORKERS).map(|_| fleet.start()).collect();
    let mut kills = 0;
    while kills < KILLS {
        std::thread::sleep(Duration::from_millis(chance.random_range(50..1_200)));
        fleet.keep_busy();
        let at = chance.random_range(0..WORKERS);
        kills += 1;
        match kills {
            10 | 30 => freeze(&fleet.workers[at]),
            20 => {
                fleet.server.kill();
                std::thread::sleep(OUTAGE);
                fleet.server.restart().unwrap();
            }
            40 if disk => {
                fill(&home.path("s3/filler"));
                std::thread::sleep(FULL);
                std::fs::remove_file(home.path("s3/filler")).unwrap();
            }
            _ => {}
        }
        fleet.workers[at].kill();
        fleet.workers[at] = fleet.start();
    }
    for worker in std::mem::take(&mut fleet.workers) {
        worker.expect(0);
    }
    eprintln!("{KILLS} kills, {} samples of each task", fleet.samples);
    let samples = fleet.samples.to_string();
    home.run(&fleet.job, "quiet").args(["-k", samples.as_str()]).expect(0);
    assert_eq!(home.verdicts(FOLDER), home.verdicts("quiet"));
    let counts = home.manifest(FOLDER)["counts"].clone();
    assert_eq!((&counts["missing"], &counts["faulted"]), (&0.into(), &0.into()), "{counts}");
    let standing = home.command("status").args([FOLDER, "--json"]).expect(0).json();
    assert_eq!(standing["state"], "sealed", "{standing}");
    assert_eq!(standing["graded"], counts["graded"], "{standing}");
    // Those of workers that were lost so shortly before the end that nobody was left to wait for them.
    home.command("gc").args([FOLDER, "--keep", "0s"]).expect(0);
    assert_eq!(home.files(&format!("{FOLDER}/workers")), Vec::<String>::new(), "no heartbeat is left");
    let named: Vec<_> =
        home.manifest(FOLDER)["files"].as_array().unwrap().iter().map(|of| of["path"].clone()).collect();
    for file in home.files(&format!("{FOLDER}/tables")) {
        assert!(named.contains(&format!("tables/{file}").into()), "tables/{file} is no part of the run");
    }
    fleet.server.kill();
    unmount(&home, disk);
    let left = traces::left(&home);
    assert!(left.is_empty(), "left after {KILLS} kills: {left:#?}");
}

/// Stops a worker for longer than others wait for it, then lets it go on: it finds its shards taken.
fn freeze(worker: &Running) {
    worker.signal(Signal::STOP);
    std::thread::sleep(FROZEN);
    worker.signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(2));
}

fn unmount(home: &Home, disk: bool) {
    if disk {
        rustix::mount::unmount(home.path("s3"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
