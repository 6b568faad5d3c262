//! The process backend on this machine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

#[path = "embedded/rig.rs"]
#[expect(dead_code, reason = "mounts and cgroups are the embedded backend's")]
mod rig;

use std::path::Path;

use thresher_core::task::ImageRef;
use thresher_sandbox::process::{Process, ProcessOptions};
use thresher_sandbox::{Backend, SandboxError, SandboxSpec, StartOptions};

use rig::{eventually, fails, is_running, mark, names, says, spec};

fn open(data: &Path) -> Process {
    Process::open(ProcessOptions { data: data.to_owned(), start: rig::start_options() }).unwrap()
}

async fn host_spec(backend: &Process) -> SandboxSpec {
    spec(backend.prepare(&ImageRef::Host).await.unwrap())
}

#[tokio::test]
async fn the_conformance_suite_holds() {
    let data = tempfile::tempdir().unwrap();
    rig::conforms(&open(data.path()), "none").await;
}

#[tokio::test]
async fn the_working_directory_stands_below_a_folder_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let backend = open(data.path());
    let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
    let workdir = sandbox.workdir().to_owned();
    assert!(workdir.starts_with(data.path().canonicalize().unwrap().to_str().unwrap()), "{workdir}");
    assert!(workdir.ends_with("/testbed"), "{workdir}");
    assert_eq!(says(&mut sandbox, "pwd").await, workdir);
    assert_eq!(says(&mut sandbox, "echo x > file; f=$(mktemp); echo y > $f; cat file $f").await, "x\ny");
    let identity = sandbox.identity().clone();
    assert_eq!((identity.backend.as_str(), identity.isolation.as_str()), ("process", "none"));
    assert!(identity.deviations.iter().any(|deviation| deviation.contains("/testbed")), "{identity:?}");
    sandbox.close().await.unwrap();
    assert_eq!(names(&data.path().join("process")), Vec::<String>::new());
}

#[tokio::test]
async fn landlock_keeps_the_machine_from_being_read_and_written() {
    let (data, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let backend = open(data.path());
    let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
    if !sandbox.identity().deviations.iter().any(|deviation| deviation.starts_with("landlock: files")) {
        return println!("skipped: {:?}", sandbox.identity().deviations);
    }
    let outside = outside.path().display().to_string();
    fails(&mut sandbox, &format!("cat {outside}/secret")).await;
    fails(&mut sandbox, &format!("echo x > {outside}/secret")).await;
    fails(&mut sandbox, &format!("echo x > {outside}/other")).await;
    for path in ["/root", "/home", "/etc/shadow", "/var", "/dev/kmsg"] {
        fails(&mut sandbox, &format!("if test -d {path}; then ls {path}; else head -c 1 {path}; fi")).await;
    }
    // One process outside, not -1: where signals are not restricted this would end the machine's.
    fails(&mut sandbox, &format!("kill -9 {}", std::process::id())).await;
    says(&mut sandbox, "sleep 100 & kill -9 $!; echo x > /dev/null").await;
    sandbox.close().await.unwrap();
}

#[tokio::test]
async fn closing_and_dropping_leave_nothing() {
    let data = tempfile::tempdir().unwrap();
    let backend = open(data.path());
    for (number, is_closed) in [(1, true), (2, false)] {
        let word = mark(number);
        let mut sandbox = backend.start(&host_spec(&backend).await).await.unwrap();
        says(&mut sandbox, &format!("(setsid sleep {word} >/dev/null 2>&1 &); echo x > file")).await;
        eventually("the process starts", || is_running(&word)).await;
        match is_closed {
            true => {
                sandbox.close().await.unwrap();
                assert!(!is_running(&word), "closing waits for the end");
            }
            false => drop(sandbox),
        }
        eventually("the processes end", || !is_running(&word)).await;
        eventually("the folder goes", || names(&data.path().join("process")).is_empty()).await;
    }
}

#[tokio::test]
async fn a_killed_runner_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let backend = open(data.path());
    let word = mark(90);
    let mut holder = rig::start_holder(data.path(), &word);
    assert_eq!(backend.reap().await.unwrap(), 0, "a living runner's sandboxes are spared");
    eventually("the processes start", || is_running(&word)).await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the processes end", || !is_running(&word)).await;
    let launcher = data.path().canonicalize().unwrap().join("guest").display().to_string();
    eventually("the launchers end", || !is_running(&launcher)).await;
    backend.reap().await.unwrap();
    assert_eq!(names(&data.path().join("process")), Vec::<String>::new());
    assert_eq!(names(&data.path().join("live")), [rig::start_options().incarnation]);
}

#[tokio::test]
async fn what_a_killed_launcher_left_is_reaped() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().canonicalize().unwrap().join("process/dead.0");
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    let word = mark(91);
    let mut stray =
        std::process::Command::new("sleep").arg(&word).env("TMPDIR", folder.join("tmp")).spawn().unwrap();
    let mut innocent = std::process::Command::new("sleep").arg(format!("{word}1")).spawn().unwrap();
    let backend = open(data.path());
    assert_eq!(backend.reap().await.unwrap(), 1);
    assert!(!stray.wait().unwrap().success());
    assert!(innocent.try_wait().unwrap().is_none());
    assert!(!folder.exists());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn images_and_layers_are_refused_with_a_remedy() {
    let data = tempfile::tempdir().unwrap();
    let backend = open(data.path());
    let error = backend.prepare(&ImageRef::Registry("ubuntu".into())).await.unwrap_err();
    assert!(matches!(&error, SandboxError::Unsupported(text) if text.contains("docker")), "{error}");
    let base = backend.prepare(&ImageRef::Host).await.unwrap();
    let sandbox = backend.start(&spec(base.clone())).await.unwrap();
    assert!(backend.derive(sandbox, &base, "key").await.is_err());
    assert_eq!(backend.derived(&base, "key").await.unwrap(), None);
}

/// Not a test in itself: what [`a_killed_runner_leaves_nothing`] kills.
#[tokio::test]
async fn holder() {
    let Some((data, word)) = rig::holder_arguments() else { return };
    let start = StartOptions { run: "test".into(), incarnation: format!("holder{word}") };
    let backend = Process::open(ProcessOptions { data: data.into(), start }).unwrap();
    rig::hold(&backend, &host_spec(&backend).await, &word).await;
}
