//! What a dead runner's sandboxes left: processes that outlived a killed launcher, and folders.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::embedded::live::{Fate, Live};
use crate::embedded::{reap as reap_rest, store};

/// Removes what dead processes left below `data`. Returns how many folders there were.
pub(super) fn reap(data: &Path, folder: &str) -> usize {
    for entry in fs::read_dir(data.join(folder)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let incarnation = name.split('.').next().unwrap_or_default();
        if let Fate::Dead(_lock) = Live::fate(data, incarnation) {
            end_processes_of(&entry.path());
        }
    }
    store::reap_entries(data, folder) + reap_rest(data)
}

/// Kills the processes that work in the folder or whose environment names it. Bounded: a sandbox that forks faster
/// than it is killed is met again at the next start.
fn end_processes_of(folder: &Path) {
    const ROUNDS: usize = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..ROUNDS {
        let found = processes_of(folder);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // Fails only if it has just ended.
            kill_process(pid, Signal::KILL).ok();
        }
        std::thread::sleep(PAUSE);
    }
}

fn processes_of(folder: &Path) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| *pid != own && belongs(*pid, folder)).collect()
}

fn belongs(pid: Pid, folder: &Path) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    works_there || fs::read(process.join("environ")).is_ok_and(|environ| names(&environ, folder))
}

/// Whether `TMPDIR`, which every command gets, lies in the folder.
fn names(environ: &[u8], folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let mut variables = environ.split(|byte| *byte == 0);
    variables.any(|variable| {
        let value = variable.strip_prefix(b"TMPDIR=");
        value.is_some_and(|value| Path::new(std::ffi::OsStr::from_bytes(value)).starts_with(folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_folder_counts() {
        let folder = Path::new("/data/process/x.1");
        for (environ, expected) in [
            (&b"A=1\0TMPDIR=/data/process/x.1/tmp\0"[..], true),
            (b"TMPDIR=/data/process/x.11/tmp\0", false),
            (b"OTHER=/data/process/x.1/tmp\0", false),
            (b"", false),
        ] {
            assert_eq!(names(environ, folder), expected);
        }
    }
}
