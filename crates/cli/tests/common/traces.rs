//! What a run could leave on the machine: processes, mounts, cgroups, files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Home;

/// Makes this process the parent of every process below it whose own parent dies, so that none gets lost.
pub(crate) fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// Everything that commands of this home have left, besides what is kept on purpose.
pub(crate) fn left(home: &Home) -> Vec<String> {
    [processes(), mounts(home), cgroups(home), files(home)].concat()
}

/// Living processes below this one. Those of a killed command are among them once [`adopt_orphans`] was called.
fn processes() -> Vec<String> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process that has just ended has no status any more.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let (is_alive, parent) = (!matches!(fields[0], "Z" | "X"), fields[1].parse::<u32>().unwrap());
        parents.insert(pid, (parent, is_alive));
    }
    let is_ours = |mut pid: u32| {
        while let Some((parent, _)) = parents.get(&pid) {
            pid = *parent;
            if pid == std::process::id() {
                return true;
            }
        }
        false
    };
    let ours = parents.iter().filter(|(pid, (_, is_alive))| *is_alive && is_ours(**pid));
    ours.map(|(pid, _)| format!("process {pid}: {}", command_line(*pid))).collect()
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Mounts at or of something in the home.
fn mounts(home: &Home) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = home.path("").display().to_string();
    table.lines().filter(|line| line.contains(place.trim_end_matches('/'))).map(str::to_owned).collect()
}

/// Cgroups of embedded sandboxes whose data is in the home's cache: their names begin with a hash of its path.
fn cgroups(home: &Home) -> Vec<String> {
    let Ok(data) = home.cache().join("embedded").canonicalize() else { return Vec::new() };
    let hash = Sha256::digest(data.as_os_str().as_encoded_bytes());
    let prefix =
        format!("thresher-{}-", hash[..5].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
            open.push(entry.path());
        }
    }
    found
}

/// Temporary files, and files of the cache that belong to one process.
fn files(home: &Home) -> Vec<String> {
    let cache = home.cache();
    let places = [
        home.temporary(),
        cache.join("embedded/live"),
        cache.join("embedded/tmp"),
        cache.join("embedded/mnt"),
        cache.join("process/live"),
        cache.join("process/process"),
    ];
    places.iter().flat_map(|place| entries(place)).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| format!("file {}", entry.path().display())).collect()
}
