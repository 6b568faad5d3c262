//! Whether the daemon was restarted under sandboxes that were running: the one outside cause that is over by the time
//! somebody asks for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use super::owner::start_ticks;

/// How long a sandbox that is closed still counts: its rollout may ask for evidence just after closing it.
const GRACE: Duration = Duration::from_secs(60);

/// One life of the daemon process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DaemonLife {
    pid: u32,
    start_ticks: u64,
}

/// Which sandboxes were started in which life of the daemon.
#[derive(Default)]
pub(super) struct Watch {
    socket: Option<PathBuf>,
    sandboxes: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    life: DaemonLife,
    ended: Option<Instant>,
}

impl Watch {
    pub(super) fn new(socket: Option<PathBuf>) -> Self {
        Self { socket, sandboxes: Mutex::default() }
    }

    /// The daemon's present life; `None` where it cannot be told: over a network, or in another PID namespace.
    pub(super) async fn life(&self) -> Option<DaemonLife> {
        let socket = self.socket.as_deref()?;
        let pid = match peer_pid(socket).await {
            // Where the service manager made the socket, it is the peer; the daemon left its pid beside the socket.
            Some(1) | None => pid_file(socket)?,
            Some(pid) => pid,
        };
        Some(DaemonLife { pid, start_ticks: start_ticks(pid)? })
    }

    /// Notes that `container` was started in `life`.
    pub(super) fn started(&self, container: &str, life: DaemonLife) {
        self.sandboxes().insert(container.to_owned(), Entry { life, ended: None });
    }

    /// Notes that `container` was given up.
    pub(super) fn ended(&self, container: &str) {
        let now = Instant::now();
        let mut sandboxes = self.sandboxes();
        if let Some(entry) = sandboxes.get_mut(container) {
            entry.ended = Some(now);
        }
        sandboxes.retain(|_, entry| entry.ended.is_none_or(|ended| now - ended < GRACE));
    }

    /// Whether a sandbox of an earlier life is held, or was until just now. It does not say which one: a sandbox that
    /// ended by itself in that minute gets the benefit of the doubt, and is tried again.
    pub(super) fn was_restarted(&self, life: DaemonLife) -> bool {
        let now = Instant::now();
        let counts = |entry: &Entry| entry.ended.is_none_or(|ended| now - ended < GRACE);
        self.sandboxes().values().any(|entry| entry.life != life && counts(entry))
    }

    fn sandboxes(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn peer_pid(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    u32::try_from(stream.peer_cred().ok()?.pid()?).ok().filter(|pid| *pid > 0)
}

fn pid_file(socket: &Path) -> Option<u32> {
    std::fs::read_to_string(socket.with_extension("pid")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restart_counts_while_sandboxes_of_the_old_life_are_held_and_a_little_longer() {
        let watch = Watch::new(None);
        let life = |start_ticks| DaemonLife { pid: 5, start_ticks };
        watch.started("a", life(1));
        assert!(!watch.was_restarted(life(1)));
        assert!(watch.was_restarted(life(2)));
        watch.started("b", life(2));
        tokio::time::advance(GRACE * 3).await;
        assert!(watch.was_restarted(life(2)), "the old one is still held");
        watch.ended("a");
        assert!(watch.was_restarted(life(2)));
        tokio::time::advance(GRACE).await;
        assert!(!watch.was_restarted(life(2)));
        watch.ended("b");
        assert_eq!(watch.sandboxes().len(), 1);
    }

    #[tokio::test]
    async fn the_listening_process_is_recognized() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let life = Watch::new(Some(path)).life().await.unwrap();
        assert_eq!(life.pid, std::process::id());
        assert_eq!(Watch::new(Some(folder.path().join("absent.sock"))).life().await, None);
    }
}
