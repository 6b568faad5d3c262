//! Measures what a run asks of its store: workers with rollouts that take no time, over a directory or a bucket.
//!
//! `bench_store URL WORKERS SLOTS ROLLOUTS STEPS HEARTBEAT_S` plans ROLLOUTS, four to an image, lets WORKERS finish them
//! together, each with SLOTS at a time, checks that each rollout has one result, and prints a line of JSON: seconds, requests,
//! bytes. A rollout has STEPS steps of about 1.5 KB; with 0 it is a row and nothing else, and no trajectory is kept before
//! grading.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that meets an error is over")]

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use thresher_core::plan::{Plan, TaskHandle};
use thresher_core::record::{
    PolicyIdentity, RolloutRecord, SCHEMA_VERSION, SandboxIdentity, TaskIdentity, Timings, Totals,
};
use thresher_core::task::Family;
use thresher_core::trajectory::{Observation, Step, ToolCall, ToolMode};
use thresher_core::{
    Fault, GradeStop, Graded, InstanceId, Outcome, RolloutId, RunId, RunSpec, Sha256Hex, StopReason,
};
use thresher_ledger::{DatasetIdentity, Ledger};
use thresher_rollout::{Clock, Journal, RolloutJob, Ungraded};
use thresher_store::{Metered, ObjectStore, RetryPolicy, Retrying, StoreUrl, Usage};
use thresher_worker::{Event, Observer, OnDrain, Runner, Worker, WorkerParts, WorkerReport};
use tokio_util::sync::CancellationToken;

struct Silent;

impl Observer for Silent {
    fn hear(&self, _: Event) {}
}

/// Runs a rollout in no time.
struct Instantly {
    journal: Arc<dyn Journal>,
    steps: u32,
}

#[async_trait]
impl Runner for Instantly {
    async fn run(&self, job: RolloutJob, task: &TaskHandle, _: &CancellationToken) -> RolloutRecord {
        let mut record = record(&job, task, self.steps);
        if self.steps > 0 {
            let ungraded = Ungraded {
                nonce: job.nonce.clone(),
                policy: record.policy.clone(),
                sandbox: record.sandbox.clone(),
                stop_reason: StopReason::Submitted,
                patch: None,
                steps: record.steps.clone(),
                timings: record.timings.clone(),
            };
            self.journal.ungraded(&job.rollout_id, &ungraded).await.unwrap();
            let log = format!("{}\n1 passed in 0.01s\n", words(&job.nonce, 400));
            let path = self.journal.grader_log(&job.rollout_id, &job.nonce, log.as_bytes()).await.unwrap();
            record.grader_log = Some(path);
        }
        record
    }

    fn lost(&self, _: RolloutJob, fault: Fault) -> RolloutRecord {
        unreachable!("no worker is lost in a benchmark: {fault}")
    }

    async fn prefetch(&self, _: &TaskHandle) {}

    async fn settle(&self) {}
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, workers, slots, rollouts, steps, heartbeat_s] = &args[..] else {
        panic!("usage: bench_store URL WORKERS SLOTS ROLLOUTS STEPS HEARTBEAT_S")
    };
    let number = |text: &String| text.parse::<u32>().unwrap();
    let (workers, slots, rollouts, steps) =
        (number(workers), number(slots) as usize, number(rollouts), number(steps));
    let (store, prefix) = StoreUrl::parse(url).unwrap().open().await.unwrap();
    let meter = Metered::new(store);
    let planned = Instant::now();
    let ledger = ledger(&meter, &prefix, 0);
    let plan = ledger.extend_plan(&spec(number(heartbeat_s)), &dataset(), &plan(rollouts)).await.unwrap();
    let (plan_s, before) = (planned.elapsed().as_secs_f64(), meter.usage());
    let began = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|at| {
            let (ledger, plan) = (self::ledger(&meter, &prefix, at), plan.clone());
            let runner = move |journal| Arc::new(Instantly { journal, steps }) as Arc<dyn Runner>;
            let parts = WorkerParts {
                ledger,
                plan,
                slots,
                observer: Arc::new(Silent),
                drain: CancellationToken::new(),
                on_drain: OnDrain::Finish,
                exclusive: false,
                host: format!("bench-{at}"),
                clock: Clock::system(),
                seed: at.into(),
                runner: Box::new(runner),
            };
            tokio::spawn(async move { Box::pin(Worker::new(parts).await.unwrap().run()).await.unwrap() })
        })
        .collect();
    let following = tokio::spawn(follow(url.clone(), prefix.clone()));
    let mut reports: Vec<WorkerReport> = Vec::new();
    for task in tasks {
        reports.push(task.await.unwrap());
    }
    let seconds = began.elapsed().as_secs_f64();
    let graded: u64 = reports.iter().map(|report| report.graded).sum();
    assert_eq!(graded, u64::from(rollouts));
    let (followed, cost) = following.await.unwrap();
    assert_eq!(followed, u64::from(rollouts), "a follower is shown each rollout once");
    let manifest = ledger.manifest().await.unwrap().unwrap();
    let data = manifest.files.iter().map(|file| file.bytes).sum();
    print(workers, rollouts, plan_s, seconds, since(before, meter.usage()), data, cost);
    check(&ledger, &plan.plan).await;
}

/// Each planned rollout has one row in the sealed tables.
async fn check(ledger: &Ledger, plan: &Plan) {
    let reader = ledger.reader().await.unwrap();
    assert!(reader.is_sealed());
    let rows = reader.rollouts().await.unwrap();
    let mut committed: Vec<_> = rows.iter().map(|row| &row.rollout_id).collect();
    let mut planned: Vec<_> = plan.rollouts().map(|rollout| &rollout.rollout_id).collect();
    committed.sort();
    planned.sort();
    assert_eq!(committed, planned, "each rollout is committed exactly once");
}

/// Follows the run until it is sealed, five looks a second; says what it was shown and what that cost.
async fn follow(url: String, prefix: String) -> (u64, Usage) {
    let (store, _) = StoreUrl::parse(&url).unwrap().open().await.unwrap();
    let meter = Metered::new(store);
    let ledger = ledger(&meter, &prefix, u32::MAX);
    let mut follower = ledger.follow(None);
    let mut shown = 0;
    loop {
        let sealed = ledger.manifest().await.unwrap().is_some();
        for new in follower.next().await.unwrap() {
            shown += new.rollouts.len() as u64;
        }
        if sealed {
            return (shown, meter.usage());
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn print(workers: u32, rollouts: u32, plan_s: f64, seconds: f64, usage: Usage, data: u64, follower: Usage) {
    let each = |count: u64| (count as f64 / f64::from(rollouts) * 1e3).round() / 1e3;
    println!(
        "{}",
        serde_json::json!({
            "workers": workers, "rollouts": rollouts, "plan_s": plan_s, "seconds": seconds,
            "results_per_s": f64::from(rollouts) / seconds,
            "writes_per_rollout": each(usage.writes()), "reads_per_rollout": each(usage.reads()),
            "conflicts_per_rollout": each(usage.conflicts), "errors": usage.errors,
            "bytes_written_per_rollout": each(usage.bytes_up), "table_bytes_per_rollout": each(data),
            "written_over_tables": usage.bytes_up as f64 / data as f64,
            "follower_requests": follower.reads() + follower.writes(), "follower_bytes": follower.bytes_down,
            "peak_rss_mb": peak_rss_mb(),
        })
    );
}

fn since(before: Usage, after: Usage) -> Usage {
    Usage {
        puts: after.puts - before.puts,
        uploads: after.uploads - before.uploads,
        parts: after.parts - before.parts,
        completions: after.completions - before.completions,
        aborts: after.aborts - before.aborts,
        gets: after.gets - before.gets,
        heads: after.heads - before.heads,
        lists: after.lists - before.lists,
        deletes: after.deletes - before.deletes,
        conflicts: after.conflicts - before.conflicts,
        errors: after.errors - before.errors,
        bytes_up: after.bytes_up - before.bytes_up,
        bytes_down: after.bytes_down - before.bytes_down,
    }
}

fn ledger(meter: &Metered, prefix: &str, seed: u32) -> Ledger {
    let store: Arc<dyn ObjectStore> = Arc::new(meter.clone());
    let retrying = Retrying::new(store, RetryPolicy::default(), seed.into());
    Ledger::open(Arc::new(retrying), prefix, RunId::new("bench")).unwrap()
}

fn spec(heartbeat_s: u32) -> RunSpec {
    let fleet = serde_json::json!({ "heartbeat_s": heartbeat_s });
    serde_json::from_value(serde_json::json!({ "dataset": { "path": "none" }, "samples": 4, "fleet": fleet }))
        .unwrap()
}

fn dataset() -> DatasetIdentity {
    DatasetIdentity {
        name: "none".into(),
        family: Family::Inline,
        fingerprint: Sha256Hex::of(b"none"),
        rows: 0,
    }
}

fn plan(rollouts: u32) -> Plan {
    let task = |at: u32| TaskHandle {
        instance_id: InstanceId::new(format!("task-{at:06}")),
        row_sha256: Sha256Hex::of(&at.to_le_bytes()),
        image: format!("registry/image:{at}"),
        row: at.into(),
    };
    let id = |task: &TaskHandle, sample: u32| {
        let text = format!("{}-{sample}", task.instance_id);
        RolloutId::new(&Sha256Hex::of(text.as_bytes()).as_str()[..32])
    };
    Plan::new((0..rollouts.div_ceil(4)).map(task).collect(), vec![], 0..4, id)
}

fn record(job: &RolloutJob, task: &TaskHandle, steps: u32) -> RolloutRecord {
    let steps: Vec<Step> = (0..steps).map(|index| step(&job.nonce, index)).collect();
    let fixed = Sha256Hex::of(b"fixed");
    RolloutRecord {
        schema_version: SCHEMA_VERSION,
        run_id: RunId::new("bench"),
        shard_id: job.shard_id.clone(),
        rollout_id: job.rollout_id.clone(),
        attempt: job.attempt,
        nonce: job.nonce.clone(),
        task: TaskIdentity {
            instance_id: job.instance_id.clone(),
            dataset: "none".into(),
            dataset_fingerprint: fixed.clone(),
            row_sha256: task.row_sha256.clone(),
            family: Family::Inline,
            repo: None,
            base_commit: None,
        },
        sample: job.sample,
        policy: PolicyIdentity {
            agent: "bench".into(),
            agent_version: "1".into(),
            agent_sha256: fixed,
            tool_mode: ToolMode::Native,
            system_prompt: "You are a programmer.".into(),
            task_prompt: words(&job.rollout_id.to_string(), 60),
            tools: None,
            model: "none".into(),
            provider: String::new(),
            sampling: serde_json::Value::Null,
        },
        sandbox: SandboxIdentity::default(),
        outcome: Outcome::Graded(Graded {
            reward: 1.0,
            resolution: None,
            stop: GradeStop::Evaluated,
            flaky: false,
            fail_to_pass: None,
            pass_to_pass: None,
            rule: "bench".into(),
        }),
        stop_reason: Some(StopReason::Submitted),
        patch: None,
        totals: Totals::of(&steps),
        timings: Timings::default(),
        runner_version: "bench".into(),
        grader_log: None,
        steps,
        tests: Vec::new(),
    }
}

fn step(nonce: &str, index: u32) -> Step {
    let seed = format!("{nonce}-{index}");
    Step {
        index,
        content: words(&seed, 40),
        tool_calls: vec![ToolCall {
            id: seed.clone(),
            name: "execute_bash".into(),
            arguments: format!("{{\"command\": \"grep -rn {seed} src\"}}"),
            arguments_valid: true,
        }],
        observations: vec![Observation {
            content: words(&format!("{seed}-seen"), 160),
            ..Observation::default()
        }],
        ..Step::default()
    }
}

/// Text that compresses about as well as the output of commands does.
fn words(seed: &str, count: usize) -> String {
    const WORDS: [&str; 16] = [
        "the ", "def ", "return ", "self.", "import ", "assert ", "test_", "value ", "in ", "for ", "if ",
        "None ", "error: ", "line ", "src/", "== ",
    ];
    let mut state = Sha256Hex::of(seed.as_bytes())
        .as_str()
        .bytes()
        .fold(7u64, |sum, byte| sum * 31 % (1 << 40) + u64::from(byte));
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = WORDS[(state >> 60) as usize];
            if state >> 56 & 7 == 0 { format!("{word}{:x} ", state >> 48 & 0xfff) } else { word.to_owned() }
        })
        .collect()
}

fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
