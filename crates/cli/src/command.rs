//! The verbs: one short file each.

mod compare;
mod control;
mod doctor;
mod gc;
mod grade;
mod plan;
mod report;
mod run;
mod runs;
mod schema;
mod show;
mod status;
mod submit;
mod worker;

use crate::args::{Args, Command};
use crate::exit::Failure;

/// Runs the command that was asked for and gives its exit code.
pub(crate) fn run(args: Args) -> Result<i32, Failure> {
    match args.command {
        Command::Run(args) => block_on(run::run(*args)),
        Command::Plan(args) => block_on(plan::run(*args)),
        Command::Worker(args) => block_on(worker::run(args)),
        Command::Submit(args) => block_on(submit::run(*args)),
        Command::Scale(args) => block_on(submit::scale(args)),
        Command::Logs(args) => block_on(submit::logs(args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Watch(args) => block_on(status::watch(args)),
        Command::Runs(args) => block_on(runs::run(args)),
        Command::Pause(args) => block_on(control::pause(args)),
        Command::Resume(args) => block_on(control::resume(args)),
        Command::Cancel(args) => block_on(control::cancel(args)),
        Command::Report(args) => block_on(report::run(args)),
        Command::Compare(args) => block_on(compare::run(args)),
        Command::Show(args) => block_on(show::run(args)),
        Command::Gc(args) => block_on(gc::run(args)),
        Command::Grade(args) => grade::run(&args),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Schema => schema::run(),
        Command::InstallGuest { folder } => install_guest(&folder),
    }
}

/// What a sandbox pod's first container does.
fn install_guest(folder: &std::path::Path) -> Result<i32, Failure> {
    thresher_sandbox::pods::install_guest(folder)?;
    Ok(thresher_core::exit_code::OK)
}

fn block_on(work: impl Future<Output = Result<i32, Failure>>) -> Result<i32, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Prints a result on stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Prints a result on stdout as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value)?)
}
