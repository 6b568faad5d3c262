//! What an agent may try, on purpose or not.

use std::time::Duration;

use super::{Shown, Subject, bash, holds, is_alone, same, skip, still_answers, text};
use crate::error::FileErrorKind;
use crate::{CommandEnd, FileMode, SandboxError};

const SHARED: &str = "commands share their process namespace with the machine";

/// `kill -9 -1` ends everything but the guest.
pub async fn everything_can_be_killed(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    if !is_alone(&mut sandbox).await? {
        return skip(sandbox, SHARED).await;
    }
    // The second stops the shell that runs it too: its deadline ends it.
    for script in ["kill -9 -1", "kill -STOP -1", "kill -KILL 1; kill -STOP 1; kill -TERM 1; kill -HUP 1"] {
        let attack = bash(&format!("sleep 1000 & bash -c '{script}'; true"));
        sandbox.run(&attack.timeout(Duration::from_secs(1))).await?;
        let output = sandbox.run(&bash("echo here")).await?;
        same(script, (output.end, text(&output)), (CommandEnd::Exited(0), "here\n".into()))?;
    }
    sandbox.kill_all().await?;
    still_answers(sandbox).await
}

/// `kill_all` leaves no process but the guest, whatever the processes do against it.
pub async fn command_ends_with_its_family(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let script = "for i in 1 2 3 4 5; do setsid bash -c 'trap \"\" TERM HUP INT; while :; do sleep 0.01; done' & done; true";
    sandbox.run(&bash(script)).await?;
    sandbox.kill_all().await?;
    // The number of the guest, as this /proc has it.
    let count = "read -r _ _ _ guest _ < /proc/self/stat; n=0; for stat in /proc/[0-9]*/stat; do read -r _ _ _ parent _ 2>/dev/null < $stat &&
        [ \"$parent\" = $guest ] && n=$((n + 1)); done; echo $n";
    same(
        "the guest's children, this command among them",
        text(&sandbox.run(&bash(count)).await?),
        "1\n".into(),
    )?;
    still_answers(sandbox).await
}

/// Nobody inside can open the guest's descriptors, memory or environment.
pub async fn descriptors_are_closed_to_others(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    if !is_alone(&mut sandbox).await? {
        return skip(sandbox, SHARED).await;
    }
    let script = r#"for fd in 0 1 2 3 4 5 6 7 8 9; do
            (printf '\377\377\377\377' > /proc/1/fd/$fd) 2>/dev/null && echo "wrote $fd"
            (: < /proc/1/fd/$fd) 2>/dev/null && echo "opened $fd"
        done
        (: < /proc/1/mem) 2>/dev/null && echo "opened memory"
        (: > /proc/1/mem) 2>/dev/null && echo "opened memory for writing"
        cat /proc/1/environ 2>/dev/null
        readlink /proc/1/exe /proc/1/cwd /proc/1/root 2>/dev/null
        true"#;
    same("what could be opened", text(&sandbox.run(&bash(script)).await?), String::new())?;
    still_answers(sandbox).await
}

/// Nobody inside can trace the guest, or take a descriptor or memory out of it.
pub async fn tracing_is_refused(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    if !is_alone(&mut sandbox).await? {
        return skip(sandbox, SHARED).await;
    }
    if sandbox.run(&bash("command -v perl")).await?.end != CommandEnd::Exited(0) {
        return skip(sandbox, "the image has no perl to make system calls with").await;
    }
    // Numbers of x86-64: ptrace attach and seize, process_vm_readv, pidfd_open and pidfd_getfd.
    let script = r#"perl -e '
        print "attached\n" if syscall(101, 16, 1, 0, 0) >= 0;
        print "seized\n" if syscall(101, 16902, 1, 0, 0) >= 0;
        my $room = "x" x 8;
        my $vector = pack("PQ", $room, 8);
        print "read\n" if syscall(310, 1, $vector, 1, $vector, 1, 0) >= 0;
        my $pid = syscall(434, 1, 0);
        print "taken\n" if $pid >= 0 && syscall(438, $pid, 1, 0) >= 0;
        print "tried\n"'"#;
    if !cfg!(target_arch = "x86_64") {
        return skip(sandbox, "the numbers of system calls are known for x86-64 only").await;
    }
    same("what succeeded", text(&sandbox.run(&bash(script)).await?), "tried\n".into())?;
    still_answers(sandbox).await
}

/// A fork bomb meets the process limit, and ends at its deadline.
pub async fn forks_are_bounded(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    if sandbox.identity().pids.is_none() || !is_alone(&mut sandbox).await? {
        return skip(sandbox, "no limit of processes is in force").await;
    }
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 1000";
    let output = sandbox.run(&bash(bomb).output_cap(1_000).timeout(Duration::from_secs(2))).await?;
    holds(output.end != CommandEnd::Exited(0), || "the bomb ended well".into())?;
    sandbox.kill_all().await?;
    still_answers(sandbox).await
}

/// A command that takes all the memory is killed, and only it.
pub async fn memory_is_bounded(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let Some(limit) = sandbox.identity().memory_bytes else {
        return skip(sandbox, "no limit of memory is in force").await;
    };
    // Without a newline, `tail` has to keep everything.
    let script =
        format!("head -c {} /dev/zero | tail | wc -c; echo ${{PIPESTATUS[1]}}", limit.saturating_mul(2));
    let output = sandbox.run(&bash(&script)).await?;
    let printed = text(&output);
    holds(printed.ends_with("137\n") || output.end == CommandEnd::Signaled(9), || {
        format!("it ended with {:?} and printed {printed}", output.end)
    })?;
    still_answers(sandbox).await
}

/// Where the disk is limited, a full one is an error of the operation, and removing a file cures it.
pub async fn disk_can_be_full(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let folder = sandbox.workdir().to_owned();
    // Half as much again as the limit.
    let fill = "dd if=/dev/zero of=full bs=1M count=384";
    let filled = sandbox.run(&bash(fill).cwd(&folder)).await?;
    // A limit on the size of one file, which some backends have instead, is none on the disk.
    if !text(&filled).contains("No space left on device") {
        return skip(sandbox, "no limit of disk space is in force").await;
    }
    sandbox.run(&bash("cat /dev/zero > more; cat /dev/zero > more2; true").cwd(&folder)).await?;
    match sandbox.write(&format!("{folder}/file"), &vec![1; 4 << 20], FileMode::Plain).await {
        Err(SandboxError::File { kind: FileErrorKind::NoSpace, .. }) => {}
        other => return Err(super::Deviation(format!("writing to a full disk gave {other:?}"))),
    }
    let long = format!(": '{}'; echo ran", "x".repeat(200 << 10));
    same("a long command", text(&sandbox.run(&bash(&long)).await?), "ran\n".into())?;
    for name in ["full", "more", "more2"] {
        sandbox.remove(&format!("{folder}/{name}")).await?;
    }
    sandbox.write(&format!("{folder}/file"), b"room", FileMode::Plain).await?;
    still_answers(sandbox).await
}
