//! Commands: their ends, surroundings and output.

use std::time::Duration;

use super::{Shown, Subject, bash, holds, same, still_answers, text};
use crate::{Command, CommandEnd, Streams};

/// An exit code is told from a signal, from a deadline and from a program that cannot be started.
pub async fn ends_are_told_apart(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let not_found = Command { argv: vec!["no-such-program".into()], ..bash("") };
    for (command, end) in [
        (bash("exit 0"), CommandEnd::Exited(0)),
        (bash("exit 137"), CommandEnd::Exited(137)),
        (bash("kill -KILL $$"), CommandEnd::Signaled(9)),
        (bash("sleep 1000").timeout(Duration::from_millis(100)), CommandEnd::TimedOut),
        (not_found, CommandEnd::NotStarted(2)),
    ] {
        same(&format!("the end of {:?}", command.argv), sandbox.run(&command).await?.end, end)?;
    }
    still_answers(sandbox).await
}

/// A command has the given variables and no others, and begins in the given folder.
pub async fn environment_is_exact(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    // Where the sandbox has defaults of its own, as a folder for temporary files, giving the variable replaces it.
    let env = [("A", "1"), ("PATH", "/usr/bin:/bin"), ("TMPDIR", "/tmp"), ("TWO", "a\nb=c")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let command = Command { argv: vec!["env".into(), "-0".into()], ..bash("") }.env(env.into());
    let output = sandbox.run(&command).await?;
    let mut lines: Vec<String> = text(&output).split_terminator('\0').map(Into::into).collect();
    lines.sort_unstable();
    same("the environment", lines.join("|"), "A=1|PATH=/usr/bin:/bin|TMPDIR=/tmp|TWO=a\nb=c".into())?;
    let workdir = sandbox.workdir().to_owned();
    for folder in ["/usr/bin", &workdir] {
        let output = sandbox.run(&bash("pwd").cwd(folder)).await?;
        same("the working directory", text(&output), format!("{folder}\n"))?;
    }
    still_answers(sandbox).await
}

/// Standard input is at its end, and there is no terminal.
pub async fn standard_input_is_empty(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let output = sandbox.run(&bash("cat | wc -c; tty; [ -t 1 ] || echo none; : > /dev/tty")).await?;
    let printed = text(&output);
    holds(printed.starts_with("0\nnot a tty\nnone\n"), || format!("it printed {printed}"))?;
    holds(output.end != CommandEnd::Exited(0), || "there is a terminal".into())?;
    still_answers(sandbox).await
}

/// Output is bytes; the streams come in order, merged or apart.
pub async fn bytes_survive(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let script = r"printf '\xff\xfe\x00out\r\n'; printf '\x80err' >&2";
    let merged = sandbox.run(&bash(script)).await?;
    same("merged output", &merged.stdout[..], b"\xff\xfe\0out\r\n\x80err")?;
    let apart = sandbox.run(&bash(script).streams(Streams::Separate)).await?;
    same("output", &apart.stdout[..], b"\xff\xfe\0out\r\n")?;
    same("errors", &apart.stderr[..], b"\x80err")?;
    still_answers(sandbox).await
}

/// Command lines longer than the kernel takes as one argument run, and see themselves whole.
pub async fn long_commands_run(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    for length in [1_000, 200 << 10, 2 << 20] {
        let script = format!("x='{}'\necho ${{#x}}; exit 3", "é".repeat(length / 2));
        let output = sandbox.run(&bash(&format!("LC_ALL=C; {script}"))).await?;
        same("the end of a long command", output.end, CommandEnd::Exited(3))?;
        same("what it saw of itself", text(&output), format!("{}\n", length / 2 * 2))?;
    }
    still_answers(sandbox).await
}

/// A command that never stops printing is ended at its deadline; head and tail are kept, the rest is counted.
pub async fn endless_output_is_cut(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let command = bash("echo head; yes").output_cap(1_000).timeout(Duration::from_secs(1));
    let output = sandbox.run(&command).await?;
    same("its end", output.end, CommandEnd::TimedOut)?;
    same("its kept length and gap", (output.stdout.len(), output.stdout_gap), (1_000, Some(500)))?;
    holds(output.stdout.starts_with(b"head\ny\ny\n"), || "the head is not what came first".into())?;
    holds(output.stdout_dropped > 1 << 20, || format!("only {} bytes dropped", output.stdout_dropped))?;
    let tail = sandbox.run(&bash("seq 1 100000; echo tail").output_cap(64)).await?;
    holds(tail.stdout.ends_with(b"\n100000\ntail\n"), || format!("the tail is {}", text(&tail)))?;
    still_answers(sandbox).await
}

/// A line of a gigabyte passes through bounded memory.
pub async fn long_lines_are_cut(subject: &Subject<'_>) -> Shown {
    const LINE: u64 = 1 << 30;
    const MOST_GUEST_KB: u64 = 64 << 10;
    let mut sandbox = subject.start().await?;
    let script = format!("head -c {LINE} /dev/zero | tr '\\0' x; grep VmHWM /proc/$PPID/status");
    let output = sandbox.run(&bash(&script).output_cap(4_096)).await?;
    let printed = text(&output);
    let (line, peak) = printed.split_once("VmHWM:").unwrap_or((&printed, ""));
    holds(line.bytes().all(|byte| byte == b'x'), || "the line is not what was printed".into())?;
    same("the line's length", line.len() as u64 + output.stdout_dropped, LINE)?;
    let peak: u64 = peak.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    holds(peak < MOST_GUEST_KB, || format!("the guest took {peak} kB of memory"))?;
    still_answers(sandbox).await
}

/// A background process lives on to later commands, although it holds its command's output; it is neither blocked nor
/// ended by writing there.
pub async fn background_outlives_its_command(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let workdir = sandbox.workdir().to_owned();
    let script =
        "(until [ -e go ]; do sleep 0.01; done; seq 1 100000; echo done > flag; sleep 1000) & echo started";
    let output = sandbox.run(&bash(script).cwd(&workdir)).await?;
    same("its command", (output.end, text(&output)), (CommandEnd::Exited(0), "started\n".into()))?;
    let script = "touch go; until [ -s flag ]; do sleep 0.01; done; cat flag";
    let output = sandbox.run(&bash(script).cwd(&workdir)).await?;
    same("a later command", (output.end, text(&output)), (CommandEnd::Exited(0), "done\n".into()))?;
    sandbox.kill_all().await?;
    still_answers(sandbox).await
}

/// At the deadline everything that the command started is gone, also what has a session of its own.
pub async fn deadline_kills_descendants(subject: &Subject<'_>) -> Shown {
    let mut sandbox = subject.start().await?;
    let workdir = sandbox.workdir().to_owned();
    let script = "trap '' TERM INT HUP; sleep 1000 & echo $! >> pids
        setsid bash -c 'sleep 1000 & echo $! >> pids; wait' & bash -c 'sleep 1000 & echo $! >> pids'
        until [ $(wc -l < pids) = 3 ]; do sleep 0.01; done; echo begun; wait";
    let output = sandbox.run(&bash(script).cwd(&workdir).timeout(Duration::from_secs(3))).await?;
    same("the command", (output.end, text(&output)), (CommandEnd::TimedOut, "begun\n".into()))?;
    let script = "for pid in $(cat pids); do [ -e /proc/$pid ] && echo $pid; done; wc -l < pids";
    let output = sandbox.run(&bash(script).cwd(&workdir)).await?;
    same("what is alive of three", text(&output), "3\n".into())?;
    still_answers(sandbox).await
}
