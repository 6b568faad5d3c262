//! What the frames hold. Any change here goes with a new [`PROTOCOL_VERSION`].

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::FrameError;

/// Version of the protocol; both sides say theirs in the hello and must agree.
pub const PROTOCOL_VERSION: u32 = 1;

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

/// From the guest to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// A piece of the answer's body.
    Body {
        /// The request answered.
        id: u32,
        /// The bytes.
        bytes: Bytes,
    },
    /// The end of the answer.
    End {
        /// The request answered.
        id: u32,
        /// What came of it.
        outcome: Result<Answer, Failure>,
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
    /// [`RunReport`].
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
    /// Lists a folder, sorted. Answer: [`Entry`] items as body.
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
    /// Finds plain text. Answer: [`Hit`] items as body.
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
    /// Hashes a work tree. Answer: [`SnapshotItem`] items as body, sorted by path.
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

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The guest introduces itself.
    Hello(GuestInfo),
    /// A command ended.
    Ran(RunReport),
    /// Nothing to say.
    Done,
    /// Kind and size of what is at the path.
    Stat(Option<(EntryKind, u64)>),
}

/// What the guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// [`PROTOCOL_VERSION`] of the guest.
    pub version: u32,
    /// Its process id as it sees it.
    pub pid: u32,
    /// Whether others may read its memory and descriptors; must be false.
    pub dumpable: bool,
}

/// How a command ended and what it used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// Wall-clock time in microseconds.
    pub wall_us: u64,
    /// Processor time in microseconds, user and system, with waited-for children.
    pub cpu_us: u64,
    /// Largest resident set in bytes.
    pub max_rss: u64,
    /// Standard output, or both streams.
    pub stdout: StreamReport,
    /// Standard error; empty where merged.
    pub stderr: StreamReport,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Killed at its deadline or by [`Request::Cancel`].
    TimedOut,
    /// Not started: this `errno`.
    NotStarted(i32),
}

/// What was kept of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Bytes in the body.
    pub kept: u64,
    /// Bytes dropped from the middle.
    pub dropped: u64,
    /// Offset in the kept bytes at which they were dropped; only meaningful with `dropped`.
    pub gap: u64,
}

/// Kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Folder.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path relative to the listed folder.
    pub path: Bytes,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
}

/// Matches within one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Path.
    pub path: Bytes,
    /// First matching lines: number from 1 and text.
    pub lines: Vec<(u64, Bytes)>,
    /// All matching lines.
    pub count: u64,
}

/// A file of a work tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotItem {
    /// Path relative to the root.
    pub path: Bytes,
    /// Mode as git has it.
    pub mode: u32,
    /// git blob id.
    pub blob: [u8; 20],
    /// Size in bytes.
    pub size: u64,
}

/// An operation that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// The path concerned.
    pub path: String,
    /// For a person.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// There is no such file or folder.
    NotFound,
    /// It is there already.
    Exists,
    /// It is a folder.
    IsDirectory,
    /// It is no folder.
    NotADirectory,
    /// Not allowed.
    Denied,
    /// No space.
    NoSpace,
    /// Over the caller's limit.
    TooLarge,
    /// Anything else.
    Other,
}

/// Appends one item to a body that is a sequence of items.
pub fn put_item<T: Serialize>(item: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let bytes = postcard::to_stdvec(item).map_err(|error| FrameError::Malformed(error.to_string()))?;
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Takes one item from the front of a body that is a sequence of items; `None` at its end.
pub fn take_item<T: DeserializeOwned>(body: &mut &[u8]) -> Result<Option<T>, FrameError> {
    if body.is_empty() {
        return Ok(None);
    }
    let (item, rest) =
        postcard::take_from_bytes(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
    *body = rest;
    Ok(Some(item))
}
