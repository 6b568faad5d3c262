//! What the launcher is told, as plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A sandbox to be launched. Travels as a little-endian `u32` length and that many bytes of postcard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How it is set apart from the machine.
    pub isolation: Isolation,
    /// Limits per process, never above what the launcher itself has.
    pub limits: Vec<Limit>,
}

/// How a sandbox is set apart from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Isolation {
    /// By namespaces and a root file system of its own.
    Namespaces(Namespaces),
    /// Not at all: a process group in its own folder.
    Plain(Plain),
}

/// Everything about a sandbox in namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Whose user ids hold inside.
    pub users: Users,
    /// In a user namespace: the id outside that root inside has, with the [`IDS`] that follow it. With 0 root inside is
    /// the launcher's own user.
    pub first_id: u32,
    /// Its network.
    pub network: NetworkNamespace,
    /// Its host name.
    pub hostname: String,
    /// An empty folder to mount on, seen only by the sandbox itself.
    pub mount_point: PathBuf,
    /// Where the root file system comes from.
    pub root: Root,
    /// Bytes that may be written; they are kept in memory.
    pub disk_bytes: u64,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// How `/proc` comes about.
    pub proc: ProcMount,
    /// Whether a read-only `/sys` is mounted where the kernel lets us.
    pub sysfs: bool,
    /// Folders of the machine shown inside, read-only.
    pub binds: Vec<Bind>,
    /// Folders that must exist inside, parents first.
    pub folders: Vec<Folder>,
    /// Symbolic links to be made inside where nothing has the name.
    pub links: Vec<Link>,
    /// Files written inside, replacing what has the name.
    pub files: Vec<SmallFile>,
    /// Working directory, made if absent.
    pub workdir: String,
    /// Capabilities kept of those that the launcher has, as a bit mask.
    pub capabilities: u64,
    /// Cgroups to make and join.
    pub cgroups: Vec<Cgroup>,
}

/// User and group ids that exist in a user namespace with ids of its own: enough for all but invented ones.
pub const IDS: u32 = 1 << 24;

/// Whose user ids hold inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Users {
    /// The machine's: needs `CAP_SYS_ADMIN`.
    Host,
    /// Those of a user namespace: root inside is [`Namespaces::first_id`] outside.
    Namespace,
}

/// The sandbox's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// Loopback only.
    Own,
    /// The machine's.
    Host,
}

/// How `/proc` comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcMount {
    /// A mount of its own that shows the sandbox's processes only.
    Fresh,
    /// The outer container's, read-only: for places where the kernel refuses a fresh one because the outer one is
    /// partly masked.
    Outer,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// An empty one.
    Empty,
    /// An overlay over layers.
    Layers {
        /// Folder that holds the layers.
        folder: PathBuf,
        /// Their names in it, topmost first.
        names: Vec<String>,
    },
}

/// A folder or file of the machine shown inside, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Outside.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: String,
}

/// A folder inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Absolute.
    pub path: String,
    /// Permission bits where it has to be made.
    pub mode: u32,
}

/// A symbolic link inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Absolute.
    pub path: String,
    /// What it points to.
    pub target: String,
}

/// A small file inside, 0644.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallFile {
    /// Absolute.
    pub path: String,
    /// Content.
    pub content: Vec<u8>,
}

/// A cgroup of the sandbox's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its folder; the parent exists.
    pub folder: PathBuf,
    /// File names in it and what is written there.
    pub settings: Vec<(String, String)>,
    /// How it is joined.
    pub join: Join,
}

/// How a cgroup is joined. Writing `cgroup.procs` would take a machine-wide lock for 5 to 15 ms; neither way here does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// Version 1: the single thread writes itself to `tasks`.
    Tasks,
    /// Version 2: the first process is born there. At most one.
    Birth,
}

/// A plain process in its own folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// The sandbox's own folder, removed at its end.
    pub folder: PathBuf,
    /// Working directory of the guest.
    pub workdir: PathBuf,
    /// Capabilities kept of those that the launcher has, as a bit mask.
    pub capabilities: u64,
    /// Folders of the machine that may be read and executed, where the kernel has Landlock.
    pub readable: Vec<PathBuf>,
    /// Folders and devices that may also be written.
    pub writable: Vec<PathBuf>,
}

/// A limit per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Bytes of core dumps.
    Core(u64),
    /// Open files.
    OpenFiles(u64),
    /// Processes of the user; the kernel does not apply it to the machine's root.
    Processes(u64),
    /// Bytes of private writable memory.
    Data(u64),
    /// Bytes of the largest file.
    FileSize(u64),
}
