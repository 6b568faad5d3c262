//! A guest without namespaces: own session, limits, and Landlock where the kernel has it.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, wait};

use super::clone::{Born, Side, clone};
use super::plan::{Limit, Plain};
use super::privilege;
use super::report::{At, Failure, LANDLOCK, Step};
use super::run::{end_child, say};
use super::supervise;

/// The newest Landlock whose features are asked for; an older kernel gives what it has.
const NEWEST: ABI = ABI::V6;

/// Starts the guest as a child, waits for its end, and then removes everything that it left behind.
pub(super) fn launch(spec: &Plain, limits: &[Limit]) -> Result<(), Failure> {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).at(Step::Namespaces, || "subreaper")?;
    match clone(0, None).at(Step::Namespaces, || "fork")? {
        Side::Child => {
            let Err(failure) = become_guest(spec, limits, own);
            end_child(&failure)
        }
        Side::Parent(born) => watch(&born, own, &spec.folder),
    }
}

fn watch(born: &Born, own: Pid, folder: &Path) -> Result<(), Failure> {
    let ended = supervise::until_the_end(born, None);
    end_orphans(own);
    // What cannot be removed now, the runner's next start removes.
    fs::remove_dir_all(folder).ok();
    ended
}

fn become_guest(spec: &Plain, limits: &[Limit], launcher: Pid) -> Result<Infallible, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::Namespaces, || "parent death signal")?;
    if rustix::process::getppid() != Some(launcher) {
        return Err(Failure { step: Step::Namespaces, errno: 0, detail: "the launcher ended".into() });
    }
    rustix::process::setsid().at(Step::Namespaces, || "session")?;
    std::env::set_current_dir(&spec.workdir).at(Step::Files, || spec.workdir.display().to_string())?;
    privilege::set_limits(limits)?;
    privilege::keep_only(spec.capabilities)?;
    let guest = std::env::current_exe().at(Step::Exec, || "own path")?;
    let refused = |error: RulesetError| Failure { step: Step::Landlock, errno: 0, detail: error.to_string() };
    let enforced = restrict(spec, &guest).map_err(refused)?;
    say(&format!("{LANDLOCK}{enforced}\n"));
    let error = Command::new(&guest).arg0("thresher-guest").env_clear().exec();
    Err(Failure::io(Step::Exec, guest.display().to_string(), &error))
}

/// Restricts this process and all its children to the folders named, and says in words what came of it.
fn restrict(spec: &Plain, guest: &Path) -> Result<&'static str, RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    let guest = [guest.to_owned()];
    let rules = rules(&spec.readable, read).chain(rules(&guest, read)).chain(rules(&spec.writable, all));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .set_compatibility(CompatLevel::BestEffort)
        .add_rules(rules)?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "files and signals are restricted",
        RulesetStatus::PartiallyEnforced => "restricted in part, since the kernel is older than 6.12",
        RulesetStatus::NotEnforced => "absent from this kernel: nothing is restricted",
    })
}

/// One rule per path that exists. A file takes only those rights that files have.
fn rules(
    paths: &[PathBuf],
    access: landlock::BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<PathBeneath<PathFd>, RulesetError>> {
    paths.iter().filter_map(move |path| {
        let is_folder = path.is_dir();
        let fd = PathFd::new(path).ok()?;
        let access = if is_folder { access } else { access & AccessFs::from_file(NEWEST) };
        Some(Ok(PathBeneath::new(fd, access)))
    })
}

/// Kills what the guest left. Every orphan becomes a child of this process, so this ends when there is none.
fn end_orphans(own: Pid) {
    loop {
        for child in children(own) {
            // Fails only if it has just ended.
            kill_process(child, Signal::KILL).ok();
        }
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Children of the process, from `/proc`: the number after the name and the state is the parent's.
fn children(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let words = String::from_utf8_lossy(&stat[after_name..]).into_owned();
    words.split_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)
}
