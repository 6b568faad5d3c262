//! A command's way out and its report's way back.

use std::time::Duration;

use bytes::Bytes;
use thresher_guest::{CommandBody, RunEnd, RunReport, StreamReport};

use crate::error::SandboxError;
use crate::spec::{Command, CommandEnd, CommandOutput};

/// What goes to the guest.
pub(super) fn command_body(command: &Command) -> CommandBody {
    let bytes = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    CommandBody {
        argv: command.argv.iter().map(bytes).collect(),
        env: command.env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        cwd: bytes(&command.cwd),
        script: command.script.clone(),
    }
}

/// Cuts the answer's body into the two streams that the report tells of.
pub(super) fn command_output(mut output: Bytes, report: &RunReport) -> Result<CommandOutput, SandboxError> {
    let kept = report.stdout.kept.checked_add(report.stderr.kept);
    if kept != Some(output.len() as u64) {
        return Err(SandboxError::Protocol("a report that does not match its output".into()));
    }
    // Both fit: together they are as long as `output`.
    let stdout = output.split_to(usize::try_from(report.stdout.kept).unwrap_or(0));
    let stdout_gap = gap(&report.stdout)?;
    Ok(CommandOutput {
        end: match report.end {
            RunEnd::Exited(code) => CommandEnd::Exited(code),
            RunEnd::Signaled(signal) => CommandEnd::Signaled(signal),
            RunEnd::TimedOut => CommandEnd::TimedOut,
            RunEnd::NotStarted(errno) => CommandEnd::NotStarted(errno),
        },
        stdout,
        stderr: output,
        stdout_dropped: report.stdout.dropped,
        stderr_dropped: report.stderr.dropped,
        stdout_gap,
        wall: Duration::from_micros(report.wall_us),
        cpu: Duration::from_micros(report.cpu_us),
        max_rss: report.max_rss,
    })
}

fn gap(stream: &StreamReport) -> Result<Option<usize>, SandboxError> {
    if stream.dropped == 0 {
        return Ok(None);
    }
    if stream.gap > stream.kept {
        return Err(SandboxError::Protocol("a gap outside of the output".into()));
    }
    Ok(usize::try_from(stream.gap).ok())
}
