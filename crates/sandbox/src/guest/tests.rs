//! The guest as a plain child process: everything that needs no isolation.

mod commands;
mod files;
mod hostile;
mod speed;
mod trees;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use tokio::process::{Child, Command as Program};

use super::*;
use crate::spec::CommandEnd;

/// A guest on this machine.
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

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static GUEST: LazyLock<PathBuf> = LazyLock::new(|| install(FOLDER.path()).unwrap());

fn started() -> Child {
    let mut program = Program::new(&*GUEST);
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

async fn plain() -> Sandbox {
    let mut child = started();
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    Sandbox::attach(reader, writer, SandboxIdentity::default(), Box::new(Plain { child })).await.unwrap()
}

fn bash(script: &str) -> Command {
    Command::bash(script).env([("PATH".into(), "/usr/bin:/bin".into())].into())
}

async fn output(sandbox: &mut Sandbox, script: &str) -> String {
    let output = sandbox.run(&bash(script)).await.unwrap();
    assert_eq!(output.end, CommandEnd::Exited(0), "{script}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout.to_vec()).unwrap().trim_end().to_owned()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
