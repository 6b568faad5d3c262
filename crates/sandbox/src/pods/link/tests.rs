//! The link to a real guest on this machine, whose relays are child processes that are cut off at random.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use thresher_core::fault::Phase;
use thresher_core::record::SandboxIdentity;
use thresher_guest::resume::{ORPHANED, socket_name};
use tokio::process::{Child, Command as Program};

use super::*;
use crate::guest::{Teardown, install};
use crate::{Command, CommandEnd, FileMode, Sandbox};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static GUEST: LazyLock<PathBuf> = LazyLock::new(|| install(FOLDER.path()).unwrap());

fn patience() -> Patience {
    let millis = Duration::from_millis;
    Patience {
        dial: Duration::from_secs(60),
        away: Duration::from_secs(60),
        ping: millis(50),
        silence: Duration::from_secs(60),
        pause: (millis(1), millis(20)),
    }
}

/// A guest as a child process of this one; every test has a key of its own.
struct Guest {
    child: Child,
    key: Key,
}

impl Guest {
    fn start(orphan_s: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        let key = Key::new(bytes);
        let (hash, orphan) = (key.hash().to_string(), orphan_s.to_string());
        let mut program = Program::new(&*GUEST);
        program.args(["pod", "--key-hash", &hash, "--orphan-s", &orphan]).stdin(Stdio::null());
        Self { child: program.kill_on_drop(true).spawn().unwrap(), key }
    }

    fn name(&self) -> String {
        socket_name(&self.key.hash())
    }

    fn relays(&self, cuts: Cuts) -> Relays {
        Relays { name: self.name(), cuts, made: Arc::default() }
    }

    async fn attach(self, dial: impl Dial) -> Sandbox {
        let Link { reader, writer, absence } = open(dial, self.key.clone(), patience(), &TaskTracker::new());
        let identity = SandboxIdentity::default();
        Sandbox::attach_reachable(reader, writer, absence, identity, Box::new(self)).await.unwrap()
    }
}

#[async_trait]
impl Teardown for Guest {
    async fn end(mut self: Box<Self>) -> Result<(), SandboxError> {
        // Told that the stream is over, the guest ends by itself.
        assert!(self.child.wait().await.unwrap().success());
        Ok(())
    }

    fn handle(&self) -> &str {
        "plain"
    }
}

/// When connections are cut: after a number of bytes that follows from the seed and the connection's number.
#[derive(Clone, Copy)]
struct Cuts {
    seed: u64,
    /// Of so many bytes at most in each direction; 0 for never.
    within: u64,
}

const NEVER: Cuts = Cuts { seed: 0, within: 0 };

/// Starts relays.
struct Relays {
    name: String,
    cuts: Cuts,
    made: Arc<AtomicUsize>,
}

#[async_trait]
impl Dial for Relays {
    async fn dial(&self) -> Result<Connection, NoConnection> {
        let number = self.made.fetch_add(1, Ordering::Relaxed) as u64;
        let mut program = Program::new(&*GUEST);
        program.args(["relay", &self.name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut relay = program.kill_on_drop(true).spawn().unwrap();
        let (output, input) = (relay.stdin.take().unwrap(), relay.stdout.take().unwrap());
        let after = |salt: u64| match self.cuts.within {
            0 => u64::MAX,
            within => {
                let mixed = (self.cuts.seed + number * 31 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                150 + (mixed >> 20) % within
            }
        };
        Ok(Connection {
            input: Box::new(input.take(after(1))),
            output: Box::new(Cut { inner: output, left: after(2) }),
            keep: Box::new(relay),
        })
    }
}

/// Fails after a number of bytes.
struct Cut<W> {
    inner: W,
    left: u64,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Cut<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..most]))?;
        self.left -= written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

fn bash(script: &str) -> Command {
    Command::bash(script).env([("PATH".into(), "/usr/bin:/bin".into())].into())
}

async fn output(sandbox: &mut Sandbox, script: &str) -> String {
    let output = sandbox.run(&bash(script)).await.unwrap();
    assert_eq!(output.end, CommandEnd::Exited(0), "{script}");
    String::from_utf8(output.stdout.to_vec()).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn a_sandbox_does_not_notice_cuts_at_random_bytes() {
    for (seed, within, size) in [(1, 400, 100), (2, 3_000, 1_000), (3, 40_000, 2_000_000)] {
        let guest = Guest::start(300);
        let relays = guest.relays(Cuts { seed, within });
        let made = relays.made.clone();
        let mut sandbox = guest.attach(relays).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("count");
        for round in 1..=20 {
            // What is done twice would show in the file.
            let script = format!("echo {round} >> {}; wc -l < {0}", file.display());
            assert_eq!(output(&mut sandbox, &script).await, round.to_string());
        }
        let large: Vec<u8> = (0..size).map(|byte: u32| byte.to_le_bytes()[1]).collect();
        let path = file.display().to_string();
        sandbox.write(&path, &large, FileMode::Plain).await.unwrap();
        assert!(sandbox.read(&path, large.len() as u64).await.unwrap() == large);
        let made = made.load(Ordering::Relaxed);
        assert!(made > 3, "only {made} connections");
        // Without cuts the end would be told for certain.
        drop(sandbox);
    }
}

#[tokio::test]
async fn megabytes_pass_both_ways_at_once_and_the_end_is_told() {
    let guest = Guest::start(300);
    let relays = guest.relays(NEVER);
    let mut sandbox = guest.attach(relays).await;
    let script = "head -c 20000000 /dev/zero | tr '\\0' x";
    let output = sandbox.run(&bash(script).output_cap(30_000_000)).await.unwrap();
    assert!(output.stdout.len() == 20_000_000 && output.stdout.iter().all(|byte| *byte == b'x'));
    assert_eq!(sandbox.environ().await.unwrap().get("PATH").cloned(), std::env::var("PATH").ok());
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn who_knocks_without_the_key_disturbs_nobody() {
    use std::io::{Read, Write};
    let guest = Guest::start(300);
    let address = SocketAddr::from_abstract_name(guest.name()).unwrap();
    let relays = guest.relays(Cuts { seed: 9, within: 20_000 });
    let mut sandbox = guest.attach(relays).await;
    let strangers: Vec<_> = (0..3)
        .map(|kind| {
            let address = address.clone();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for _ in 0..300 {
                    let Ok(mut stranger) = UnixStream::connect_addr(&address) else { continue };
                    // Nothing, zeros, or garbage without an end.
                    let garbage = [vec![], vec![0; 88], vec![7; 100_000]];
                    if stranger.write_all(&garbage[kind]).is_ok() && kind == 1 {
                        let mut said = Vec::new();
                        stranger.read_to_end(&mut said).ok();
                        assert!(said.len() <= 25, "more than a challenge was said");
                    }
                    held.push(stranger);
                }
            })
        })
        .collect();
    for round in 0..30 {
        assert_eq!(output(&mut sandbox, &format!("echo {round}")).await, round.to_string());
    }
    for stranger in strangers {
        stranger.join().unwrap();
    }
    assert_eq!(output(&mut sandbox, "echo here").await, "here");
}

#[tokio::test]
async fn a_guest_that_nobody_comes_to_ends_by_itself() {
    let mut guest = Guest::start(1);
    assert_eq!(guest.child.wait().await.unwrap().code(), Some(i32::from(ORPHANED)));
    let mut guest = Guest::start(1);
    let tasks = TaskTracker::new();
    let dial = guest.relays(NEVER);
    let Link { mut reader, writer, .. } = open(dial, guest.key.clone(), patience(), &tasks);
    // Pings are enough to be there.
    sleep(Duration::from_millis(2_500)).await;
    assert!(guest.child.try_wait().unwrap().is_none());
    drop(writer);
    assert!(timeout(Duration::ZERO, reader.read_u8()).await.is_err());
    drop(reader);
    assert_eq!(guest.child.wait().await.unwrap().code(), Some(0), "told, not orphaned");
}

/// Connects once, and afterwards knows better.
struct Once(Relays, AtomicUsize);

#[async_trait]
impl Dial for Once {
    async fn dial(&self) -> Result<Connection, NoConnection> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            0 => self.0.dial().await,
            1 => Err(NoConnection::Later(SandboxError::Daemon("is away".into()))),
            _ => Err(NoConnection::Over(SandboxError::DiskFull("the node's".into()))),
        }
    }
}

#[tokio::test]
async fn what_the_backend_saw_is_the_error_of_the_request() {
    let guest = Guest::start(300);
    let pid = guest.child.id().unwrap();
    let dial = Once(guest.relays(NEVER), AtomicUsize::new(0));
    let mut sandbox = guest.attach(dial).await;
    let error = sandbox.run(&bash(&format!("kill -KILL {pid}"))).await.unwrap_err();
    assert!(matches!(error, SandboxError::DiskFull(_)), "{error}");
    assert!(error.fault(Phase::Agent).is_some());
    assert!(matches!(sandbox.stat("/").await.unwrap_err(), SandboxError::Gone(_)));
}
