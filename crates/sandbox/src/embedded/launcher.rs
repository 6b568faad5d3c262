//! A started launcher: the guest program in its mode `launch`, seen from the runner.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thresher_guest::launch::{Failure, HELD, HOLD, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::remedy;
use crate::SandboxError;

/// How long the kernel may take to end a killed sandbox: freeing much memory takes its time.
const END_TIME: Duration = Duration::from_secs(20);

/// Most bytes of a launcher's words that are read: it has one line to say, and the guest's panics follow it.
const LONGEST_REPORT: usize = 16 << 10;

/// A launcher and the control socket to it. Letting go of it ends the sandbox.
pub(crate) struct Launcher {
    child: Child,
    control: UnixStream,
}

/// The guest's two ends of the stream.
pub(crate) struct Stream {
    pub(crate) input: ChildStdin,
    pub(crate) output: ChildStdout,
}

impl Launcher {
    /// Starts `guest` as a launcher and gives it its plan.
    pub(crate) async fn start(guest: &Path, plan: &Plan) -> Result<(Self, Stream), SandboxError> {
        let (control, theirs) = control_pair().map_err(|source| os("make a socket pair", source))?;
        let mut command = Command::new(guest);
        command.arg("launch").env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: Ctrl-C at the terminal is the runner's to interpret.
        command.stderr(Stdio::from(theirs)).process_group(0);
        let mut child =
            spawn(&mut command).await.map_err(|source| os(&format!("start {}", guest.display()), source))?;
        drop(command);
        let taken = child.stdin.take().zip(child.stdout.take());
        let (mut input, output) = taken.expect("both were asked for as pipes");
        let mut launcher = Self { child, control };
        match input.write_all(&encode(plan)).await {
            Ok(()) => Ok((launcher, Stream { input, output })),
            Err(source) => {
                drop((input, output));
                launcher.end().await?;
                Err(launcher.failure().await.unwrap_or_else(|| os("give the launcher its plan", source)))
            }
        }
    }

    /// Ends the sandbox and returns when none of its processes is left.
    pub(crate) async fn end(&mut self) -> Result<(), SandboxError> {
        // Refused only where the other side is gone already.
        self.control.shutdown().await.ok();
        let ended = match timeout(END_TIME, self.child.wait()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => self.child.kill().await,
        };
        ended.map_err(|source| os("end a launcher", source))
    }

    /// Why the sandbox did not start, if the launcher knows. For after its end.
    pub(crate) async fn failure(&mut self) -> Option<SandboxError> {
        let report = self.rest_of_report().await;
        report.lines().find_map(|line| line.parse::<Failure>().ok()).map(|failure| remedy::error(&failure))
    }

    /// What the launcher has said so far. For after its end; before that a word may still be on its way.
    pub(crate) fn said(&self) -> String {
        let mut buffer = vec![0; LONGEST_REPORT];
        // The socket does not block. Its runtime may not have heard yet that it is readable, so it is not asked.
        let read = rustix::io::read(self.control.as_fd(), &mut buffer[..]).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    async fn rest_of_report(&mut self) -> String {
        let mut report = Vec::new();
        let mut limited = (&mut self.control).take(LONGEST_REPORT as u64);
        // What was read before an error counts.
        limited.read_to_end(&mut report).await.ok();
        String::from_utf8_lossy(&report).into_owned()
    }

    /// Ends the sandbox but keeps what it wrote for as long as this launcher is held. Returns the folder.
    pub(crate) async fn hold(&mut self) -> Result<PathBuf, SandboxError> {
        let asked = self.control.write_all(&[HOLD]).await;
        asked.map_err(|source| os("ask the launcher to hold", source))?;
        let held = timeout(END_TIME, self.held()).await.unwrap_or(None);
        let pid = self.child.id();
        match held.zip(pid) {
            Some((number, pid)) => Ok(PathBuf::from(format!("/proc/{pid}/fd/{number}"))),
            None => Err(SandboxError::Gone("its launcher did not hold what was written".into())),
        }
    }

    /// Reads up to the line that names the descriptor.
    async fn held(&mut self) -> Option<u32> {
        let mut line = Vec::new();
        let mut seen = 0;
        while seen < LONGEST_REPORT {
            let byte = self.control.read_u8().await.ok()?;
            seen += 1;
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if let Some(number) = text.strip_prefix(HELD) {
                return number.parse().ok();
            }
            line.clear();
        }
        None
    }
}

/// Starts the program, which may be busy for a moment: a process that another thread is about to start still holds the
/// descriptor by which the program was written.
async fn spawn(command: &mut Command) -> std::io::Result<Child> {
    const TRIES: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 1..TRIES {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
    command.spawn()
}

fn control_pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

fn encode(plan: &Plan) -> Vec<u8> {
    let body = postcard::to_stdvec(plan).expect("plain data of known lengths has a postcard form");
    let length = u32::try_from(body.len()).expect("a plan is far below the launcher's bound of 1 MiB");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// An operating-system error with what was tried.
pub(crate) fn os(action: &str, source: std::io::Error) -> SandboxError {
    SandboxError::Os { action: action.to_owned(), source }
}
