//! The guest as a plain child process: everything that needs no isolation.

use std::process::Stdio;

use tokio::process::{Child, Command as Program};

use super::*;

/// A guest on this machine. Killed with the sandbox.
struct Plain {
    child: Child,
}

#[async_trait]
impl Teardown for Plain {
    async fn end(mut self: Box<Self>) -> Result<(), SandboxError> {
        // The stream is closed: the guest kills its descendants and exits by itself.
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "{status}");
        Ok(())
    }

    fn handle(&self) -> &str {
        "plain"
    }
}

async fn plain() -> Sandbox {
    static FOLDER: std::sync::LazyLock<tempfile::TempDir> =
        std::sync::LazyLock::new(|| tempfile::tempdir().unwrap());
    static GUEST: std::sync::LazyLock<std::path::PathBuf> =
        std::sync::LazyLock::new(|| install(FOLDER.path()).unwrap());
    let mut program = Program::new(&*GUEST);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    Sandbox::attach(reader, writer, SandboxIdentity::default(), Box::new(Plain { child })).await.unwrap()
}

fn bash(script: &str) -> Command {
    Command::bash(script).env([("PATH".into(), "/usr/bin:/bin".into())].into())
}

#[tokio::test]
async fn a_command_runs_and_its_ends_are_told_apart() {
    let mut sandbox = plain().await;
    for (script, end, output) in [
        ("echo hello; echo world >&2", CommandEnd::Exited(0), "hello\nworld\n"),
        ("exit 7", CommandEnd::Exited(7), ""),
        ("kill -9 $$", CommandEnd::Signaled(9), ""),
        ("cat", CommandEnd::Exited(0), ""),
    ] {
        let got = sandbox.run(&bash(script)).await.unwrap();
        assert_eq!((got.end, &got.stdout[..]), (end, output.as_bytes()), "{script}");
    }
    sandbox.close().await.unwrap();
}
