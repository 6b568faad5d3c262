//! The main loop: receive, do, answer.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::DumpableBehavior;
use thresher_guest::resume::ORPHANED;
use thresher_guest::{Answer, FailureKind, GuestInfo, Operation, PROTOCOL_VERSION};

use crate::failure::{Hangup, Stop, failure};
use crate::link::Link;
use crate::run::{self, Bounds};
use crate::search::{self, Query};
use crate::setup::{self, Prepared};
use crate::snapshot::Snapshots;
use crate::wire::Wire;
use crate::{bundle, files, listing};

/// How long killed processes may take to go.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Serves the host until the stream over `wire` ends, then kills everything.
pub(crate) fn serve(wire: impl FnOnce() -> io::Result<Wire>) -> ExitCode {
    match Guest::new(wire).map(Guest::serve) {
        Ok(End::Ended) => ExitCode::SUCCESS,
        Ok(End::Orphaned) => ExitCode::from(ORPHANED),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why serving ended.
enum End {
    /// The host closed the stream.
    Ended,
    /// The host was away for too long.
    Orphaned,
}

struct Guest {
    link: Link,
    prepared: Prepared,
    snapshots: Snapshots,
}

impl Guest {
    fn new(wire: impl FnOnce() -> io::Result<Wire>) -> io::Result<Self> {
        let prepared = setup::prepare()?;
        Ok(Self { prepared, link: Link::new(wire()?)?, snapshots: Snapshots::default() })
    }

    fn serve(mut self) -> End {
        while let Ok(operation) = self.link.next_operation() {
            let outcome = match self.perform(operation) {
                Ok(answer) => Ok(answer),
                Err(Stop::Failed(failure)) => Err(failure),
                Err(Stop::Hangup) => break,
            };
            if self.link.end(outcome) == Err(Hangup) {
                break;
            }
        }
        let end = if self.link.wire.is_orphaned() { End::Orphaned } else { End::Ended };
        self.end();
        end
    }

    /// As PID 1 the guest takes everything with it by exiting; else it must kill first.
    fn end(mut self) {
        if rustix::process::getpid().as_raw_nonzero().get() != 1 {
            self.link.kill_all_after_the_end(KILL_PATIENCE);
        }
    }

    fn perform(&mut self, operation: Operation) -> Result<Answer, Stop> {
        let link = &mut self.link;
        match operation {
            Operation::Hello { version: _ } => Ok(Answer::Hello(introduce())),
            Operation::Run { timeout_ms, output_cap, merged } => {
                run::run(link, &mut self.prepared, &Bounds { timeout_ms, output_cap, merged })
            }
            Operation::Read { path, limit } => files::read(link, &path, limit),
            Operation::Write { path, mode } => files::write(link, &path, mode),
            Operation::Symlink { path, target } => files::symlink(&path, &target),
            Operation::Remove { path } => files::remove(&path),
            Operation::Stat { path } => files::stat(&path),
            Operation::List { path, max_depth, skip_hidden, max_entries } => {
                listing::list(link, &path, &listing::Bounds { max_depth, skip_hidden, max_entries })
            }
            Operation::Search { path, needle, suffix, max_files, skip_hidden } => {
                search::search(link, &path, &Query { needle, suffix, max_files, skip_hidden })
            }
            Operation::Snapshot { root } => self.snapshots.take(link, &root),
            Operation::ReadMany { root, limit } => bundle::read_many(link, &root, limit),
            Operation::Archive { path, limit } => bundle::archive(link, &path, limit),
            Operation::Unarchive { path } => bundle::unarchive(link, &path),
            Operation::KillAll => kill_all(link),
            Operation::Environ => environ(link),
        }
    }
}

fn introduce() -> GuestInfo {
    let dumpable = rustix::process::dumpable_behavior() != Ok(DumpableBehavior::NotDumpable);
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    GuestInfo { version: PROTOCOL_VERSION, pid: pid.unsigned_abs(), dumpable }
}

/// Sends the variables that this process was started with.
fn environ(link: &mut Link) -> Result<Answer, Stop> {
    let variables = std::env::vars_os();
    link.send_items(variables.map(|(name, value)| {
        let bytes = |text: OsString| Bytes::from(text.into_vec());
        (bytes(name), bytes(value))
    }))?;
    Ok(Answer::Done)
}

fn kill_all(link: &mut Link) -> Result<Answer, Stop> {
    match link.kill_all(KILL_PATIENCE)? {
        true => Ok(Answer::Done),
        false => Err(failure(FailureKind::Other, "", "processes survive SIGKILL").into()),
    }
}
