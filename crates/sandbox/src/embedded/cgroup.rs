//! Cgroups of the sandboxes: where they may be made, what is written into them, and that none is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use thresher_core::run_spec::LimitsSpec;
use thresher_guest::launch::{Cgroup, Join};

use super::hierarchy::{Hierarchy, Version};
use super::live::{Fate, Live};

/// Period of the processor quota in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// The cgroups of one runner process.
pub(crate) struct Cgroups {
    hierarchy: Hierarchy,
    /// Name of this process's folder in each hierarchy.
    group: String,
    /// Folders that the kernel would not let go of yet; tried again on every occasion.
    leftovers: Mutex<Vec<PathBuf>>,
}

impl Cgroups {
    /// Makes this process's folders. The error says in words why sandboxes have no cgroups here.
    pub(crate) fn open(data: &Path, live: &Live) -> Result<Self, String> {
        let hierarchy = Hierarchy::of_this_process()?;
        let group = format!("{}{}", prefix(data), live.name());
        for (index, folder) in hierarchy.folders().iter().enumerate() {
            if let Err(error) = make_group(&hierarchy, &folder.join(&group)) {
                for made in &hierarchy.folders()[..=index] {
                    fs::remove_dir(made.join(&group)).ok();
                }
                return Err(format!("no cgroup can be made below {}: {error}", folder.display()));
            }
        }
        Ok(Self { hierarchy, group, leftovers: Mutex::default() })
    }

    /// Version of the cgroup interface in use.
    pub(crate) fn version(&self) -> u8 {
        match self.hierarchy.version {
            Version::One => 1,
            Version::Two => 2,
        }
    }

    /// What the kernel gives a cgroup that nobody set: `cpu.shares` of version 1, `cpu.weight` of version 2.
    pub(crate) fn default_shares(&self) -> u64 {
        match self.hierarchy.version {
            Version::One => 1024,
            Version::Two => 100,
        }
    }

    /// The cgroups of the sandbox called `name`.
    pub(crate) fn plan(&self, name: &str, limits: &LimitsSpec) -> Vec<Cgroup> {
        let join = match self.hierarchy.version {
            Version::One => Join::Tasks,
            Version::Two => Join::Birth,
        };
        let cgroup = |controllers: &[Controller]| {
            let parent = self.hierarchy.folder(controllers[0]).join(&self.group);
            let settings =
                controllers.iter().flat_map(|controller| self.settings(*controller, &parent, limits));
            Cgroup { folder: parent.join(name), settings: settings.collect(), join }
        };
        match self.hierarchy.version {
            Version::One => CONTROLLERS.iter().map(|controller| cgroup(&[*controller])).collect(),
            Version::Two => vec![cgroup(&CONTROLLERS)],
        }
    }

    fn settings(&self, controller: Controller, group: &Path, limits: &LimitsSpec) -> Vec<(String, String)> {
        let memory = (limits.memory_mb > 0).then(|| (limits.memory_mb << 20).to_string());
        let quota = limits.cpus.map(|cpus| (cpus * CPU_PERIOD as f64) as u64);
        let pids = (limits.pids > 0).then(|| limits.pids.to_string());
        let settings: Vec<(&str, Option<String>)> = match (self.hierarchy.version, controller) {
            (_, Controller::Pids) => vec![("pids.max", pids)],
            (Version::One, Controller::Memory) => {
                // Memory and swap together are limited to the same figure, after the first: no swap.
                vec![("memory.limit_in_bytes", memory.clone()), ("memory.memsw.limit_in_bytes", memory)]
            }
            (Version::Two, Controller::Memory) => {
                let no_swap = memory.is_some().then(|| "0".to_owned());
                vec![("memory.max", memory), ("memory.swap.max", no_swap)]
            }
            (Version::One, Controller::Cpu) => {
                vec![("cpu.cfs_quota_us", quota.map(|quota| quota.to_string()))]
            }
            (Version::Two, Controller::Cpu) => {
                vec![("cpu.max", quota.map(|quota| format!("{quota} {CPU_PERIOD}")))]
            }
        };
        // A kernel without swap accounting or quotas lacks the file.
        let present = settings.into_iter().filter(|(file, _)| group.join(file).exists());
        present.filter_map(|(file, value)| Some((file.to_owned(), value?))).collect()
    }

    /// Removes what the launcher could not remove at the sandbox's end; what is busy is tried again later.
    pub(crate) fn clear(&self, cgroups: &[Cgroup]) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        leftovers.extend(cgroups.iter().map(|cgroup| cgroup.folder.clone()));
        leftovers.retain(|folder| !is_removed(folder));
    }

    /// Removes the cgroups, with the processes in them, of all dead processes that used the folder `data`. Returns how
    /// many cgroups of sandboxes there were.
    pub(crate) fn reap(data: &Path) -> usize {
        let Ok(hierarchy) = Hierarchy::of_this_process() else { return 0 };
        let prefix = prefix(data);
        let mut removed = 0;
        for folder in hierarchy.folders() {
            for name in children(folder) {
                if let Some(incarnation) = name.strip_prefix(&prefix)
                    && let Fate::Dead(_lock) = Live::fate(data, incarnation)
                {
                    removed += remove_group(&folder.join(&name));
                }
            }
        }
        removed
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.clear(&[]);
        for folder in self.hierarchy.folders() {
            // Sandboxes that still live keep it; a later start reaps it.
            fs::remove_dir(folder.join(&self.group)).ok();
        }
    }
}

/// The controllers in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

/// All of them.
pub(super) const CONTROLLERS: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

impl Controller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Names hold the data folder's identity, so that a reaper never meets runners that it cannot judge.
fn prefix(data: &Path) -> String {
    use sha2::Digest;
    let path = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let hash = sha2::Sha256::digest(path.as_os_str().as_encoded_bytes());
    let hash: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("thresher-{hash}-")
}

fn make_group(hierarchy: &Hierarchy, folder: &Path) -> std::io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    hierarchy.enable_controllers(folder)
}

fn children(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn remove_group(folder: &Path) -> usize {
    let sandboxes: Vec<PathBuf> = children(folder).iter().map(|name| folder.join(name)).collect();
    let removed = sandboxes.iter().filter(|sandbox| kill_and_remove(sandbox)).count();
    fs::remove_dir(folder).ok();
    removed
}

/// Kills what is in a cgroup and removes it. Bounded: what will not die is left to the next start.
fn kill_and_remove(folder: &Path) -> bool {
    const TRIES: usize = 200;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
    for _ in 0..TRIES {
        if is_removed(folder) {
            return true;
        }
        let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in list.split_whitespace().filter_map(|word| word.parse().ok().and_then(Pid::from_raw)) {
            // Fails only if it has just ended.
            kill_process(pid, Signal::KILL).ok();
        }
        std::thread::sleep(PAUSE);
    }
    false
}

fn is_removed(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
