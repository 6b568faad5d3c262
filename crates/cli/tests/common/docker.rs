//! A Docker daemon of a test's own, to be killed and started again, and a small image in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bollard::query_parameters::{
    CreateImageOptions, ListContainersOptions, ListImagesOptions, RemoveImageOptions,
};
use futures::TryStreamExt as _;
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;

use super::{eventually, row};

/// Programs of the image.
const PROGRAMS: &[&str] = &[
    "bash", "sh", "perl", "cat", "chmod", "cp", "env", "find", "grep", "head", "id", "ln", "ls", "mkdir",
    "mv", "rm", "sed", "sleep", "sort", "tar", "touch", "tr", "true", "uname", "wc",
];
/// Reference of the image.
pub(crate) const IMAGE: &str = "thresher-test/answer:1";
const DOCKERD: &str = "/usr/sbin/dockerd";

/// The daemon. It ends when dropped, with everything that it started.
pub(crate) struct Daemon {
    process: Child,
    folder: tempfile::TempDir,
    runtime: Runtime,
}

impl Daemon {
    /// Starts one that has [`IMAGE`]; `None`, said on standard error, where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new(DOCKERD).exists() {
            eprintln!("skipped: a Docker daemon of the test's own needs root and {DOCKERD}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let daemon = Self { process: spawn(folder.path()), folder, runtime: Runtime::new().unwrap() };
        daemon.answers();
        daemon.import();
        Some(daemon)
    }

    /// The form of `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same data.
    pub(crate) fn start_again(&mut self) {
        // Its containerd died with it, but where nobody collects orphans its process id still looks alive.
        drop(std::fs::remove_file(self.folder.path().join("exec/containerd/containerd.pid")));
        self.process = spawn(self.folder.path());
        self.answers();
    }

    /// Takes every name off every image, and removes those that no container uses.
    pub(crate) fn remove_images(&self) {
        self.runtime.block_on(async {
            let client = self.client();
            let all = ListImagesOptions { all: true, ..ListImagesOptions::default() };
            for image in client.list_images(Some(all)).await.unwrap() {
                for name in image.repo_tags {
                    let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
                    // A name may have gone together with another one.
                    drop(client.remove_image(&name, Some(options), None).await);
                }
            }
        });
    }

    /// Names of all containers, in any state.
    pub(crate) fn containers(&self) -> Vec<String> {
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let containers = self.runtime.block_on(self.client().list_containers(Some(all))).unwrap();
        containers.into_iter().flat_map(|container| container.names.unwrap_or_default()).collect()
    }

    fn client(&self) -> bollard::Docker {
        self.connect().unwrap()
    }

    fn connect(&self) -> Option<bollard::Docker> {
        bollard::Docker::connect_with_unix(&self.host(), 120, bollard::API_DEFAULT_VERSION).ok()
    }

    fn answers(&self) {
        eventually("the daemon answers", || {
            let client = self.connect()?;
            self.runtime.block_on(client.ping()).ok()
        });
    }

    fn import(&self) {
        let (repo, tag) = IMAGE.split_once(':').unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo.into()),
            tag: Some(tag.into()),
            changes: vec!["CMD [\"bash\"]".into()],
            ..CreateImageOptions::default()
        };
        self.runtime.block_on(async {
            let client = self.client();
            let body = bollard::body_full(root_file_system().into());
            client.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.unwrap();
        });
    }
}

impl Drop for Daemon {
    /// Ends it in order, then what a killed one left: all that has the folder's unique name on its command line, and
    /// every mount below it.
    fn drop(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.process), Signal::TERM).ok();
        drop(self.process.wait());
        let folder = self.folder.path().to_str().unwrap().to_owned();
        for pid in processes(&folder) {
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.starts_with(&folder)).collect::<Vec<_>>().into_iter().rev() {
            rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
        }
    }
}

/// Processes of the machine, those in containers too, that have a text on their command line.
pub(crate) fn processes(text: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_text = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    numbers.filter(has_text).filter_map(Pid::from_raw).collect()
}

fn spawn(folder: &Path) -> Child {
    let path = |name: &str| folder.join(name).into_os_string();
    // In a network namespace of its own: a daemon without a bridge removes `docker0`, also another daemon's.
    let mut daemon = Command::new("unshare");
    daemon.args(["--net", "--", DOCKERD]);
    daemon.arg("--host").arg(format!("unix://{}", folder.join("docker.sock").display()));
    daemon.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
    daemon.arg("--pidfile").arg(path("docker.pid"));
    daemon.args(["--bridge", "none", "--iptables=false", "--ip-masq=false"]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The small tasks' repository, with shell and usual tools of this machine and the libraries that they need.
fn root_file_system() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in
        ["usr", "usr/bin", "usr/lib", "usr/lib64", "etc", "root", "proc", "sys", "dev", "tmp", "testbed"]
    {
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), folder, std::io::empty()).unwrap();
    }
    for folder in ["bin", "lib", "lib64"] {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, folder, format!("usr/{folder}")).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/bash\n".to_owned();
    let texts = row::files().map(|(path, content)| (format!("testbed/{path}"), content));
    for (path, content) in texts.into_iter().chain([("etc/passwd".to_owned(), passwd)]) {
        append(&mut tar, &path, 0o644, content.as_bytes());
    }
    let programs = PROGRAMS.iter().map(|name| Path::new("/usr/bin").join(name)).filter(|path| path.exists());
    // By the path inside: a library is named below `/lib` and below `/usr/lib`.
    let files: BTreeMap<_, _> = programs.flat_map(|program| with_libraries(&program)).map(inside).collect();
    for (path, file) in files {
        append(&mut tar, &path, 0o755, &std::fs::read(file).unwrap());
    }
    tar.into_inner().unwrap()
}

fn with_libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    libraries.chain([program.to_owned()]).filter(|path| path.exists()).collect()
}

/// A file's path in the image, below `usr` as its links have it, and the file.
fn inside(file: PathBuf) -> (String, PathBuf) {
    let path = file.to_str().unwrap().trim_start_matches('/');
    let path = if path.starts_with("usr/") { path.to_owned() } else { format!("usr/{path}") };
    (path, file)
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}
