//! This test program again, as root of a container that has no privileges, as a worker's pod has none.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const IMAGE: &str = "thresher-test/embedded:2";

/// Name of the variable that holds the only isolation that the tests inside are to find.
pub(crate) const ISOLATION: &str = "THRESHER_TEST_ISOLATION";

/// Where the data folder of the tests inside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// In memory, as an emptyDir with `medium: Memory` is.
    Memory,
    /// On a volume, as an emptyDir is.
    Volume,
    /// Among the container's own files.
    Own,
}

/// Makes the image of the containers: this machine's links to its programs, which are shown inside. Says why it is
/// skipped where there is no Docker, or one that does not see this machine's files.
pub(crate) fn is_possible() -> bool {
    let mut import = Command::new("docker");
    import.args(["import", "-", IMAGE]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let imported = import.spawn().and_then(|mut child| {
        let mut archive = tar::Builder::new(child.stdin.take().unwrap());
        fill(&mut archive)?;
        drop(archive.into_inner()?);
        child.wait()
    });
    if !imported.is_ok_and(|status| status.success()) {
        println!("skipped: there is no Docker here to make a container with");
        return false;
    }
    let seen = run(&[], Data::Own, &["/program", "--list"]);
    if !seen.status.success() {
        println!("skipped: containers cannot run this test program: {}", words(&seen));
    }
    seen.status.success()
}

fn fill<W: std::io::Write>(archive: &mut tar::Builder<W>) -> std::io::Result<()> {
    for name in ["data", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if matches!(name, "data" | "tmp") { 0o1777 } else { 0o755 });
        header.set_size(0);
        archive.append_data(&mut header, name, std::io::empty())?;
    }
    for name in programs().filter(|name| Path::new("/").join(name).is_symlink()) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, fs::read_link(Path::new("/").join(name))?)?;
    }
    archive.finish()
}

fn programs() -> impl Iterator<Item = &'static str> {
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"].into_iter()
}

/// Runs a command in a container; `options` are the engine's.
pub(crate) fn run(options: &[&str], data: Data, command: &[&str]) -> Output {
    let program = std::env::current_exe().unwrap();
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--network", "none", "-e", "TMPDIR=/data", "-w", "/"]);
    docker.args(["-v", &format!("{}:/program:ro", program.display())]);
    let folders = programs().map(|name| format!("/{name}")).filter(|path| Path::new(path).is_dir());
    let folders = folders.filter(|path| !Path::new(path).is_symlink());
    let shown = folders.chain(["/etc/alternatives", "/etc/ld.so.cache"].map(str::to_owned));
    for path in shown.filter(|path| Path::new(path).exists()) {
        docker.args(["-v", &format!("{path}:{path}:ro")]);
    }
    match data {
        Data::Memory => docker.args(["--tmpfs", "/data:exec,mode=1777"]),
        Data::Volume => docker.args(["-v", "/data"]),
        Data::Own => &mut docker,
    };
    docker.args(options).arg(IMAGE).args(command).output().unwrap()
}

/// Everything that it printed.
pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
