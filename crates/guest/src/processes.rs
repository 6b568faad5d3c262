//! The guest's children: reaping, and ending whole families of them.

mod outer;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::sys::{self, Exit};

/// Ended children, and the pipes that background processes still hold.
pub(crate) struct Processes {
    /// Readable when a child ended.
    pub(crate) signals: OwnedFd,
    /// Read and thrown away, so that a background process neither blocks nor gets SIGPIPE.
    pub(crate) background: Vec<OwnedFd>,
    most_background: usize,
    awaited: Option<i32>,
    exit: Option<Exit>,
}

impl Processes {
    /// Starts to watch for ended children.
    pub(crate) fn new() -> io::Result<Self> {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
        Ok(Self {
            signals: sys::child_signals()?,
            background: Vec::new(),
            most_background: usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(16, 1024),
            awaited: None,
            exit: None,
        })
    }

    /// From now on keeps the exit of `pid` for [`Processes::exit`].
    pub(crate) fn watch_for(&mut self, pid: i32) {
        (self.awaited, self.exit) = (Some(pid), None);
    }

    /// How the watched child ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Reaps every ended child: the guest is the parent of all orphans.
    pub(crate) fn reap(&mut self) {
        // The content does not matter: signals of many children merge into one.
        let mut ignored = [0; 512];
        while rustix::io::read(&self.signals, &mut ignored).is_ok_and(|read| read > 0) {}
        while let Some((pid, exit)) = sys::reap() {
            if self.awaited == Some(pid) {
                (self.awaited, self.exit) = (None, Some(exit));
            }
        }
    }

    /// Keeps reading a pipe that outlives its command. The descriptors are bounded: over the bound the oldest is closed.
    pub(crate) fn keep_draining(&mut self, pipe: OwnedFd) {
        if self.background.len() >= self.most_background {
            self.background.remove(0);
        }
        self.background.push(pipe);
    }
}

/// A living process, as `/proc/<pid>/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// Its number in `/proc`, which is another where that is an outer namespace's.
    shown: i32,
    parent: i32,
    group: i32,
    session: i32,
    started: u64,
}

/// Which processes a family is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A command: everything in its session and everything descended from it.
    Command(i32),
    /// Everything descended from the guest itself; orphans are its children.
    Guest(i32),
}

/// The members of a family that were seen, by pid and start time.
#[derive(Debug)]
pub(crate) struct Family {
    root: Root,
    members: HashMap<i32, u64>,
}

impl Family {
    /// The family of `root`; nothing is looked up yet.
    pub(crate) fn new(root: Root) -> Self {
        Self { root, members: HashMap::new() }
    }

    /// Stops every member, until a look finds no new one: what is stopped cannot fork. A fork bomb may outrun this, so
    /// the rounds are bounded.
    pub(crate) fn freeze(&mut self) {
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            let fresh: Vec<Process> =
                self.look().into_iter().filter(|(_, new)| *new).map(|(p, _)| p).collect();
            if fresh.is_empty() {
                return;
            }
            for process in fresh {
                signal(process, Signal::STOP);
            }
        }
    }

    /// Sends SIGKILL to every living member. Returns how many there were.
    pub(crate) fn kill(&mut self) -> usize {
        if let Root::Command(pid) = self.root
            && let Some(group) = Pid::from_raw(pid)
        {
            // Works without /proc. The group cannot be foreign: its number is in use while a member lives.
            rustix::process::kill_process_group(group, Signal::KILL).ok();
        }
        let living = self.look();
        for (process, _) in &living {
            signal(*process, Signal::KILL);
        }
        living.len()
    }

    /// Looks for living members; says of each whether it is new, and remembers it.
    fn look(&mut self) -> Vec<(Process, bool)> {
        let processes = living();
        let mut found = Vec::new();
        let mut seen = HashMap::new();
        // Parents may come after their children in /proc: repeat until a pass finds nothing.
        loop {
            let before = found.len();
            for process in &processes {
                if !seen.contains_key(&process.pid) && self.belongs(process, &seen) {
                    seen.insert(process.pid, ());
                    let known = self.members.insert(process.pid, process.started) == Some(process.started);
                    found.push((*process, !known));
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn belongs(&self, process: &Process, seen: &HashMap<i32, ()>) -> bool {
        let by_root = match self.root {
            Root::Command(pid) => process.pid == pid || process.session == pid || process.group == pid,
            Root::Guest(pid) => process.parent == pid,
        };
        by_root
            || seen.contains_key(&process.parent)
            || self.members.get(&process.pid) == Some(&process.started)
            // Orphaned since the last look, but still in a session that a member had opened.
            || self.members.contains_key(&process.session)
    }
}

/// Every living process but this one. Empty where there is no `/proc`.
fn living() -> Vec<Process> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    match outer::is_outer() {
        true => outer::living(pids).into_iter().filter(|process| process.pid != own).collect(),
        false => pids.filter(|pid| *pid != own).filter_map(read_process).collect(),
    }
}

/// The parent of a process; 0 where that is not in this namespace.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    Some(read_process(pid)?.parent)
}

fn read_process(pid: i32) -> Option<Process> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `pid (name) state ppid pgrp session ...`; the name may hold anything, also `)`. `None` for the dead.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(&stat[after_name..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Process {
        pid,
        shown: pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Signals exactly this process, never another that got its pid since.
fn signal(process: Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => {
            if read_process(process.shown).is_some_and(|now| now.started == process.started) {
                rustix::process::pidfd_send_signal(fd, signal).ok();
            }
        }
        // Before Linux 5.3, or under a filter that does not know the call.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            rustix::process::kill_process(pid, signal).ok();
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read_whatever_the_name_is() {
        let tail = "S 3 4 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let process = Process { pid: 9, shown: 9, parent: 3, group: 4, session: 5, started: 777 };
        for (name, expected) in [
            ("(bash)", Some(process)),
            ("(a) Z 1 1 1)", Some(process)),
            ("(\u{e9} ()", Some(process)),
            ("bash", None),
        ] {
            assert_eq!(parse_stat(9, format!("9 {name} {tail}").as_bytes()), expected, "{name}");
        }
        assert_eq!(parse_stat(9, b"9 (x) Z 3 4 5 0 -1"), None);
        assert_eq!(parse_stat(9, b"9 (x) S 3"), None);
        assert_eq!(parse_stat(9, b""), None);
    }

    #[test]
    fn a_family_is_the_session_the_group_and_the_descendants() {
        let process =
            |pid, parent, group, session| Process { pid, shown: pid, parent, group, session, started: 1 };
        let family = Family::new(Root::Command(10));
        let seen = HashMap::from([(12, ())]);
        for (candidate, expected) in [
            (process(10, 1, 10, 10), true),
            (process(11, 1, 11, 10), true),
            (process(13, 12, 13, 13), true),
            (process(14, 1, 14, 14), false),
        ] {
            assert_eq!(family.belongs(&candidate, &seen), expected, "{candidate:?}");
        }
        assert!(Family::new(Root::Guest(1)).belongs(&process(14, 1, 14, 14), &HashMap::new()));
    }
}
