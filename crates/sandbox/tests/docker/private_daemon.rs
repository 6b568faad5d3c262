//! A daemon of the test's own, to be killed and started again without harm to any other.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use super::rig::eventually;

/// A dockerd with folders of its own; its containers, its containerd and itself end when it is dropped.
pub(crate) struct PrivateDaemon {
    process: Child,
    folder: tempfile::TempDir,
}

impl PrivateDaemon {
    /// `None`, said on standard error, where it cannot be had.
    pub(crate) async fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/dockerd").exists() {
            eprintln!("skipped: a private daemon needs root and /usr/sbin/dockerd");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let daemon = Self { process: spawn(folder.path()), folder };
        daemon.answers().await;
        Some(daemon)
    }

    /// The form of `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    pub(crate) fn client(&self) -> bollard::Docker {
        bollard::Docker::connect_with_unix(&self.host(), 120, bollard::API_DEFAULT_VERSION).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same data.
    pub(crate) async fn start_again(&mut self) {
        // Its containerd died with it. Where nobody collects orphans, that process id still looks alive, and the
        // daemon would wait for it.
        drop(std::fs::remove_file(self.folder.path().join("exec/containerd/containerd.pid")));
        self.process = spawn(self.folder.path());
        self.answers().await;
    }

    async fn answers(&self) {
        let socket = self.host();
        eventually("the private daemon answers", || async {
            let client = bollard::Docker::connect_with_unix(&socket, 5, bollard::API_DEFAULT_VERSION);
            match client {
                Ok(client) => client.ping().await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }
}

impl Drop for PrivateDaemon {
    /// Ends it in order, then what a killed one left: everything that has the folder's unique name on its command line,
    /// and every mount below it.
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.process);
        rustix::process::kill_process(pid, Signal::TERM).ok();
        drop(self.process.wait());
        let folder = self.folder.path().to_str().unwrap();
        for pid in processes_of(folder) {
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with(folder));
        for point in points.collect::<Vec<_>>().into_iter().rev() {
            rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
        }
    }
}

fn processes_of(folder: &str) -> Vec<Pid> {
    let numbers = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    };
    numbers.filter(ours).filter_map(Pid::from_raw).collect()
}

fn spawn(folder: &Path) -> Child {
    let path = |name: &str| folder.join(name).into_os_string();
    // In a network namespace of its own: a daemon without a bridge removes `docker0`, also another daemon's.
    let mut daemon = Command::new("unshare");
    daemon.args(["--net", "--", "/usr/sbin/dockerd"]);
    daemon.arg("--host").arg(format!("unix://{}", folder.join("docker.sock").display()));
    daemon.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
    daemon.arg("--pidfile").arg(path("docker.pid"));
    daemon.args(["--bridge", "none", "--iptables=false", "--ip-masq=false"]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
