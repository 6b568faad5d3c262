//! The `/proc` of an outer PID namespace, for places where one of our own cannot be mounted: it shows our processes
//! under other numbers, among those of others.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsRawFd;

use rustix::process::{Pid, PidfdFlags};

use super::{Process, parse_stat};

/// Whether `/proc` numbers this process otherwise than its own namespace does.
pub(super) fn is_outer() -> bool {
    let shown = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse::<i32>().ok());
    shown.is_some_and(|shown| shown != rustix::process::getpid().as_raw_nonzero().get())
}

/// The living processes of this namespace among those that `/proc` shows, under the numbers of this namespace.
pub(super) fn living(shown: impl Iterator<Item = i32>) -> Vec<Process> {
    let status = |name: &str| fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
    let depth = numbers(&status("self"), "NSpid:").len();
    let mut found: Vec<Process> =
        shown.filter_map(|shown| translated(shown, &status(&shown.to_string()), depth)).collect();
    let own: HashMap<i32, i32> = found.iter().map(|process| (process.shown, process.pid)).collect();
    for process in &mut found {
        // Of a parent only the outer number is shown. One outside counts as none, as it does in a /proc of our own.
        process.parent = own.get(&process.parent).copied().unwrap_or(0);
    }
    found
}

fn translated(shown: i32, status: &str, depth: usize) -> Option<Process> {
    let here = |field: &str| numbers(status, field).get(depth.checked_sub(1)?).copied();
    let process = parse_stat(shown, &fs::read(format!("/proc/{shown}/stat")).ok()?)?;
    let translated =
        Process { pid: here("NSpid:")?, group: here("NSpgid:")?, session: here("NSsid:")?, ..process };
    is_ours(translated).then_some(translated)
}

/// Whether our number for the process means this process, and not another one's in a neighbouring namespace.
fn is_ours(process: Process) -> bool {
    let Some(pid) = Pid::from_raw(process.pid) else { return false };
    let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default();
    numbers(&info, "Pid:") == [process.shown]
}

/// The numbers after the name of a field.
fn numbers(text: &str, field: &str) -> Vec<i32> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    rest.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hold_one_number_per_namespace() {
        let status = "Name:\tx\nPid:\t57\nNSpid:\t57\t3\nNSsid:\t0\t1\n";
        assert_eq!(numbers(status, "NSpid:"), [57, 3]);
        assert_eq!(numbers(status, "Pid:"), [57]);
        assert_eq!(numbers(status, "NSpgid:"), [0; 0]);
    }

    #[test]
    fn this_process_is_ours_under_its_number_only() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let process = Process { pid: own, shown: own, parent: 0, group: 0, session: 0, started: 0 };
        assert!(is_ours(process));
        assert!(!is_ours(Process { shown: own + 1, ..process }));
        assert!(!is_outer());
    }

    #[test]
    fn translation_keeps_what_needs_none() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let found = living([own].into_iter());
        assert_eq!((found.len(), found[0].pid, found[0].shown), (1, own, own));
        assert_eq!(found[0].parent, 0, "its parent was not among those shown");
    }
}
