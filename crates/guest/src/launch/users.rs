//! The user and group ids of a user namespace.

use std::fs;

use rustix::fs::{Gid, Uid};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::plan::IDS;
use super::report::{At, Failure, Step};

/// Maps the ids of the child `pid`, seen from outside, to `first` and those after it.
///
/// With 0, where the launcher may map all ids that it has itself (`CAP_SETUID`, as root in a container has), they map to
/// themselves, so that owners look right and `chown` works. Else root inside is the launcher's own user.
pub(super) fn map(pid: i32, first: u32) -> Result<(), Failure> {
    if first > 0 {
        let range = format!("0 {first} {IDS}\n");
        return write(pid, "uid_map", &range).and_then(|()| write(pid, "gid_map", &range));
    }
    if map_all(pid).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    write(pid, "setgroups", "deny")?;
    write(pid, "uid_map", &format!("0 {uid} 1\n"))?;
    write(pid, "gid_map", &format!("0 {gid} 1\n"))
}

/// Turns this process, which may have no id in its user namespace, into root there. From then on files of the machine's
/// root are out of reach, and those of the namespace can be made.
pub(super) fn become_root() -> Result<(), Failure> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    // For this thread, which is the only one.
    set_thread_groups(&[]).at(Step::Users, || "groups")?;
    set_thread_res_gid(gid, gid, gid).at(Step::Users, || "group of root")?;
    set_thread_res_uid(uid, uid, uid).at(Step::Users, || "user of root")?;
    // Forgotten by the kernel with the change of user. Should the launcher have died in between, it cannot be written to.
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::Users, || "parent death signal")
}

fn map_all(pid: i32) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure { step: Step::Users, errno: 0, detail: "not root".into() });
    }
    write(pid, "uid_map", &own_range("uid_map")?)?;
    write(pid, "gid_map", &own_range("gid_map")?)
}

/// The ids that exist here, each mapped to itself.
fn own_range(file: &str) -> Result<String, Failure> {
    let path = format!("/proc/self/{file}");
    let text = fs::read_to_string(&path).at(Step::Users, || path)?;
    let identity = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (first, _, count) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    Ok(identity.collect())
}

fn write(pid: i32, file: &str, content: &str) -> Result<(), Failure> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, content).at(Step::Users, || format!("{file} {}", content.trim()))
}
