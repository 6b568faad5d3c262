//! What the tests of the embedded and the process backend share.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_sandbox::conformance::{self, Verdict};
use thresher_sandbox::{Backend, Command, CommandOutput, Prepared, Sandbox, SandboxSpec, StartOptions};

/// A small spec over what was prepared.
pub(crate) fn spec(prepared: Prepared) -> SandboxSpec {
    let limits = LimitsSpec { memory_mb: 512, pids: 128, disk_mb: 64, ..LimitsSpec::default() };
    let (workdir, network) = ("/testbed".into(), Network::None);
    SandboxSpec { prepared, workdir, network, limits, labels: BTreeMap::new() }
}

/// A runner of its own within this process.
pub(crate) fn start_options() -> StartOptions {
    StartOptions { run: "test".into(), incarnation: format!("test{}", std::process::id()) }
}

/// Runs the suite of all backends over the machine's own programs; says what was skipped.
pub(crate) async fn conforms(backend: &dyn Backend, isolation: &str) {
    let mut failed = Vec::new();
    for (name, outcome) in conformance::all(backend, &ImageRef::Host).await.unwrap() {
        match outcome {
            Ok(Verdict::Shown) => {}
            Ok(Verdict::Skipped(reason)) => println!("skipped {name} with isolation {isolation}: {reason}"),
            Err(deviation) => failed.push(format!("{name}: {deviation}")),
        }
    }
    assert!(failed.is_empty(), "{isolation}: {failed:#?}");
}

/// Runs a script with the usual search path.
pub(crate) async fn bash(sandbox: &mut Sandbox, script: &str) -> CommandOutput {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env = BTreeMap::from([("PATH".to_owned(), path.to_owned())]);
    let cwd = sandbox.workdir().to_owned();
    sandbox.run(&Command::bash(script).env(env).cwd(cwd)).await.unwrap()
}

/// Runs a script that must succeed, and returns what it printed.
pub(crate) async fn says(sandbox: &mut Sandbox, script: &str) -> String {
    let output = bash(sandbox, script).await;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.end.is_success(), "{script}: {:?} {text}", output.end);
    text
}

/// Runs a script that must fail.
pub(crate) async fn fails(sandbox: &mut Sandbox, script: &str) {
    let output = bash(sandbox, script).await;
    assert!(!output.end.is_success(), "{script}: {}", String::from_utf8_lossy(&output.stdout));
}

/// Polls until `holds`, for at most half a minute.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process has `word` in its command line.
pub(crate) fn is_running(word: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    let others = entries.filter(|entry| entry.file_name().to_str() != Some(&own));
    let mut lines = others.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| line.windows(word.len()).any(|part| part == word.as_bytes()))
}

/// A process of the runner's with a secret in its environment, ended when this is dropped.
pub(crate) struct Keeper(Child);

impl Keeper {
    pub(crate) fn start() -> Self {
        let mut command = std::process::Command::new("sleep");
        command.arg("1000").env("KEY", "of-the-runner").stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A number of seconds to sleep that marks the processes of one test.
pub(crate) fn mark(test: u32) -> String {
    format!("{}", 100_000_000 + u64::from(std::process::id()) * 100 + u64::from(test))
}

/// Names in a folder; none where there is no such folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// This machine's mounts, without the counters of those that come and go elsewhere.
pub(crate) fn mounts_below(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains(folder.to_str().unwrap())).map(str::to_owned).collect()
}

/// Cgroups of the sandboxes of any runner over the data folder of this test process.
pub(crate) fn cgroups_of(incarnation: &str) -> Vec<String> {
    let find = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("{incarnation}.*")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect()
}

/// Name of the variable that makes the test program a holder of sandboxes, to be killed.
pub(crate) const HOLDER: &str = "THRESHER_TEST_HOLD_SANDBOXES";

/// Starts this test program again as the test `holder`, and waits until it holds its sandboxes.
pub(crate) fn start_holder(data: &Path, word: &str) -> Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "holder", "--nocapture"]).env(HOLDER, format!("{} {word}", data.display()));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.contains("holding"));
    assert!(ready, "the holder ended early");
    child
}

/// The folder and the mark that a holder is given; `None` in an ordinary test run.
pub(crate) fn holder_arguments() -> Option<(String, String)> {
    let value = std::env::var(HOLDER).ok()?;
    value.rsplit_once(' ').map(|(data, word)| (data.to_owned(), word.to_owned()))
}

/// Starts sandboxes with processes in them, says so and waits to be killed.
pub(crate) async fn hold(backend: &dyn Backend, spec: &SandboxSpec, word: &str) {
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut sandbox = backend.start(spec).await.unwrap();
        says(&mut sandbox, &format!("(setsid sleep {word} >/dev/null 2>&1 &) ; echo x > file")).await;
        held.push(sandbox);
    }
    println!("holding");
    std::future::pending::<()>().await;
}
