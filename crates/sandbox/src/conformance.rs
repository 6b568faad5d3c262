//! What a sandbox does whatever its backend: one suite that every backend's tests run.
//!
//! Each behaviour is a function of a [`Subject`]; [`all`] runs them one after the other. Where the backend or the
//! machine lacks what a behaviour needs (a limit in force, perl, a process namespace), the behaviour says so as
//! [`Verdict::Skipped`] instead of passing. Scripts use bash and coreutils, and perl where it is there.

mod attacks;
mod commands;
mod contents;

pub use attacks::{
    command_ends_with_its_family, descriptors_are_closed_to_others, disk_can_be_full,
    everything_can_be_killed, forks_are_bounded, memory_is_bounded, tracing_is_refused,
};
pub use commands::{
    background_outlives_its_command, bytes_survive, deadline_kills_descendants, endless_output_is_cut,
    ends_are_told_apart, environment_is_exact, long_commands_run, long_lines_are_cut,
    standard_input_is_empty,
};
pub use contents::{archives_come_back, files_come_back, snapshots_see_changes};

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;

use crate::{Backend, Command, CommandEnd, CommandOutput, Prepared, Sandbox, SandboxError, SandboxSpec};

/// What is tested: a backend, and what it starts sandboxes from.
pub struct Subject<'a> {
    backend: &'a dyn Backend,
    prepared: Prepared,
}

/// What came of a behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sandbox behaves so.
    Shown,
    /// It could not be tried, for this reason.
    Skipped(String),
}

/// Why a behaviour was not shown: what was expected and what was seen.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Deviation(String);

impl From<SandboxError> for Deviation {
    fn from(error: SandboxError) -> Self {
        Self(format!("an operation failed: {error}"))
    }
}

type Shown = Result<Verdict, Deviation>;

/// A behaviour by name with what came of it.
pub type Outcome = (&'static str, Result<Verdict, Deviation>);

/// Runs every behaviour. The limits of the sandboxes are small, so that the attacks end soon.
///
/// # Errors
/// Where the image cannot be made ready.
pub async fn all(backend: &dyn Backend, image: &ImageRef) -> Result<Vec<Outcome>, SandboxError> {
    let subject = Subject::new(backend, image).await?;
    let mut outcomes = Vec::new();
    for (name, behaviour) in behaviours() {
        outcomes.push((name, behaviour(&subject).await));
    }
    Ok(outcomes)
}

type Behaviour = for<'a> fn(&'a Subject<'a>) -> BoxFuture<'a, Shown>;

/// Every behaviour by its name.
fn behaviours() -> Vec<(&'static str, Behaviour)> {
    macro_rules! named {
        ($($behaviour:ident),* $(,)?) => {
            vec![$((stringify!($behaviour), |subject| Box::pin($behaviour(subject)))),*]
        };
    }
    named![
        ends_are_told_apart,
        environment_is_exact,
        standard_input_is_empty,
        bytes_survive,
        long_commands_run,
        endless_output_is_cut,
        long_lines_are_cut,
        background_outlives_its_command,
        deadline_kills_descendants,
        files_come_back,
        archives_come_back,
        snapshots_see_changes,
        everything_can_be_killed,
        command_ends_with_its_family,
        descriptors_are_closed_to_others,
        tracing_is_refused,
        forks_are_bounded,
        memory_is_bounded,
        disk_can_be_full,
    ]
}

impl<'a> Subject<'a> {
    /// Makes the image ready on `backend`.
    ///
    /// # Errors
    /// What the backend says.
    pub async fn new(backend: &'a dyn Backend, image: &ImageRef) -> Result<Self, SandboxError> {
        Ok(Self { backend, prepared: backend.prepare(image).await? })
    }

    /// Starts a sandbox with small limits.
    async fn start(&self) -> Result<Sandbox, SandboxError> {
        let limits = LimitsSpec { memory_mb: 512, pids: 128, disk_mb: 256, ..LimitsSpec::default() };
        let labels = BTreeMap::from([("purpose".to_owned(), "conformance".to_owned())]);
        let prepared = self.prepared.clone();
        let workdir = "/testbed".to_owned();
        self.backend.start(&SandboxSpec { prepared, workdir, network: Network::None, limits, labels }).await
    }
}

/// A script with the environment that the suite uses.
fn bash(script: &str) -> Command {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Command::bash(script).env([("PATH".to_owned(), path.to_owned())].into()).timeout(Duration::from_secs(60))
}

/// The last step of most behaviours: the sandbox still answers, and then ends.
async fn still_answers(mut sandbox: Sandbox) -> Shown {
    let output = sandbox.run(&bash("echo here")).await?;
    same("a later command", (output.end, &output.stdout[..]), (CommandEnd::Exited(0), b"here\n"))?;
    sandbox.close().await?;
    Ok(Verdict::Shown)
}

async fn skip(sandbox: Sandbox, reason: impl Into<String>) -> Shown {
    sandbox.close().await?;
    Ok(Verdict::Skipped(reason.into()))
}

fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), Deviation> {
    holds(got == expected, || format!("{what}: {got:.500?} instead of {expected:.500?}"))
}

fn holds(condition: bool, what: impl FnOnce() -> String) -> Result<(), Deviation> {
    if condition { Ok(()) } else { Err(Deviation(what())) }
}

/// What a command printed, for comparison with text.
fn text(output: &CommandOutput) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether commands are in a process namespace of their own. Attacks on all processes are not tried elsewhere: they
/// would meet the machine's.
async fn is_alone(sandbox: &mut Sandbox) -> Result<bool, SandboxError> {
    if sandbox.identity().isolation == "none" {
        return Ok(false);
    }
    // The guest is the parent of every command: alone, it is the first process.
    Ok(text(&sandbox.run(&bash("echo $PPID; grep -qs kthreadd /proc/2/comm && echo kernel; true")).await?)
        == "1\n")
}
