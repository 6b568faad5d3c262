//! Runs a command and watches it to its end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use thresher_guest::{Answer, CommandBody, FailureKind, RunEnd, RunReport, StreamReport, take_item};

use crate::capture::Capture;
use crate::failure::{Hangup, Stop, failure};
use crate::link::{Link, READ};
use crate::setup::Prepared;
use crate::spawn::{self, Child};
use crate::sys::Exit;

/// Largest command with its environment and script, in bytes.
const MOST_COMMAND: u64 = 64 << 20;

/// Most bytes kept per stream, whatever the host asks for: the guest lives in the sandbox's memory limit.
const MOST_OUTPUT: u64 = 64 << 20;

/// A year: longer timeouts are as good as none, and times stay far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a killed command may take to go: it can hang in the kernel, on a dead file system for example.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Bounds of a run.
pub(crate) struct Bounds {
    pub(crate) timeout_ms: u64,
    pub(crate) output_cap: u64,
    pub(crate) merged: bool,
}

/// Runs the command in the request's body and sends its output.
pub(crate) fn run(link: &mut Link, prepared: &mut Prepared, bounds: &Bounds) -> Result<Answer, Stop> {
    let body = link.whole_body(MOST_COMMAND)?;
    let command: CommandBody = take_item(&mut &body[..])
        .ok()
        .flatten()
        .ok_or_else(|| failure(FailureKind::Other, "", "the request holds no command"))?;
    drop(body);
    let begun = Instant::now();
    let child = match spawn::spawn(prepared, &command, bounds.merged) {
        Ok(child) => child,
        Err(errno) => return Ok(Answer::Ran(not_started(errno, begun))),
    };
    let timeout = Duration::from_millis(bounds.timeout_ms).min(LONGEST);
    let mut running = Running::new(child, bounds.output_cap);
    let timed_out = running.watch(link, begun + timeout)?;
    running.finish(link, begun, timed_out)
}

fn not_started(errno: i32, begun: Instant) -> RunReport {
    let stream = StreamReport::default();
    let end = RunEnd::NotStarted(errno);
    RunReport { end, wall_us: micros(begun.elapsed()), cpu_us: 0, max_rss: 0, stdout: stream, stderr: stream }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A command under way.
struct Running {
    child: Child,
    streams: Vec<Stream>,
}

/// An output pipe, until its end, and what came out of it.
struct Stream {
    pipe: Option<OwnedFd>,
    capture: Capture,
}

impl Stream {
    /// Takes up to `limit` bytes that are there now.
    fn drain(&mut self, link: &mut Link, limit: usize) {
        if let Some(pipe) = &self.pipe
            && link.drain(pipe, limit, |bytes| self.capture.push(bytes))
        {
            self.pipe = None;
        }
    }
}

impl Running {
    fn new(mut child: Child, output_cap: u64) -> Self {
        let cap = usize::try_from(output_cap.min(MOST_OUTPUT)).expect("MOST_OUTPUT fits");
        let pipes = std::mem::take(&mut child.outputs);
        let streams = pipes.into_iter().map(|pipe| Stream { pipe: Some(pipe), capture: Capture::new(cap) });
        Self { child, streams: streams.collect() }
    }

    /// Waits for the command's end, or kills it with everything that it started. Returns whether it was killed.
    fn watch(&mut self, link: &mut Link, deadline: Instant) -> Result<bool, Hangup> {
        link.processes.watch_for(self.child.pid);
        while link.processes.exit().is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || link.cancelled()? {
                link.kill_command(self.child.pid, KILL_PATIENCE)?;
                return Ok(true);
            }
            self.step(link, left)?;
        }
        Ok(false)
    }

    /// Waits for one event and takes the output that is there.
    fn step(&mut self, link: &mut Link, timeout: Duration) -> Result<(), Hangup> {
        let pipes: Vec<_> =
            self.streams.iter().filter_map(|stream| stream.pipe.as_ref()).map(AsFd::as_fd).collect();
        let ready = link.wait(&pipes, false, Some(timeout))?;
        let mut ready = ready.into_iter();
        for stream in self.streams.iter_mut().filter(|stream| stream.pipe.is_some()) {
            if ready.next().unwrap_or(false) {
                stream.drain(link, READ);
            }
        }
        Ok(())
    }

    /// Takes the rest of the output, hands pipes that others still hold over, and answers.
    fn finish(mut self, link: &mut Link, begun: Instant, timed_out: bool) -> Result<Answer, Stop> {
        let wall_us = micros(begun.elapsed());
        for stream in &mut self.streams {
            // What is in the pipe now, and no more: a background process may write for ever.
            let there =
                stream.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok()).unwrap_or(0);
            stream.drain(link, usize::try_from(there).unwrap_or(READ).saturating_add(1));
            if let Some(pipe) = stream.pipe.take() {
                link.processes.keep_draining(pipe);
            }
        }
        let exit = link.processes.exit();
        let end = end_of(exit, timed_out, self.child.start_error());
        let mut reports = [StreamReport::default(); 2];
        for (stream, report) in self.streams.into_iter().zip(&mut reports) {
            let (kept, stream_report) = stream.capture.finish();
            *report = stream_report;
            link.send(&kept)?;
        }
        let [stdout, stderr] = reports;
        let cpu_us = exit.map_or(0, |exit| micros(exit.cpu));
        let max_rss = exit.map_or(0, |exit| exit.max_rss);
        Ok(Answer::Ran(RunReport { end, wall_us, cpu_us, max_rss, stdout, stderr }))
    }
}

fn end_of(exit: Option<Exit>, timed_out: bool, start_error: Option<i32>) -> RunEnd {
    let Some(Exit { status, .. }) = exit.filter(|_| !timed_out) else {
        return RunEnd::TimedOut;
    };
    match start_error {
        Some(errno) => RunEnd::NotStarted(errno),
        None if libc::WIFSIGNALED(status) => RunEnd::Signaled(libc::WTERMSIG(status)),
        None => RunEnd::Exited(libc::WEXITSTATUS(status)),
    }
}
