//! Sandboxes that are none: a plain process in a folder of its own, for machines that refuse namespaces.
//!
//! The secret of this module is what little can be had without them: a process group and a subreaper, so that ending
//! a sandbox ends what it started; limits per process; and Landlock, where the kernel has it, so that only the own
//! folder can be written and the machine's data cannot be read. The record says `isolation = none` all the same.
//!
//! The root cannot be changed. The working directory asked for is made below the sandbox's folder, and
//! [`Sandbox::workdir`] tells where it is.

mod folder;
mod stray;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_guest::launch::{Isolation, LANDLOCK, Limit, Plain, Plan};
use tokio::sync::Mutex;

use crate::embedded::host_view::{CONFIGURATION, PROGRAMS};
use crate::embedded::launcher::{Launcher, os};
use crate::embedded::live::Live;
use crate::embedded::{blocking, node, plan};
use crate::guest::Teardown;
use crate::{Backend, Lease, Prepared, Sandbox, SandboxError, SandboxSpec, StartOptions, guest};
use folder::Folder;

/// Folder of all sandboxes' folders, below the data folder.
const FOLDER: &str = "process";

/// Readable beside programs and their configuration: what tells about processes and processors. Not `/dev`, which has
/// the machine's disks, and of `/etc` only what names no secret.
const READABLE: [&str; 7] =
    ["/proc", "/sys", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"];

/// Devices without content of their own.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// How a [`Process`] backend is set up.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// Folder for the sandboxes' folders; must allow programs to be run. Processes may share it.
    pub data: PathBuf,
    /// Run and process that the sandboxes belong to.
    pub start: StartOptions,
}

/// Starts plain processes.
pub struct Process {
    data: PathBuf,
    guest: PathBuf,
    live: Arc<Live>,
    names: AtomicU64,
}

impl Process {
    /// Gets ready.
    ///
    /// # Errors
    /// [`SandboxError::Os`] if the data folder cannot be used.
    pub fn open(options: ProcessOptions) -> Result<Self, SandboxError> {
        let ProcessOptions { data, start: StartOptions { run: _, incarnation } } = options;
        let made = std::fs::create_dir_all(data.join(FOLDER)).and_then(|()| data.canonicalize());
        let data = made.map_err(|error| os(&format!("open {}", data.display()), error))?;
        let live = Live::claim(&data, &incarnation).map_err(|error| os("claim the data folder", error))?;
        let guest = guest::install(&data.join("guest")).map_err(|error| os("install the guest", error))?;
        Ok(Self { data, guest, live: Arc::new(live), names: AtomicU64::new(0) })
    }

    fn folder(&self, spec: &SandboxSpec) -> Result<Folder, SandboxError> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{number}", self.live.name());
        let made = Folder::make(self.data.join(FOLDER).join(name), &spec.workdir);
        made.map_err(|error| os("make the sandbox's folder", error))
    }
}

#[async_trait]
impl Backend for Process {
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError> {
        match image {
            ImageRef::Host => Ok(Prepared {
                image: ImageRef::Host,
                digest: String::new(),
                handle: String::new(),
                env: BTreeMap::new(),
                pulled_bytes: 0,
                lease: Lease::default(),
            }),
            ImageRef::Registry(reference) => Err(SandboxError::Unsupported(format!(
                "image {reference} needs a root file system of its own: use the docker or the embedded backend"
            ))),
        }
    }

    async fn derived(&self, _base: &Prepared, _key: &str) -> Result<Option<Prepared>, SandboxError> {
        Ok(None)
    }

    /// Always refused: without a root file system of its own there is nothing to keep.
    async fn derive(&self, sandbox: Sandbox, _base: &Prepared, _key: &str) -> Result<Prepared, SandboxError> {
        sandbox.close().await?;
        Err(SandboxError::Unsupported(
            "plain processes have no layers: use the docker or the embedded backend".into(),
        ))
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        let folder = self.folder(spec)?;
        let (workdir, temporary) = (folder.workdir().to_owned(), folder.temporary());
        let plan = Plan { isolation: Isolation::Plain(plain(&folder)), limits: limits(&spec.limits) };
        let (launcher, stream) = match Launcher::start(&self.guest, &plan).await {
            Ok(started) => started,
            Err(error) => {
                folder.remove();
                return Err(error);
            }
        };
        let launcher = Arc::new(Mutex::new(launcher));
        let hold = Hold { name: workdir.clone(), launcher: launcher.clone() };
        match Sandbox::attach(stream.output, stream.input, identity(spec), Box::new(hold)).await {
            Ok(sandbox) => {
                let landlock = landlock(&launcher.lock().await.said());
                let defaults = BTreeMap::from([("TMPDIR".to_owned(), temporary)]);
                let sandbox = sandbox.with_workdir(&workdir).with_defaults(defaults);
                Ok(sandbox.with_deviations(deviations(spec, &workdir, &landlock)))
            }
            Err(error) => Err(launcher.lock().await.failure().await.unwrap_or(error)),
        }
    }

    async fn evidence(&self) -> Option<SandboxError> {
        node::full_disk(&self.data)
    }

    async fn reap(&self) -> Result<usize, SandboxError> {
        let data = self.data.clone();
        blocking(move || Ok(stray::reap(&data, FOLDER))).await
    }
}

/// What the launcher said about Landlock; it said so before the guest answered.
fn landlock(said: &str) -> String {
    said.lines().find_map(|line| line.strip_prefix(LANDLOCK)).unwrap_or("unknown").to_owned()
}

/// The sandbox's hold on its launcher, which ends everything and removes the folder when it is let go.
struct Hold {
    name: String,
    launcher: Arc<Mutex<Launcher>>,
}

#[async_trait]
impl Teardown for Hold {
    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        self.launcher.lock().await.end().await
    }

    fn handle(&self) -> &str {
        &self.name
    }
}

fn plain(folder: &Folder) -> Plain {
    Plain {
        folder: folder.path().to_owned(),
        workdir: PathBuf::from(folder.workdir()),
        capabilities: plan::capability_mask(),
        readable: readable(),
        writable: DEVICES.iter().map(PathBuf::from).chain([folder.path().to_owned()]).collect(),
    }
}

fn readable() -> Vec<PathBuf> {
    let programs = PROGRAMS.iter().map(|name| Path::new("/").join(name));
    let configuration = CONFIGURATION.iter().map(|name| Path::new("/etc").join(name));
    programs.chain(configuration).chain(READABLE.iter().map(PathBuf::from)).collect()
}

/// No limit on processes: it counts all of the user's on the machine, and does not bind root.
fn limits(limits: &LimitsSpec) -> Vec<Limit> {
    let bytes = |mib: u64| (mib > 0).then_some(mib << 20);
    let core = Some(Limit::Core(0));
    let list = [core, bytes(limits.memory_mb).map(Limit::Data), bytes(limits.disk_mb).map(Limit::FileSize)];
    list.into_iter().flatten().collect()
}

fn identity(spec: &SandboxSpec) -> SandboxIdentity {
    SandboxIdentity {
        backend: "process".into(),
        isolation: "none".into(),
        image_ref: spec.prepared.image.to_string(),
        agent_network: plan::network_word(Network::Full).into(),
        kernel: node::kernel(),
        ..SandboxIdentity::default()
    }
}

fn deviations(spec: &SandboxSpec, workdir: &str, landlock: &str) -> Vec<String> {
    let mut list = vec![
        "no isolation: processes, users and network are the machine's".to_owned(),
        "memory and file size are limited per process; processes, processors and disk are not limited"
            .to_owned(),
        format!("landlock: {landlock}"),
    ];
    if Path::new(&spec.workdir) != Path::new(workdir) {
        list.push(format!("the working directory {} stands below a folder of its own", spec.workdir));
    }
    if spec.network == Network::None {
        list.push("the network is open although none was asked for".to_owned());
    }
    list
}
