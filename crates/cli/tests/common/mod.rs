//! What the black-box tests share: a home for everything that one test writes, the command, small tasks.

pub(crate) mod docker;
pub(crate) mod endpoint;
pub(crate) mod fleet;
pub(crate) mod row;
pub(crate) mod traces;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use thresher_core::RunId;
use thresher_ledger::{Ledger, Reader, RolloutSummary};
use thresher_store::LocalDir;

/// Longest wait for anything; far above what a slow machine needs, so that a test that hangs ends at all.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again until there is an answer.
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    asking_every(PAUSE, what, ask)
}

/// Asks again until there is an answer, with pauses, since asking is work for others.
pub(crate) fn asking_every<T>(pause: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(pause);
    }
    panic!("never happened: {what}");
}

/// The repository's folder of shipped jobs.
pub(crate) fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs")
}

/// The shipped quickstart.
pub(crate) fn quickstart() -> String {
    jobs().join("quickstart.yaml").display().to_string()
}

/// The folder of everything that one test writes: runs, cache, temporary files, datasets.
pub(crate) struct Home(TempDir);

impl Home {
    /// A fresh one.
    pub(crate) fn new() -> Self {
        let home = Self(TempDir::with_prefix("thresher-cli-test-").unwrap());
        fs::create_dir(home.temporary()).unwrap();
        home
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The cache folder of its runs.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// The folder of its commands' temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Writes a file into it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    /// A command in this home.
    pub(crate) fn command(&self, verb: &str) -> Thresher<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thresher"));
        command
            .current_dir(self.0.path())
            .env("TMPDIR", self.temporary())
            .env("THRESHER_CACHE", self.cache());
        command.env_remove("THRESHER_LOG").arg(verb);
        Thresher { home: self, command }
    }

    /// `thresher run` into the run directory `out`, on the best backend that works here.
    pub(crate) fn run(&self, job: &str, out: &str) -> Thresher<'_> {
        self.command("run").args([job, "-q", "--json", "--out", out]).args(backend())
    }

    /// What the ledger's reader finds in a run directory.
    pub(crate) fn rollouts(&self, out: &str) -> Vec<RolloutSummary> {
        read(&self.path(out), async |reader: Reader| reader.rollouts().await.unwrap())
    }

    /// Every fault that the run keeps.
    pub(crate) fn faults(&self, out: &str) -> Vec<thresher_core::Fault> {
        let rows = read(&self.path(out), async |reader: Reader| reader.faults().await.unwrap());
        let fault = |row: RolloutSummary| match row.outcome {
            thresher_core::Outcome::Faulted(fault) => Some(fault),
            thresher_core::Outcome::Graded(_) => None,
        };
        rows.into_iter().filter_map(fault).collect()
    }

    /// Task, sample and reward of every row, in their order.
    pub(crate) fn rewards(&self, out: &str) -> Vec<(String, u32, Option<f64>)> {
        let reward = |row: RolloutSummary| (row.instance_id.to_string(), row.sample, row.outcome.reward());
        self.rollouts(out).into_iter().map(reward).collect()
    }

    /// Task, sample, reward, stop reason of the agent and of the grading: what must not depend on chance.
    pub(crate) fn verdicts(&self, out: &str) -> Vec<String> {
        let verdict = |row: RolloutSummary| {
            let stop = row.stop_reason.map(|stop| stop.to_string());
            format!("{}#{} {:?} {stop:?}", row.instance_id, row.sample, row.outcome)
        };
        self.rollouts(out).into_iter().map(verdict).collect()
    }

    /// The manifest of a run directory.
    pub(crate) fn manifest(&self, out: &str) -> Value {
        json(&fs::read_to_string(self.path(out).join("manifest.json")).unwrap())["body"].take()
    }

    /// Paths below a folder, relative to it, sorted; empty if it is not there.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let root = self.path(folder);
        let mut found = Vec::new();
        collect(&root, &root, &mut found);
        found.sort();
        found
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(root, &entry.path(), found),
            _ => found.push(entry.path().strip_prefix(root).unwrap().display().to_string()),
        }
    }
}

/// Reads a run with the ledger's reader.
pub(crate) fn read<T>(dir: &Path, use_reader: impl AsyncFnOnce(Reader) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    let ledger = Ledger::open(Arc::new(LocalDir::new(dir)), "", RunId::new(name)).unwrap();
    runtime.block_on(async { use_reader(ledger.reader().await.unwrap()).await })
}

/// Parses a text that must be JSON.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A command line in the making.
pub(crate) struct Thresher<'a> {
    home: &'a Home,
    command: Command,
}

impl Thresher<'_> {
    /// Adds arguments.
    pub(crate) fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it. What it prints goes to files, so that nobody has to read along.
    pub(crate) fn spawn(mut self) -> Running {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let out = self.home.path(&format!("{number}.out"));
        let err = self.home.path(&format!("{number}.err"));
        self.command.stdin(Stdio::null());
        self.command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: self.command.spawn().unwrap(), out, err }
    }

    /// Runs it to its end.
    pub(crate) fn output(self) -> Output {
        self.spawn().output()
    }

    /// Runs it to its end, which must be this exit code.
    pub(crate) fn expect(self, code: i32) -> Output {
        self.spawn().expect(code)
    }
}

/// A command that runs. It is killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has printed to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it with SIGKILL and waits for its end.
    pub(crate) fn kill(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// Waits until it ends.
    pub(crate) fn output(mut self) -> Output {
        let status = eventually("the command ends", || self.ended());
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Output { code: status.code(), stdout: text(&self.out), stderr: text(&self.err) }
    }

    /// Waits until it ends, which must be with this exit code.
    pub(crate) fn expect(self, code: i32) -> Output {
        let output = self.output();
        assert_eq!(output.code, Some(code), "{output:?}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a command ended. The code is `None` after a signal.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        json(&self.stdout)
    }
}

/// The flags for the best backend that works here.
pub(crate) fn backend() -> &'static [&'static str] {
    if isolated() { &["--backend", "embedded"] } else { &["--no-isolation"] }
}

/// Whether sandboxes of namespaces work here. Said once where they do not.
pub(crate) fn isolated() -> bool {
    static WORKS: LazyLock<bool> = LazyLock::new(|| {
        let home = Home::new();
        let checks = home.command("doctor").args(["--json"]).output().json();
        let fit = |check: &Value| {
            check["name"].as_str().unwrap().starts_with("embedded, ") && check["state"] == "ok"
        };
        let works = checks.as_array().unwrap().iter().any(fit);
        if !works {
            eprintln!("skipped: the embedded backend does not work here, so tests run without isolation");
        }
        works
    });
    *WORKS
}
