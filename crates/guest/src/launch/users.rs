//! The user and group ids of a user namespace.

use std::fs;

use super::report::{At, Failure, Step};

/// Maps the ids of the child `pid`, seen from outside.
///
/// Where the launcher may map all ids that it has itself (`CAP_SETUID`, as root in a container has), they map to
/// themselves, so that owners look right and `chown` works. Else root inside is the launcher's own user.
pub(super) fn map(pid: i32) -> Result<(), Failure> {
    if map_all(pid).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    write(pid, "setgroups", "deny")?;
    write(pid, "uid_map", &format!("0 {uid} 1\n"))?;
    write(pid, "gid_map", &format!("0 {gid} 1\n"))
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
