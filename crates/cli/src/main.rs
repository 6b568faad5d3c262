//! The `thresher` command: parse, build, call.

mod args;
mod backend;
mod command;
mod dataset;
mod durations;
mod exit;
mod job;
mod location;
mod progress;
mod run_dir;
mod session;
mod signals;
mod table;
mod telemetry;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    telemetry::init(&args.global);
    exit::report(command::run(args))
}
