//! Commands: their ends, their output, their surroundings, their deadline.

use super::*;

#[tokio::test]
async fn a_command_runs_and_its_ends_are_told_apart() {
    let mut sandbox = plain().await;
    for (script, end, output) in [
        ("echo hello; echo world >&2", CommandEnd::Exited(0), "hello\nworld\n"),
        ("exit 7", CommandEnd::Exited(7), ""),
        ("exit 255", CommandEnd::Exited(255), ""),
        ("kill -9 $$", CommandEnd::Signaled(9), ""),
        ("kill -TERM $$", CommandEnd::Signaled(15), ""),
        ("cat", CommandEnd::Exited(0), ""),
        // Nothing is blocked or ignored: `yes` dies of SIGPIPE, as it does in a shell.
        ("yes | head -n 1; echo ${PIPESTATUS[0]}", CommandEnd::Exited(0), "y\n141\n"),
        ("ulimit -c; umask; tty", CommandEnd::Exited(1), "0\n0022\nnot a tty\n"),
    ] {
        let got = sandbox.run(&bash(script)).await.unwrap();
        assert_eq!((got.end, &got.stdout[..]), (end, output.as_bytes()), "{script}");
        assert_eq!((got.stdout_dropped, got.stdout_gap, got.stderr.len()), (0, None, 0), "{script}");
    }
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    const NOT_FOUND: i32 = 2;
    const DENIED: i32 = 13;
    const INVALID: i32 = 22;
    let mut sandbox = plain().await;
    let command = |argv: &[&str], cwd: &str| Command {
        argv: argv.iter().map(|argument| (*argument).into()).collect(),
        ..bash("").cwd(cwd)
    };
    for (argv, cwd, errno) in [
        (&["no-such-program"][..], "/", NOT_FOUND),
        (&["/no/such/program"], "/", NOT_FOUND),
        (&["true"], "/no/such/folder", NOT_FOUND),
        (&["/etc/passwd"], "/", DENIED),
        (&[], "/", INVALID),
        (&[""], "/", NOT_FOUND),
        (&["true", "a\0b"], "/", INVALID),
    ] {
        let got = sandbox.run(&command(argv, cwd)).await.unwrap();
        assert_eq!(got.end, CommandEnd::NotStarted(errno), "{argv:?} in {cwd}");
    }
    assert_eq!(output(&mut sandbox, "echo still here").await, "still here");
}

#[tokio::test]
async fn environment_and_folder_are_exact() {
    let mut sandbox = plain().await;
    let env = [("A", "1"), ("EMPTY", ""), ("PATH", "/usr/bin:/bin"), ("SIGN", "a=b\nc")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let command = Command { argv: vec!["env".into(), "-0".into()], ..Command::bash("") };
    let got = sandbox.run(&command.env(env.into()).cwd("/usr")).await.unwrap();
    assert_eq!(&got.stdout[..], b"A=1\0EMPTY=\0PATH=/usr/bin:/bin\0SIGN=a=b\nc\0");
    let got = sandbox.run(&bash("pwd -P").cwd("/usr/bin")).await.unwrap();
    assert_eq!(&got.stdout[..], b"/usr/bin\n");
}

#[tokio::test]
async fn streams_are_merged_in_order_or_apart() {
    let mut sandbox = plain().await;
    let script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done";
    let merged = sandbox.run(&bash(script)).await.unwrap();
    assert_eq!(&merged.stdout[..], b"o1\ne1\no2\ne2\no3\ne3\n");
    let apart = sandbox.run(&bash(script).streams(Streams::Separate)).await.unwrap();
    assert_eq!((&apart.stdout[..], &apart.stderr[..]), (&b"o1\no2\no3\n"[..], &b"e1\ne2\ne3\n"[..]));
}

#[tokio::test]
async fn output_is_capped_to_head_and_tail() {
    let mut sandbox = plain().await;
    let command = bash("seq 1 200000; seq 1 100000 >&2").output_cap(1000).streams(Streams::Separate);
    let got = sandbox.run(&command).await.unwrap();
    let whole: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(got.stdout_gap, Some(500));
    assert_eq!(&got.stdout[..500], &whole.as_bytes()[..500]);
    assert_eq!(&got.stdout[500..], &whole.as_bytes()[whole.len() - 500..]);
    assert_eq!(got.stdout_dropped, whole.len() as u64 - 1000);
    assert!(got.stderr_dropped > 0 && got.stderr.ends_with(b"\n100000\n"));
}

#[tokio::test]
async fn bytes_and_long_scripts_survive() {
    let mut sandbox = plain().await;
    let got = sandbox.run(&bash(r"printf '\xff\x00\xfe\r\n'")).await.unwrap();
    assert_eq!(&got.stdout[..], b"\xff\x00\xfe\r\n");
    for length in [1000, 120_000, 300_000, 5_000_000] {
        let script = format!(": '{}'\necho ok; exit 3", "x".repeat(length));
        let got = sandbox.run(&bash(&script)).await.unwrap();
        assert_eq!((got.end, &got.stdout[..]), (CommandEnd::Exited(3), &b"ok\n"[..]), "{length}");
    }
    // An argument over the kernel's limit is the caller's error, not the guest's.
    let long = Command { argv: vec!["true".into(), "x".repeat(3 << 20)], ..bash("") };
    assert_eq!(sandbox.run(&long).await.unwrap().end, CommandEnd::NotStarted(7));
    assert_eq!(output(&mut sandbox, "echo ok").await, "ok");
}

#[tokio::test]
async fn children_inherit_nothing_of_the_guest() {
    let mut sandbox = plain().await;
    // `ls` itself opens descriptor 3 for the folder.
    assert_eq!(output(&mut sandbox, "ls /proc/self/fd | tr '\\n' ' '").await, "0 1 2 3");
    assert_eq!(output(&mut sandbox, "readlink /proc/self/fd/0").await, "/dev/null");
    assert_eq!(
        output(&mut sandbox, "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | uniq").await,
        "0".repeat(16)
    );
    let names =
        output(&mut sandbox, "ps -o sid=,pgid=,pid= -p $$ | tr -s ' ' '\\n' | sort -u | grep -c .").await;
    assert_eq!(names, "1", "session, group and process are one");
    assert_eq!(output(&mut sandbox, "cat /proc/self/oom_score_adj").await, "1000");
}

#[tokio::test]
async fn the_deadline_ends_the_whole_family() {
    let folder = tempfile::tempdir().unwrap();
    let pids = text(&folder.path().join("pids"));
    let mut sandbox = plain().await;
    // A child, a grandchild in a session of its own, and an orphan in the command's session.
    let script = format!(
        "sleep 1000 & echo $! >> {pids}; setsid bash -c 'echo $$ >> {pids}; sleep 1000 & echo $! >> {pids}; wait' &
         bash -c 'sleep 1000 & echo $! >> {pids}'; until [ $(wc -l < {pids}) = 4 ]; do sleep 0.01; done; echo begun; wait"
    );
    let got = sandbox.run(&bash(&script).timeout(Duration::from_secs(2))).await.unwrap();
    assert_eq!((got.end, &got.stdout[..]), (CommandEnd::TimedOut, &b"begun\n"[..]));
    let alive = format!("for pid in $(cat {pids}); do kill -0 $pid 2>/dev/null && echo $pid; done; true");
    assert_eq!(output(&mut sandbox, &alive).await, "");
    let got = sandbox
        .run(&bash("trap '' TERM INT HUP; sleep 1000").timeout(Duration::from_millis(50)))
        .await
        .unwrap();
    assert_eq!(got.end, CommandEnd::TimedOut);
}

#[tokio::test]
async fn background_processes_outlive_their_command_and_are_never_blocked() {
    let folder = tempfile::tempdir().unwrap();
    let flag = text(&folder.path().join("flag"));
    let mut sandbox = plain().await;
    // Told apart from what other tests leave running.
    let seconds = format!("1000.{}", std::process::id());
    // It writes more than a pipe holds after its command ended, and says so afterwards.
    let script =
        format!("(read -t 0.2 < <(sleep 1); seq 1 100000 && touch {flag}; sleep {seconds}) & echo started");
    let got = sandbox.run(&bash(&script)).await.unwrap();
    assert!(got.stdout.starts_with(b"started\n"));
    output(&mut sandbox, &format!("until [ -e {flag} ]; do sleep 0.01; done")).await;
    assert_eq!(output(&mut sandbox, &format!("pgrep -xfc 'sleep {seconds}'")).await, "1");
    sandbox.kill_all().await.unwrap();
    let got = sandbox.run(&bash("ps -o pid= --ppid $PPID | wc -l")).await.unwrap();
    assert_eq!(&got.stdout[..], b"1\n", "only this command is left");
}

#[tokio::test]
async fn usage_is_reported() {
    let mut sandbox = plain().await;
    let got =
        sandbox.run(&bash("x=$(printf 'a%.0s' {1..300000}); for i in {1..20000}; do :; done")).await.unwrap();
    assert!(got.cpu > Duration::ZERO && got.wall >= got.cpu / 4, "{got:?}");
    assert!(got.max_rss > 1 << 20, "{got:?}");
}

#[tokio::test]
async fn closing_ends_every_descendant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut sandbox = plain().await;
    output(&mut sandbox, &format!("setsid sleep 1000 >/dev/null 2>&1 & echo $! > {}", text(&file))).await;
    let pid = std::fs::read_to_string(&file).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim());
    assert!(process.exists());
    sandbox.close().await.unwrap();
    // Its adoptive parent takes note of its death in its own time: until then it is a dead entry.
    for _ in 0..1_000 {
        let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return };
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} outlives the sandbox", process.display());
}

#[tokio::test]
async fn the_guest_keeps_no_descriptors() {
    let mut sandbox = plain().await;
    let pid = output(&mut sandbox, "echo $PPID").await;
    let folder = PathBuf::from("/proc").join(pid).join("fd");
    let Ok(before) = std::fs::read_dir(&folder).map(Iterator::count) else {
        // Only a privileged user may look at a process that is not dumpable: that is the point of it.
        println!("skipped: descriptors of the guest cannot be seen");
        return;
    };
    for script in ["true", "sleep 0.01 &", "exit 3"] {
        for streams in [Streams::Merged, Streams::Separate] {
            sandbox.run(&bash(script).streams(streams)).await.unwrap();
        }
    }
    sandbox.run(&bash(&format!(": {}", "x".repeat(200_000)))).await.unwrap();
    sandbox.kill_all().await.unwrap();
    // One more turn, in which pipes that are at their end are closed.
    output(&mut sandbox, "true").await;
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), before);
}

#[test]
fn a_sandbox_can_be_shared_between_threads() {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Sandbox>();
}
