//! What the guest answers. Any change here goes with a new [`crate::PROTOCOL_VERSION`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    /// [`crate::PROTOCOL_VERSION`] of the guest.
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
    /// Killed at its deadline or by [`crate::Request::Cancel`].
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
