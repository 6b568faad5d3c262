//! A process that works on a run is killed at random instants. Nothing that it acknowledged is lost, nothing is
//! doubled, and the same calls bring the run to its end.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::{RolloutId, RolloutRecord};
use thresher_ledger::{LockError, PackOptions, PackWhen, RunLock};

use crate::fixtures::{dataset, faulted, local, plan, records, spec};

const DIR: &str = "THRESHER_LEDGER_KILL_DIR";
const KILLS: u64 = 20;

fn wanted() -> Vec<RolloutRecord> {
    records(&plan(40, 0..4))
}

fn small_packs() -> PackOptions {
    PackOptions { raw_bytes: 20_000, when: PackWhen::Always }
}

#[test]
fn a_run_survives_kills_at_random_instants() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = wanted();
    let mut acknowledged = BTreeSet::new();
    for seed in 0..KILLS {
        let mut random = StdRng::seed_from_u64(seed);
        acknowledged.extend(work_until_killed(dir.path(), &mut random));
        assert_valid(dir.path(), &wanted, &acknowledged);
    }
    assert!(acknowledged.len() < wanted.len(), "the kills came too late to mean anything");
    finish(dir.path());
    assert_valid(dir.path(), &wanted, &wanted.iter().map(|record| record.rollout_id.clone()).collect());
    assert_sealed(dir.path(), &wanted);
}

/// Lets a process commit a few rollouts, then kills it somewhere in its further work.
fn work_until_killed(dir: &Path, random: &mut StdRng) -> Vec<RolloutId> {
    let mut child = start(dir);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let enough = random.random_range(0..6);
    let mut next = || lines.next().map(|line| line.unwrap());
    while seen.len() < enough {
        let Some(line) = next() else { break };
        seen.extend(acknowledged(&line));
    }
    if enough == 3 {
        let held = RunLock::acquire(dir).unwrap_err();
        assert!(matches!(held, LockError::Held { pid, .. } if pid == Some(child.id())), "{held}");
    }
    // Not a pause to wait for something: it only spreads the instants of the kills.
    for _ in 0..random.random_range(0..3_000_000) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts too.
    while let Some(line) = next() {
        seen.extend(acknowledged(&line));
    }
    seen
}

fn acknowledged(line: &str) -> Option<RolloutId> {
    line.strip_prefix("committed ").map(RolloutId::new)
}

fn start(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::the_process_that_is_killed", "--ignored", "--nocapture"]);
    command.env(DIR, dir).stdout(Stdio::piped()).spawn().unwrap()
}

fn finish(dir: &Path) {
    let output = start(dir).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::main(flavor = "current_thread")]
async fn assert_valid(dir: &Path, wanted: &[RolloutRecord], acknowledged: &BTreeSet<RolloutId>) {
    let ledger = local(dir);
    let committed = ledger.committed().await.unwrap();
    for rollout in acknowledged {
        assert!(committed.contains_key(rollout), "{rollout} was acknowledged and is lost");
    }
    for record in wanted.iter().filter(|record| committed.contains_key(&record.rollout_id)) {
        let kept = ledger.result(&record.shard_id, &record.rollout_id).await.unwrap();
        assert_eq!(kept.as_ref(), Some(record));
    }
    let rows = ledger.reader().await.unwrap().rollouts().await.unwrap();
    let graded = rows.iter().filter(|row| row.outcome.reward().is_some()).count();
    let ids: BTreeSet<_> = rows.iter().map(|row| row.rollout_id.clone()).collect();
    assert_eq!((rows.len(), graded), (ids.len(), committed.len()), "each rollout once");
}

#[tokio::main(flavor = "current_thread")]
async fn assert_sealed(dir: &Path, wanted: &[RolloutRecord]) {
    let reader = local(dir).reader().await.unwrap();
    assert!(reader.is_sealed());
    let manifest = local(dir).manifest().await.unwrap().unwrap();
    let rows = |table: &str| -> u64 {
        manifest.files.iter().filter(|file| file.table == table).map(|file| file.rows).sum()
    };
    let steps: usize = wanted.iter().map(|record| record.steps.len()).sum();
    assert_eq!((rows("rollouts"), rows("steps")), (wanted.len() as u64, steps as u64));
    assert_eq!((manifest.counts.graded, manifest.counts.missing), (wanted.len() as u64, 0));
    for file in &manifest.files {
        let bytes = std::fs::read(dir.join(&file.path)).unwrap();
        assert_eq!(
            (bytes.len() as u64, thresher_core::Sha256Hex::of(&bytes)),
            (file.bytes, file.sha256.clone())
        );
    }
    let staging: Vec<_> = std::fs::read_dir(dir.join(".staging")).unwrap().collect();
    assert!(staging.is_empty(), "dead writers left {staging:?}");
}

#[test]
#[ignore = "started and killed by a_run_survives_kills_at_random_instants, which gives it a directory"]
fn the_process_that_is_killed() {
    let dir = std::env::var_os(DIR).expect("the test that starts this process names a directory");
    work(Path::new(&dir));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn work(dir: &Path) {
    let _lock = RunLock::acquire(dir).unwrap();
    let ledger = local(dir);
    ledger.extend_plan(&spec(4), &dataset(), &plan(40, 0..4)).await.unwrap();
    let done = ledger.committed().await.unwrap();
    let open = wanted().into_iter().filter(|record| !done.contains_key(&record.rollout_id));
    for (at, record) in open.enumerate() {
        let (shard, rollout) = (&record.shard_id, &record.rollout_id);
        let attempts = ledger.attempts(shard, rollout).await.unwrap();
        if at % 3 == 0 && attempts.faults.is_empty() {
            ledger.save_fault(&faulted(&record, attempts.next), None).await.unwrap();
        }
        if !attempts.ungraded {
            ledger.save_ungraded(shard, rollout, attempts.next, "n", &record.steps).await.unwrap();
        }
        ledger.commit(&record, None).await.unwrap();
        say(&format!("committed {rollout}"));
        if at % 4 == 3 {
            ledger.pack(&small_packs()).await.unwrap();
        }
    }
    ledger.seal(&small_packs()).await.unwrap();
}

/// Past the test harness, which would hold the line back.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).unwrap();
}
