//! Real tasks end to end: the dataset of `scripts/demo-dataset`, through the command as users run it.
//!
//! The environment variable `THRESHER_DEMO` names the dataset's folder. Without it, or where a backend cannot run,
//! the tests say that they skip.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;
use thresher_ledger::{Ledger, LedgerError, RolloutSummary};
use thresher_store::LocalDir;

const FOLDER: &str = "THRESHER_DEMO";
const R2E: &str = "r2e.jsonl";
const SWEBENCH: &str = "swebench.jsonl";

/// The backends share the machine's processors, and tests of real projects have deadlines.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What an agent could find of the solution: a command, and what it prints where nothing is to be found. The tool
/// refuses `git` as the first word, so bash comes before it. `FUTURE` stands for the commit with the fix.
const PROBES: &[(&str, &str)] = &[
    (r"find / -path /proc -prune -o \( -name r2e_tests -o -name run_tests.sh \) -print; echo $?", "0"),
    (
        "bash -c 'git log --all --format=%H | sort -u | comm -23 - <(git rev-list HEAD | sort -u); echo $?'",
        "0",
    ),
    ("bash -c 'git for-each-ref --no-merged HEAD; git rev-list --reflog --not HEAD; echo $?'", "0"),
    ("bash -c 'git fsck --unreachable --no-reflogs --no-progress; echo $?'", "0"),
    ("bash -c 'git cat-file -e HEAD; echo $?; git cat-file -e FUTURE; echo $?'", "0\n1"),
    ("grep -rl FUTURE .git /root /tmp; echo $?", "1"),
];

/// Rewards by instance id.
type Rewards = BTreeMap<String, f64>;

/// A row of the dataset, as far as the tests look at it.
struct Row {
    instance_id: String,
    image: String,
    /// The commit with the fix, which R2E rows name.
    future: Option<String>,
}

/// The dataset, a backend for it, and a folder for its runs, which share a cache.
struct Demo {
    folder: PathBuf,
    backend: &'static str,
    scratch: TempDir,
}

#[test]
fn embedded() {
    on_backend("embedded", "embedded, as root");
}

#[test]
fn docker() {
    on_backend("docker", "docker");
}

/// Makes every check with one backend, if the doctor's check of that name finds that it works.
fn on_backend(backend: &'static str, check: &str) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(folder) = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty()) else {
        println!("skipped: demo tasks; set {FOLDER} to a folder made by scripts/demo-dataset");
        return;
    };
    let folder = PathBuf::from(folder).canonicalize().expect("the folder of demo tasks exists");
    let demo = Demo { folder, backend, scratch: tempfile::tempdir().unwrap() };
    if let Some(obstacle) = demo.obstacle(check) {
        println!("skipped: demo tasks on {backend}; {obstacle}");
        return;
    }
    demo.gold_patches_solve_every_task_and_nothing_solves_none();
    demo.recorded_replies_solve_their_tasks();
    demo.agents_find_nothing_of_the_solution();
}

impl Demo {
    /// Says why the backend cannot run the tasks here.
    fn obstacle(&self, check: &str) -> Option<String> {
        let cache = self.cache();
        let output = thresher(&["doctor", "--json", "--cache", &cache]).output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let found = checks.iter().find(|found| found["name"] == check).expect("the doctor makes this check");
        if found["state"] == "failed" {
            return Some(found["finding"].to_string());
        }
        let image = &self.rows(R2E)[0].image;
        let registry = image.split('/').next().unwrap();
        let needed = self.backend == "docker" && TcpStream::connect(registry).is_err();
        needed.then(|| format!("the registry {registry} does not answer"))
    }

    fn gold_patches_solve_every_task_and_nothing_solves_none(&self) {
        for file in [R2E, SWEBENCH] {
            for (agent, reward) in [("oracle", 1.0), ("null", 0.0)] {
                let wanted: Rewards =
                    self.rows(file).into_iter().map(|row| (row.instance_id, reward)).collect();
                for time in ["first", "second"] {
                    let run = self.run(&format!("{agent}-{file}-{time}"), file, &["--agent", agent]);
                    assert_eq!(run.rewards(), wanted, "{agent} on {file}, {time} time, {}", self.backend);
                }
            }
        }
    }

    fn recorded_replies_solve_their_tasks(&self) {
        let replies = self.folder.join("replies.jsonl");
        let recorded: BTreeSet<String> =
            lines(&replies).iter().map(|line| text(&line["instance_id"])).collect();
        for (file, at_least) in [(R2E, 3), (SWEBENCH, 1)] {
            let mut ids: Vec<String> = self.rows(file).into_iter().map(|row| row.instance_id).collect();
            ids.retain(|id| recorded.contains(id));
            assert!(ids.len() >= at_least, "{file}: replies for {ids:?} only");
            let only = ids.iter().flat_map(|id| ["--only", id.as_str()]);
            let run = self.scripted(&format!("scripted-{file}"), file, &replies, only);
            let wanted: Rewards = ids.iter().map(|id| (id.clone(), 1.0)).collect();
            assert_eq!(run.rewards(), wanted, "{file}, {}", self.backend);
        }
    }

    fn agents_find_nothing_of_the_solution(&self) {
        let rows = self.rows(R2E);
        let replies = self.scratch.path().join("probes.jsonl");
        let recorded: String = rows.iter().flat_map(probing).map(|line| format!("{line}\n")).collect();
        std::fs::write(&replies, recorded).unwrap();
        let run = self.scripted("probes", R2E, &replies, []);
        for row in &rows {
            let record = run.record(&row.instance_id);
            let steps = record["steps"].as_array().unwrap();
            assert_eq!(steps.len(), PROBES.len() + 1, "{}", row.instance_id);
            for ((command, wanted), step) in PROBES.iter().zip(steps) {
                let seen = text(&step["observations"][0]["content"]);
                assert_eq!(standard_output(&seen), *wanted, "{}: {command}\n{seen}", row.instance_id);
            }
        }
    }

    fn rows(&self, file: &str) -> Vec<Row> {
        lines(&self.folder.join(file)).iter().map(Row::of).collect()
    }

    fn cache(&self) -> String {
        self.scratch.path().join("cache").display().to_string()
    }

    /// Runs with recorded replies.
    fn scripted<'a>(
        &'a self,
        name: &str,
        file: &str,
        replies: &'a Path,
        more: impl IntoIterator<Item = &'a str>,
    ) -> Run {
        let replies = replies.to_str().unwrap();
        let model = ["--agent", "r2egym", "--model", "scripted", "--replay", replies];
        self.run(name, file, &model.into_iter().chain(more).collect::<Vec<_>>())
    }

    /// Runs tasks of a file in a fresh run directory, eight at a time, and checks that nothing went wrong.
    fn run(&self, name: &str, file: &str, more: &[&str]) -> Run {
        let run = Run { folder: self.scratch.path().join(name) };
        let mut command =
            thresher(&["run", "--json", "--quiet", "--concurrency", "8", "--cache", &self.cache()]);
        command.args(["--backend", self.backend]).args(more);
        command.arg("--dataset").arg(self.folder.join(file)).arg("--out").arg(&run.folder);
        if self.backend == "embedded" {
            command.arg("--images").arg(self.folder.join("images"));
        }
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} on {}: {complaint}", self.backend);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let counts = &report["manifest"]["counts"];
        for trouble in ["faulted", "fault_attempts", "missing"] {
            assert_eq!(counts[trouble], 0, "{name} on {}: {counts} {complaint}", self.backend);
        }
        run
    }
}

impl Row {
    fn of(row: &Value) -> Self {
        let Some(commit) = row["commit_hash"].as_str() else {
            return Self { instance_id: text(&row["instance_id"]), image: text(&row["image"]), future: None };
        };
        let instance_id = format!("{}__{commit}", text(&row["repo_name"]));
        Self { instance_id, image: text(&row["docker_image"]), future: Some(commit.to_owned()) }
    }
}

/// A finished run.
struct Run {
    folder: PathBuf,
}

impl Run {
    /// The rewards, of which every task has one.
    fn rewards(&self) -> Rewards {
        let rollouts = self.rollouts().unwrap();
        let reward = |each: &RolloutSummary| each.outcome.reward().expect("faults were ruled out");
        let rewards: Rewards =
            rollouts.iter().map(|each| (each.instance_id.to_string(), reward(each))).collect();
        assert_eq!(rewards.len(), rollouts.len(), "one rollout per task");
        rewards
    }

    fn rollouts(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        let store = Arc::new(LocalDir::new(&self.folder));
        let read = async { Ledger::find(store, "").await?.reader().await?.rollouts().await };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(read)
    }

    fn record(&self, instance: &str) -> Value {
        let output = thresher(&["show", "--json"]).arg(&self.folder).arg(instance).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn thresher(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thresher"));
    command.args(arguments);
    command
}

/// Recorded replies that run every probe in a row's sandbox and end there.
fn probing(row: &Row) -> Vec<Value> {
    let future = row.future.as_deref().expect("R2E rows name the commit with the fix");
    let probe = |command: &str| json!({ "name": "execute_bash", "arguments": { "cmd": command.replace("FUTURE", future) } });
    let finish = json!({ "name": "finish", "arguments": { "command": "submit" } });
    let calls = PROBES.iter().map(|(command, _)| probe(command)).chain([finish]);
    let reply = |(step, call)| json!({ "instance_id": row.instance_id, "step": step, "reply": { "tool_calls": [call] } });
    calls.enumerate().map(reply).collect()
}

/// The part of an observation that a command wrote to its standard output.
fn standard_output(observation: &str) -> &str {
    let (_, rest) = observation.split_once("[STDOUT]\n\n").expect("an observation of execute_bash");
    rest.split_once("[STDERR]").expect("an observation of execute_bash").0.trim_end()
}

/// The lines of a JSONL file.
fn lines(path: &Path) -> Vec<Value> {
    let content = std::fs::read_to_string(path).unwrap();
    content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
