//! The grading run: stored patch in, hidden tests in, tests run, verdict out.
//!
//! Set-up and tests are separate guest commands, so the boundary between them and the tests' exit code come from the
//! guest and cannot be faked by what the code under test prints.

use std::path::Path;
use std::time::Duration;

use thresher_core::fault::{Blame, Phase, Retry};
use thresher_core::outcome::{GradeStop, Graded, Resolution, Tally};
use thresher_core::record::{PatchRecord, TestResult};
use thresher_core::run_spec::{GradingRule, GradingSpec};
use thresher_core::task::{FileSpec, TestSpec};
use thresher_core::{Fault, Task};
use thresher_grade::swebench::{self, EvalType, Generation, LogReading, RunOutput, Scope};
use thresher_grade::{EvalScript, Grade, LogParser, StatusMap, TestLists};
use thresher_sandbox::{Command, CommandEnd, CommandOutput, FileMode, SandboxError};

use crate::blobs::{BlobCache, disk_fault};
use crate::workspace::{PatchError, Workspace, join};

/// Bytes of test output that are kept: head and tail.
const LOG_CAP: usize = 16 << 20;
/// Where a split evaluation script hands its state on.
const STATE_FILE: &str = "/tmp/.thresher-eval-state";

/// What one grading run found.
#[derive(Clone, Debug)]
pub(crate) struct Grading {
    pub(crate) stop: GradeStop,
    pub(crate) graded: Graded,
    pub(crate) tests: Vec<TestResult>,
    pub(crate) log: Vec<u8>,
}

impl Grading {
    /// Whether the run must be repeated before it counts: its end could be the patch's doing or chance.
    pub(crate) fn must_repeat(&self) -> bool {
        matches!(self.stop, GradeStop::TestTimeout | GradeStop::NoTestOutput | GradeStop::SandboxKilled)
    }

    /// The sandbox died while grading, and nothing outside explains it.
    pub(crate) fn sandbox_killed(task: &Task, rule: GradingRule, error: &SandboxError) -> Self {
        Self::zero(task, rule, GradeStop::SandboxKilled, error.to_string().into_bytes())
    }

    fn zero(task: &Task, rule: GradingRule, stop: GradeStop, log: Vec<u8>) -> Self {
        Self { stop, graded: zero(task, rule, stop), tests: missing(&task.tests), log }
    }
}

/// A verdict of 0 with its own reason.
pub(crate) fn zero(task: &Task, rule: GradingRule, stop: GradeStop) -> Graded {
    let listed = missing(&task.tests);
    let tally = |suite: &str| Tally {
        total: listed.iter().filter(|test| test.suite == suite).count() as u32,
        passed: 0,
    };
    let has_lists = !matches!(task.tests, TestSpec::R2eGym { .. });
    Graded {
        reward: 0.0,
        resolution: has_lists.then_some(Resolution::No),
        stop,
        flaky: false,
        fail_to_pass: has_lists.then(|| tally("f2p")),
        pass_to_pass: Some(if has_lists { tally("p2p") } else { tally("regression") }),
        rule: rule_name(task, rule).into(),
    }
}

/// Runs the hidden tests of `task` over `patch` in a workspace that has just been set up.
pub(crate) async fn run(
    workspace: &mut Workspace,
    task: &Task,
    hidden: Option<&Path>,
    patch: &PatchRecord,
    settings: &GradingSpec,
    blobs: &BlobCache,
) -> Result<Grading, PatchError> {
    if let Err(reason) = workspace.apply(&patch.bytes, blobs).await? {
        let log = format!("the patch does not apply: {reason}").into_bytes();
        return Ok(Grading::zero(task, settings.rule, GradeStop::PatchApplyFailed, log));
    }
    let run = TestRun { workspace, task, settings };
    let ran = match &task.tests {
        TestSpec::R2eGym { .. } => run.r2e(hidden).await?,
        TestSpec::SweBench { eval_script, .. } => run.swebench(eval_script.as_deref(), hidden).await?,
        TestSpec::Inline { files, command, .. } => run.inline(files, command).await?,
    };
    Ok(verdict(task, settings.rule, patch, ran))
}

/// What the test commands printed.
struct Ran {
    setup: Option<CommandOutput>,
    tests: CommandOutput,
}

impl Ran {
    fn timed_out(&self) -> bool {
        self.tests.end == CommandEnd::TimedOut
            || self.setup.as_ref().is_some_and(|setup| setup.end == CommandEnd::TimedOut)
    }

    fn exit_code(&self) -> Option<i32> {
        match self.tests.end {
            CommandEnd::Exited(code) => Some(code),
            _ => None,
        }
    }

    fn log(&self) -> Vec<u8> {
        let mut log = Vec::new();
        if let Some(setup) = &self.setup {
            log.extend_from_slice(&setup.stdout);
            log.extend_from_slice(format!("\n##### set-up ended: {:?}\n", setup.end).as_bytes());
        }
        log.extend_from_slice(&self.tests.stdout);
        log.extend_from_slice(format!("\n##### tests ended: {:?}\n", self.tests.end).as_bytes());
        log
    }
}

struct TestRun<'a> {
    workspace: &'a mut Workspace,
    task: &'a Task,
    settings: &'a GradingSpec,
}

impl TestRun<'_> {
    /// R2E-Gym: runner and tests are real in `/root`, and a link leads from the repository to the tests.
    async fn r2e(mut self, hidden: Option<&Path>) -> Result<Ran, PatchError> {
        let link = join(&self.workspace.workdir, "r2e_tests");
        for place in ["/root/run_tests.sh", "/root/r2e_tests", &link] {
            self.workspace.sandbox.remove(place).await?;
        }
        self.put_hidden(hidden, "/root").await?;
        self.workspace.sandbox.symlink(&link, b"/root/r2e_tests").await?;
        let tests = self.command("bash /root/run_tests.sh").await?;
        Ok(Ran { setup: None, tests })
    }

    /// SWE-bench: the row's script, or the image's own where the row has none.
    async fn swebench(mut self, script: Option<&str>, hidden: Option<&Path>) -> Result<Ran, PatchError> {
        let Some(script) = script else {
            self.workspace.sandbox.remove("/run_tests.sh").await?;
            self.put_hidden(hidden, "/").await?;
            let script = self.workspace.sandbox.read("/run_tests.sh", 64 << 20).await?;
            return self.eval_script(&String::from_utf8_lossy(&script)).await;
        };
        self.eval_script(script).await
    }

    /// Runs the script's parts as separate commands; `compat` runs it whole, as the harness does.
    async fn eval_script(mut self, script: &str) -> Result<Ran, PatchError> {
        let script = EvalScript::new(script);
        if self.settings.rule == GradingRule::Compat {
            return Ok(Ran { setup: None, tests: self.command(&script.with_exit_code()).await? });
        }
        let parts = script.split(STATE_FILE);
        let setup = match &parts.setup {
            Some(setup) => Some(self.command(setup).await?),
            None => None,
        };
        Ok(Ran { setup, tests: self.command(&parts.test).await? })
    }

    /// Inline rows: files over whatever the patch left there, then the command.
    async fn inline(mut self, files: &[FileSpec], command: &str) -> Result<Ran, PatchError> {
        for file in files {
            let mode = if file.executable { FileMode::Executable } else { FileMode::Plain };
            let path = join(&self.workspace.workdir, &file.path);
            self.workspace.sandbox.remove(&path).await?;
            self.workspace.sandbox.write(&path, &file.content, mode).await?;
        }
        let tests = self.command(command).await?;
        Ok(Ran { setup: None, tests })
    }

    async fn command(&mut self, script: &str) -> Result<CommandOutput, SandboxError> {
        let command = Command::bash(script)
            .env(self.workspace.env.clone())
            .cwd(self.workspace.workdir.clone())
            .timeout(Duration::from_secs(self.settings.timeout_s))
            .output_cap(LOG_CAP);
        self.workspace.sandbox.run(&command).await
    }

    async fn put_hidden(&mut self, hidden: Option<&Path>, folder: &str) -> Result<(), PatchError> {
        let Some(bundle) = hidden else {
            let id = &self.task.instance_id;
            let message = format!("the image of {id} holds no hidden tests");
            return Err(Fault::new(Blame::Image, Retry::Never, Phase::Grade, message).into());
        };
        let tar = std::fs::read(bundle).map_err(|error| disk_fault(bundle, &error))?;
        self.workspace.sandbox.unarchive(folder, &tar).await?;
        Ok(())
    }
}

/// The verdict on a finished test run.
fn verdict(task: &Task, rule: GradingRule, patch: &PatchRecord, ran: Ran) -> Grading {
    let log = ran.log();
    if ran.timed_out() {
        return Grading::zero(task, rule, GradeStop::TestTimeout, log);
    }
    let grade = match grade(task, rule, &ran) {
        Ok(grade) if grade.found => grade,
        _ => return Grading::zero(task, rule, GradeStop::NoTestOutput, log),
    };
    let stop = if patch.is_empty() { GradeStop::EmptyPatch } else { GradeStop::Evaluated };
    Grading { stop, graded: graded(task, rule, stop, &grade), tests: results(&grade), log }
}

/// Applies the family's rule.
fn grade(task: &Task, rule: GradingRule, ran: &Ran) -> Result<Grade, thresher_grade::ParserError> {
    let output = String::from_utf8_lossy(&ran.tests.stdout);
    match &task.tests {
        TestSpec::R2eGym { expected } => {
            let expected: StatusMap =
                expected.iter().map(|(name, status)| (name.clone(), status.clone())).collect();
            Ok(match rule {
                GradingRule::Strict => Grade::r2e_strict(&output, &expected),
                GradingRule::Compat => Grade::r2e_compat(&output, &expected),
            })
        }
        TestSpec::SweBench { log_parser, fail_only, fail_to_pass, pass_to_pass, eval_script } => {
            let parser = LogParser::for_instance(log_parser, task.instance_id.as_str())?;
            let lists = TestLists { fail_to_pass: fail_to_pass.clone(), pass_to_pass: pass_to_pass.clone() };
            let kind = if *fail_only { EvalType::FailOnly } else { EvalType::PassAndFail };
            let whole = rule == GradingRule::Compat && eval_script.is_some();
            let reading = if whole {
                swebench::read_log(&output, parser, Generation::V5)
            } else {
                read(ran, &output, parser)
            };
            Ok(Grade::swebench(&reading, &lists, kind, Generation::V5))
        }
        TestSpec::Inline { log_parser, fail_to_pass, pass_to_pass, .. } => {
            let parser = LogParser::from_name(log_parser)?;
            let lists = TestLists { fail_to_pass: fail_to_pass.clone(), pass_to_pass: pass_to_pass.clone() };
            Ok(Grade::swebench(&read(ran, &output, parser), &lists, EvalType::PassAndFail, Generation::V5))
        }
    }
}

fn read(ran: &Ran, tests: &str, parser: LogParser) -> LogReading {
    let setup = ran.setup.as_ref().map(|setup| String::from_utf8_lossy(&setup.stdout)).unwrap_or_default();
    let run = RunOutput { setup: &setup, tests, exit_code: ran.exit_code() };
    swebench::read_run(&run, Scope::TestOutput, parser)
}

fn graded(task: &Task, rule: GradingRule, stop: GradeStop, grade: &Grade) -> Graded {
    let tally =
        |tally: thresher_grade::Tally| Tally { total: tally.total as u32, passed: tally.passed as u32 };
    let is_r2e = matches!(task.tests, TestSpec::R2eGym { .. });
    let regression = || Tally {
        total: grade.tests.iter().filter(|test| test.expected.is_some()).count() as u32,
        passed: grade.tests.iter().filter(|test| test.expected.is_some() && test.ok).count() as u32,
    };
    Graded {
        reward: grade.reward,
        resolution: grade.resolution.map(|resolution| match resolution {
            swebench::Resolution::Full => Resolution::Full,
            swebench::Resolution::Partial => Resolution::Partial,
            swebench::Resolution::No => Resolution::No,
        }),
        stop,
        flaky: false,
        fail_to_pass: (!is_r2e).then(|| tally(grade.f2p)),
        pass_to_pass: Some(if is_r2e { regression() } else { tally(grade.p2p) }),
        rule: rule_name(task, rule).into(),
    }
}

fn results(grade: &Grade) -> Vec<TestResult> {
    grade
        .tests
        .iter()
        .map(|test| TestResult {
            test_id: test.test_id.clone(),
            suite: test.suite.as_str().into(),
            expected: test.expected.clone(),
            status: test.status.as_str().into(),
            ok: test.ok,
        })
        .collect()
}

/// The listed tests of a run that gave no results: a missing test must be stated, not left out.
fn missing(tests: &TestSpec) -> Vec<TestResult> {
    let entry = |test_id: &String, suite: &str, expected: Option<&String>| TestResult {
        test_id: test_id.clone(),
        suite: suite.into(),
        expected: expected.cloned(),
        status: "missing".into(),
        ok: false,
    };
    match tests {
        TestSpec::R2eGym { expected } => {
            expected.iter().map(|(name, status)| entry(name, "regression", Some(status))).collect()
        }
        TestSpec::SweBench { fail_to_pass, pass_to_pass, .. }
        | TestSpec::Inline { fail_to_pass, pass_to_pass, .. } => {
            let f2p = fail_to_pass.iter().map(|name| entry(name, "f2p", None));
            let p2p = pass_to_pass.iter().map(|name| entry(name, "p2p", None));
            f2p.chain(p2p).collect()
        }
    }
}

/// The rule's name with its generation, as records hold it.
fn rule_name(task: &Task, rule: GradingRule) -> &'static str {
    match (&task.tests, rule) {
        (TestSpec::R2eGym { .. }, GradingRule::Strict) => "r2e-strict-1",
        (TestSpec::R2eGym { .. }, GradingRule::Compat) => "r2e-compat",
        (TestSpec::SweBench { .. }, GradingRule::Strict) => "swebench-5.0.2-split",
        (TestSpec::SweBench { .. }, GradingRule::Compat) => "swebench-5.0.2",
        (TestSpec::Inline { .. }, _) => "inline-1",
    }
}
