//! Measures planning: `cargo run --example bench_plan -- [ROLLOUTS]`, 100,000 by default. Prints one JSON object:
//! seconds of each part, and the greatest memory that the process needed.
//!
//! The tasks have the shape of a large dataset: 13 repositories, an image per task, 4 samples, durations known of
//! every other task.

#![expect(clippy::print_stdout, reason = "the measurements are the program's output")]

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use thresher_core::id::RolloutKey;
use thresher_core::plan::{Durations, Plan, SHARD_S, Sizing, TaskHandle};
use thresher_core::task::Family;
use thresher_core::{InstanceId, RolloutId, RunId, RunSpec, Sha256Hex};
use thresher_ledger::{DatasetIdentity, Ledger};
use thresher_store::{LocalDir, Memory, ObjectStore};

const SAMPLES: u32 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rollouts: u32 = std::env::args().nth(1).map_or(Ok(100_000), |given| given.parse())?;
    let tasks: Vec<TaskHandle> = (0..rollouts / SAMPLES).map(task).collect();
    let dir = tempfile::tempdir()?;

    let begun = Instant::now();
    let plan = plan(tasks);
    let pure_s = begun.elapsed().as_secs_f64();
    let local = measure(Arc::new(LocalDir::new(dir.path())), &plan).await?;
    let memory = measure(Arc::new(Memory::new()), &plan).await?;
    let measured = json!({
        "rollouts": plan.rollout_count(), "shards": plan.shards.len(), "plan_s": pure_s,
        "local": local, "memory": memory, "peak_rss_mb": peak_rss_mb()?,
    });
    println!("{measured}");
    Ok(())
}

/// Seconds to store the plan, to read it, and to ask for what came after it.
async fn measure(store: Arc<dyn ObjectStore>, plan: &Plan) -> Result<Value, Box<dyn std::error::Error>> {
    let ledger = Ledger::open(store, "", RunId::new("bench"))?;
    let spec: RunSpec =
        serde_json::from_value(json!({ "dataset": { "path": "bench" }, "samples": SAMPLES }))?;
    let dataset = DatasetIdentity {
        name: "bench".into(),
        family: Family::SweBench,
        fingerprint: Sha256Hex::of(b"bench"),
        rows: plan.tasks.len() as u64,
    };
    let begun = Instant::now();
    drop(ledger.extend_plan(&spec, &dataset, plan).await?);
    let extend_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let stored = ledger.plan().await?.ok_or("the plan is not there")?;
    let read_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let later = ledger.plan_after(&stored).await?;
    let follow_s = begun.elapsed().as_secs_f64();
    if stored.plan != *plan || later.is_some() {
        return Err("the stored plan is another one".into());
    }
    Ok(json!({ "extend_s": extend_s, "read_s": read_s, "follow_s": follow_s }))
}

fn plan(tasks: Vec<TaskHandle>) -> Plan {
    let known =
        tasks.iter().step_by(2).map(|task| (task.instance_id.to_string(), (task.row % 601 + 30) as f64));
    let sizing = Sizing { shard_s: SHARD_S, durations: Durations::given(known) };
    let (agent_sha256, model_sha256) = (Sha256Hex::of(b"agent"), Sha256Hex::of(b"model"));
    Plan::sized(tasks, Vec::new(), 0..SAMPLES, &sizing, |task, sample| {
        RolloutId::derive(&RolloutKey {
            instance_id: &task.instance_id,
            row_sha256: &task.row_sha256,
            agent_sha256: &agent_sha256,
            model_sha256: &model_sha256,
            sample,
        })
    })
}

fn task(at: u32) -> TaskHandle {
    let row_sha256 = Sha256Hex::of(&at.to_le_bytes());
    let repository = format!("repository{}", at % 13);
    let commit = &row_sha256.as_str()[..40];
    TaskHandle {
        instance_id: InstanceId::new(format!("{repository}__{commit}")),
        image: format!("namanjain12/{repository}_final:{commit}"),
        row_sha256,
        row: at.into(),
    }
}

fn peak_rss_mb() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM line")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
