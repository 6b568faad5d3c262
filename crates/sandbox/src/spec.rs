//! What a sandbox is asked for and what it answers: plain values, the same for every backend.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;

use crate::image_cache::Lease;

/// An image that is ready on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// As the dataset names it.
    pub image: ImageRef,
    /// What it was resolved to: registry digest, else config id; empty for `host`.
    pub digest: String,
    /// What the backend starts: image id, layer folder. Opaque to callers.
    pub handle: String,
    /// Variables that the image sets.
    pub env: BTreeMap<String, String>,
    /// Bytes that had to be pulled or unpacked for it; 0 if it was there.
    pub pulled_bytes: u64,
    /// What keeps it on the node. Sandboxes that are started from it have their own copy.
    pub lease: Lease,
}

/// The same repository's content of this digest.
pub(crate) fn at_digest(image: &ImageRef, digest: &str) -> ImageRef {
    let ImageRef::Registry(reference) = image else { return image.clone() };
    let tagged = reference.split_once('@').map_or(reference.as_str(), |(tagged, _)| tagged);
    let name = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let end = tagged[name..].find(':').map_or(tagged.len(), |colon| name + colon);
    ImageRef::Registry(format!("{}@{digest}", &tagged[..end]))
}

/// A sandbox to be started.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// From which image or derived layer.
    pub prepared: Prepared,
    /// Working directory of commands; created if absent.
    pub workdir: String,
    /// Network of the sandbox.
    pub network: Network,
    /// Limits.
    pub limits: LimitsSpec,
    /// Labels for the reaper and for people: run, rollout, purpose.
    pub labels: BTreeMap<String, String>,
}

/// Options of a backend that do not change per sandbox.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Run that the sandboxes belong to; goes into labels and names.
    pub run: String,
    /// Random identity of this runner process; a reaper spares what belongs to a live one.
    pub incarnation: String,
}

/// Which output streams are kept, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Standard output and error interleaved in one stream, as a terminal would show them.
    Merged,
    /// Two streams.
    Separate,
}

/// A command to run. Standard input is `/dev/null` and there is no terminal.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program and arguments. For a script use [`Command::bash`].
    pub argv: Vec<String>,
    /// A script given to the program on a descriptor of its own, appended to `argv` as a path: no length limit.
    pub script: Option<Bytes>,
    /// The whole environment: nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
    /// After this the whole process group is killed.
    pub timeout: Duration,
    /// Bytes kept per stream: the first and the last half; what lies between is counted and dropped.
    pub output_cap: usize,
    /// Which streams.
    pub streams: Streams,
}

impl Command {
    /// `bash` over `script`: as `bash -c` where that fits on a command line, else from a descriptor.
    pub fn bash(script: impl Into<String>) -> Self {
        const LONGEST_ARGUMENT: usize = 100 * 1024;
        let script = script.into();
        let base = Self {
            argv: Vec::new(),
            script: None,
            env: BTreeMap::new(),
            cwd: "/".into(),
            timeout: Duration::from_secs(120),
            output_cap: 1 << 20,
            streams: Streams::Merged,
        };
        if script.len() <= LONGEST_ARGUMENT && !script.contains('\0') {
            Self { argv: vec!["bash".into(), "-c".into(), script], ..base }
        } else {
            Self { argv: vec!["bash".into()], script: Some(script.into_bytes().into()), ..base }
        }
    }

    /// With this environment.
    pub fn env(self, env: BTreeMap<String, String>) -> Self {
        Self { env, ..self }
    }

    /// In this folder.
    pub fn cwd(self, cwd: impl Into<String>) -> Self {
        Self { cwd: cwd.into(), ..self }
    }

    /// With this deadline.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Keeping this many bytes per stream.
    pub fn output_cap(self, output_cap: usize) -> Self {
        Self { output_cap, ..self }
    }

    /// With these streams.
    pub fn streams(self, streams: Streams) -> Self {
        Self { streams, ..self }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// It exited with this code.
    Exited(i32),
    /// It was ended by this signal.
    Signaled(i32),
    /// Its deadline passed and its process group was killed.
    TimedOut,
    /// It could not be started: this `errno`.
    NotStarted(i32),
}

impl CommandEnd {
    /// Whether it exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }

    /// As a shell shows it: the code, 128 + signal, 124 for a timeout, 127 where it could not be started.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::TimedOut => 124,
            Self::NotStarted(_) => 127,
        }
    }
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// How it ended.
    pub end: CommandEnd,
    /// Standard output, or both streams where they are merged; head and tail of it if it was longer than the cap.
    pub stdout: Bytes,
    /// Standard error; empty where merged.
    pub stderr: Bytes,
    /// Bytes dropped from the middle of `stdout`.
    pub stdout_dropped: u64,
    /// Bytes dropped from the middle of `stderr`.
    pub stderr_dropped: u64,
    /// Offset in `stdout` at which bytes were dropped, if any were.
    pub stdout_gap: Option<usize>,
    /// Wall-clock time, measured inside.
    pub wall: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Largest resident set in bytes, as the kernel reports it for the command and its waited-for children.
    pub max_rss: u64,
}

/// Mode of a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// 0644.
    Plain,
    /// 0755.
    Executable,
    /// What an existing file has; 0644 for a new one.
    Keep,
}

/// Kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Path relative to the listed folder.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
}

/// A plain-text search.
#[derive(Clone, Debug)]
pub struct SearchQuery {
    /// Folder or file.
    pub path: String,
    /// Text to find; no pattern language.
    pub needle: String,
    /// Only files whose name ends so, for example `.py`; all if empty.
    pub suffix: String,
    /// Files to report at most.
    pub max_files: usize,
    /// Whether hidden files and folders are skipped.
    pub skip_hidden: bool,
}

/// Matches within one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// Path, as a caller would open it.
    pub path: String,
    /// Lines with a match: number from 1, and the line (cut at 1,000 bytes).
    pub lines: Vec<(u64, String)>,
    /// All matching lines, also those beyond what `lines` holds.
    pub count: u64,
}

/// One file of a work-tree snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotEntry {
    /// Path relative to the root, `/`-separated bytes.
    pub path: Vec<u8>,
    /// 0o100644, 0o100755 or 0o120000, as git has them.
    pub mode: u32,
    /// git blob id of the content (SHA-1 over `blob <size>\0<content>`).
    pub blob: [u8; 20],
    /// Size in bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        for (reference, wanted) in [
            ("debian", "debian@sha256:a"),
            ("debian:12", "debian@sha256:a"),
            ("localhost:5000/x", "localhost:5000/x@sha256:a"),
            ("localhost:5000/x/y:1", "localhost:5000/x/y@sha256:a"),
            ("x:1@sha256:b", "x@sha256:a"),
        ] {
            let image = ImageRef::Registry(reference.into());
            assert_eq!(at_digest(&image, "sha256:a"), ImageRef::Registry(wanted.into()), "{reference}");
        }
        assert_eq!(at_digest(&ImageRef::Host, "sha256:a"), ImageRef::Host);
    }
}
