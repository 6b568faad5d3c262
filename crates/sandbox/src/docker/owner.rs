//! Who holds a container: written into its labels, read by the reaper of another process.

use serde::{Deserialize, Serialize};

/// One runner process, recognizable after its death and after its process id was given to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Host name and machine id.
    machine: String,
    /// The kernel's id of this boot.
    boot: String,
    /// Process-id namespace: a pid means nothing outside its own.
    pid_namespace: String,
    pid: u32,
    /// Start of the process in clock ticks since boot.
    start_ticks: u64,
}

/// What can be said about an owner from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs.
    Alive,
    /// It ended.
    Dead,
    /// It lives, or lived, where this process cannot see: its things are left alone.
    Unknown,
}

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self {
            machine: machine(),
            boot: read_trimmed("/proc/sys/kernel/random/boot_id"),
            pid_namespace: std::fs::read_link("/proc/self/ns/pid")
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default(),
            pid,
            start_ticks: start_ticks(pid).unwrap_or_default(),
        }
    }

    /// What became of it, seen from `here`; `ticks_of` tells when the process that now has a pid began.
    pub(super) fn fate(&self, here: &Self, ticks_of: impl Fn(u32) -> Option<u64>) -> Fate {
        if self.machine != here.machine {
            Fate::Unknown
        } else if self.boot != here.boot {
            Fate::Dead
        } else if self.pid_namespace != here.pid_namespace {
            Fate::Unknown
        } else if ticks_of(self.pid) == Some(self.start_ticks) {
            Fate::Alive
        } else {
            Fate::Dead
        }
    }
}

fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}/{}", read_trimmed("/etc/machine-id"))
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// When process `pid` began, in clock ticks since boot; `None` if there is none, or only its zombie.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    parse_start_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the 22nd field of `/proc/<pid>/stat`; the second, the command's name, may hold blanks and brackets.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(machine: &str, boot: &str, pid_namespace: &str, pid: u32) -> Owner {
        Owner {
            machine: machine.into(),
            boot: boot.into(),
            pid_namespace: pid_namespace.into(),
            pid,
            start_ticks: 100,
        }
    }

    #[test]
    fn only_an_owner_that_can_be_seen_to_be_gone_is_dead() {
        let here = owner("m", "b", "n", 1);
        let ticks = |pid| match pid {
            7 => Some(100),
            8 => Some(101),
            _ => None,
        };
        let cases = [
            (owner("m", "b", "n", 7), Fate::Alive),
            (owner("m", "b", "n", 8), Fate::Dead),
            (owner("m", "b", "n", 9), Fate::Dead),
            (owner("m", "old", "n", 7), Fate::Dead),
            (owner("other", "b", "n", 9), Fate::Unknown),
            (owner("other", "old", "n", 9), Fate::Unknown),
            (owner("m", "b", "other", 9), Fate::Unknown),
        ];
        for (owner, fate) in cases {
            assert_eq!(owner.fate(&here, ticks), fate, "{owner:?}");
        }
    }

    #[test]
    fn a_process_sees_itself_alive() {
        let this = Owner::this();
        assert_eq!(this.fate(&Owner::this(), start_ticks), Fate::Alive);
        assert_eq!(serde_json::from_str::<Owner>(&serde_json::to_string(&this).unwrap()).unwrap(), this);
    }

    #[test]
    fn start_ticks_survive_strange_names_and_skip_zombies() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_start_ticks(&format!("12 (a) b) S {rest}")), Some(4711));
        assert_eq!(parse_start_ticks(&format!("12 (x) Z {rest}")), None);
        assert_eq!(parse_start_ticks("12 (x) S 1"), None);
    }
}
