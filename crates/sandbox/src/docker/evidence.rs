//! A look from outside for what can end a sandbox without its own doing.

use std::path::Path;
use std::time::Duration;

use super::engine::{Engine, Facts};
use super::watch::Watch;
use crate::SandboxError;

/// A daemon that takes longer than this to say that it lives does not.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// Looks at the daemon, then at its disk. A sandbox that the kernel killed for its own memory shows in neither, and
/// that is meant: its limit is part of the task.
pub(super) async fn look(
    engine: &Engine,
    facts: &Facts,
    watch: &Watch,
    min_free: u64,
) -> Option<SandboxError> {
    if let Err(error) = engine.call_within(PING_DEADLINE, engine.api.ping()).await {
        return Some(engine.error("say that it is there", error));
    }
    if let Some(life) = watch.life().await
        && watch.was_restarted(life)
    {
        return Some(SandboxError::Daemon(format!(
            "at {} was restarted under running sandboxes",
            engine.address
        )));
    }
    facts.root_dir.as_deref().and_then(|dir| full_disk(dir, min_free))
}

fn full_disk(dir: &Path, min_free: u64) -> Option<SandboxError> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Some file systems count no inodes at all.
    let no_inodes = stat.f_files > 0 && stat.f_favail == 0;
    if free >= min_free && !no_inodes {
        return None;
    }
    Some(SandboxError::DiskFull(format!(
        "{} has {free} bytes and {} inodes left",
        dir.display(),
        stat.f_favail
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_the_threshold() {
        let here = Path::new("/");
        assert!(full_disk(here, 0).is_none());
        assert!(matches!(full_disk(here, u64::MAX), Some(SandboxError::DiskFull(_))));
        assert!(full_disk(Path::new("/nonexistent"), u64::MAX).is_none());
    }
}
