//! What the host asks. Any change here goes with a new [`PROTOCOL_VERSION`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Version of the protocol; both sides say theirs in the hello and must agree.
pub const PROTOCOL_VERSION: u32 = 2;

/// From the host to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Begins an operation.
    Start {
        /// Chosen by the host, never reused within a stream.
        id: u32,
        /// What to do.
        operation: Operation,
        /// Bytes that follow as [`Request::Body`].
        body: u64,
    },
    /// The next piece of the announced body.
    Body(Bytes),
    /// Ends the running command as its deadline would. Ignored where `id` is no longer under way.
    Cancel {
        /// The command's request.
        id: u32,
    },
}

/// What the guest can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Agrees on the version: the first operation of every stream.
    Hello {
        /// [`PROTOCOL_VERSION`] of the host.
        version: u32,
    },
    /// Runs a command. Body: a [`CommandBody`]. Answer: standard output, then standard error as body, and a
    /// [`crate::RunReport`].
    Run {
        /// Milliseconds until it is killed.
        timeout_ms: u64,
        /// Bytes kept per stream.
        output_cap: u64,
        /// Whether both streams are one.
        merged: bool,
    },
    /// Reads a file. Answer: its content as body.
    Read {
        /// Path.
        path: String,
        /// Largest size in bytes.
        limit: u64,
    },
    /// Writes a file whole or not at all. Body: its content.
    Write {
        /// Path; missing parents are created.
        path: String,
        /// Mode of the file.
        mode: WriteMode,
    },
    /// Creates or replaces a symbolic link.
    Symlink {
        /// Path; missing parents are created.
        path: String,
        /// What it points to.
        target: Bytes,
    },
    /// Removes a file, a link or a whole folder; absence is fine.
    Remove {
        /// Path.
        path: String,
    },
    /// Says what is at a path, following links.
    Stat {
        /// Path.
        path: String,
    },
    /// Lists a folder, sorted. Answer: [`crate::Entry`] items as body.
    List {
        /// The folder.
        path: String,
        /// 1 lists only the folder's own entries.
        max_depth: u32,
        /// Whether names that begin with a dot are skipped.
        skip_hidden: bool,
        /// Entries at most.
        max_entries: u64,
    },
    /// Finds plain text. Answer: [`crate::Hit`] items as body.
    Search {
        /// Folder or file.
        path: String,
        /// The text.
        needle: String,
        /// Only files whose name ends so.
        suffix: String,
        /// Files reported at most.
        max_files: u64,
        /// Whether names that begin with a dot are skipped.
        skip_hidden: bool,
    },
    /// Hashes a work tree. Answer: [`crate::SnapshotItem`] items as body, sorted by path.
    Snapshot {
        /// The work tree.
        root: String,
    },
    /// Reads many files. Body: path items ([`Bytes`]). Answer: their contents as [`Bytes`]-like items (length and
    /// bytes) as body, in the same order.
    ReadMany {
        /// Folder that the paths are relative to.
        root: String,
        /// Largest sum of sizes in bytes.
        limit: u64,
    },
    /// Reads a folder out. Answer: a tar as body.
    Archive {
        /// The folder.
        path: String,
        /// Largest tar in bytes.
        limit: u64,
    },
    /// Puts a tar's content into a folder. Body: the tar.
    Unarchive {
        /// The folder; created if absent.
        path: String,
    },
    /// Kills every process but the guest and returns when they are gone.
    KillAll,
    /// Says which variables the guest itself was started with: those of the image, where an engine started it.
    /// Answer: pairs of [`Bytes`], name and value, as body.
    Environ,
}

/// Program, arguments and surroundings of a command: the body of [`Operation::Run`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBody {
    /// Program and arguments; a program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<Bytes>,
    /// The whole environment.
    pub env: Vec<(Bytes, Bytes)>,
    /// Working directory.
    pub cwd: Bytes,
    /// A script that the program gets on a descriptor, its path appended to `argv`.
    pub script: Option<Bytes>,
}

/// Mode of a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteMode {
    /// 0644.
    Plain,
    /// 0755.
    Executable,
    /// As it was, with its owner; 0644 for a new file.
    Keep,
}
