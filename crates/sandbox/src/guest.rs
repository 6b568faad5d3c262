//! A live sandbox, as its users see it: the host's end of the guest protocol, the same for every backend.

pub(crate) mod absence;
mod answers;
mod binary;
mod connection;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use binary::install;
#[cfg(feature = "pods")]
pub use binary::install_as;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thresher_core::record::SandboxIdentity;
use thresher_guest::{Answer, CommandBody, Operation, PROTOCOL_VERSION, WriteMode, put_item};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::SandboxError;
use crate::image_cache::Lease;
use crate::spec::{
    Command, CommandOutput, DirEntry, EntryKind, FileMode, SearchHit, SearchQuery, SnapshotEntry, Streams,
};
use connection::{Call, Connection};
use run::{command_body, command_output};

/// How long a started guest may take to answer the hello: a loaded machine starts processes slowly.
const HELLO_TIME: Duration = Duration::from_secs(30);

/// How long a small file operation may take.
const FILE_TIME: Duration = Duration::from_secs(120);

/// How long a walk over many files may take.
const WALK_TIME: Duration = Duration::from_secs(900);

/// Largest answer that is a list, in bytes.
const MOST_ANSWER: u64 = 256 << 20;

/// Largest sum of files that are read at once, in bytes.
const MOST_READ: u64 = 256 << 20;

/// How long killing everything may take.
const KILL_TIME: Duration = Duration::from_secs(30);

/// Ends the environment from outside, beside the stream: kills the container or the process, removes the cgroup.
#[async_trait]
pub(crate) trait Teardown: Send + Sync {
    /// Ends it. Called at most once; a sandbox that is dropped instead ends by its stream.
    async fn end(self: Box<Self>) -> Result<(), SandboxError>;

    /// What the backend knows the environment by: container id, folder. For the backend that made it.
    fn handle(&self) -> &str;
}

/// A live sandbox with its guest attached.
///
/// One request is under way at a time. A request whose future was dropped leaves the stream in the middle of an
/// answer: every later request then fails with [`SandboxError::Gone`], and [`Sandbox::close`] still works. Dropping the
/// sandbox ends the stream, whereupon the guest ends everything inside.
pub struct Sandbox {
    connection: Connection,
    identity: SandboxIdentity,
    workdir: String,
    defaults: BTreeMap<String, String>,
    teardown: Box<dyn Teardown>,
    /// Of what it was started from.
    lease: Lease,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sandbox").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Takes a started guest's standard output and input and agrees with it on the protocol.
    ///
    /// On an error the environment is ended before this returns.
    pub(crate) async fn attach(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        identity: SandboxIdentity,
        teardown: Box<dyn Teardown>,
    ) -> Result<Self, SandboxError> {
        Self::attach_reachable(reader, writer, Arc::default(), identity, teardown).await
    }

    /// As [`Sandbox::attach`], over a stream that can be cut off for some time, which no deadline counts.
    pub(crate) async fn attach_reachable(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        absence: Arc<absence::Absence>,
        identity: SandboxIdentity,
        teardown: Box<dyn Teardown>,
    ) -> Result<Self, SandboxError> {
        let mut connection = Connection::new(Box::new(reader), Box::new(writer), absence);
        match hello(&mut connection).await {
            Ok(()) => {
                let (workdir, defaults) = (String::from("/"), BTreeMap::new());
                Ok(Self { connection, identity, workdir, defaults, teardown, lease: Lease::default() })
            }
            Err(error) => {
                drop(connection);
                if let Err(error) = teardown.end().await {
                    tracing::warn!(%error, "a sandbox that did not start was not ended");
                }
                Err(error)
            }
        }
    }

    /// Returns what can flip a verdict besides the patch.
    pub fn identity(&self) -> &SandboxIdentity {
        &self.identity
    }

    /// Notes where the asked-for working directory is.
    pub(crate) fn with_workdir(self, workdir: &str) -> Self {
        let workdir = if workdir.is_empty() { "/" } else { workdir };
        Self { workdir: workdir.to_owned(), ..self }
    }

    /// Keeps what it was started from on the node until it ends.
    pub(crate) fn with_lease(self, lease: Lease) -> Self {
        Self { lease, ..self }
    }

    /// Adds variables that commands get where they do not set them themselves.
    pub(crate) fn with_defaults(self, defaults: BTreeMap<String, String>) -> Self {
        Self { defaults, ..self }
    }

    fn with_default_variables(&self, mut body: CommandBody) -> CommandBody {
        for (name, value) in &self.defaults {
            if body.env.iter().all(|(set, _)| set != name.as_bytes()) {
                body.env.push((
                    Bytes::copy_from_slice(name.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes()),
                ));
            }
        }
        body
    }

    /// Says anew what the sandbox is, now that it could be asked.
    #[cfg(feature = "pods")]
    pub(crate) fn with_identity(self, identity: SandboxIdentity) -> Self {
        Self { identity, ..self }
    }

    /// Adds to what deviates from the environment asked for.
    pub(crate) fn with_deviations(mut self, deviations: Vec<String>) -> Self {
        self.identity.deviations.extend(deviations);
        self
    }

    /// Returns the working directory: the one asked for, but where the backend cannot change the root a folder of its
    /// own that stands in for it.
    pub fn workdir(&self) -> &str {
        &self.workdir
    }

    /// Returns what the backend knows this sandbox by.
    pub(crate) fn handle(&self) -> &str {
        self.teardown.handle()
    }

    /// Runs a command to its end or its deadline.
    ///
    /// # Errors
    /// How the command ended is never an error. [`SandboxError::Gone`] and [`SandboxError::Protocol`] say that the
    /// guest did not keep its side; the deadline is kept here too, some seconds after the guest's.
    pub async fn run(&mut self, command: &Command) -> Result<CommandOutput, SandboxError> {
        let operation = Operation::Run {
            timeout_ms: u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX),
            output_cap: command.output_cap as u64,
            merged: command.streams == Streams::Merged,
        };
        let mut body = Vec::new();
        put_item(&self.with_default_variables(command_body(command)), &mut body)
            .map_err(connection::broken_frame)?;
        // Two streams, and slack for a guest whose own bound is lower, never higher.
        let call =
            Call::new(operation, command.timeout).body(&body).answer_limit(2 * command.output_cap as u64);
        let (output, answer) = self.connection.call_cancelling(call).await?;
        match answer {
            Answer::Ran(report) => command_output(output, &report),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`SandboxError::File`], with kind `TooLarge` for a larger one.
    pub async fn read(&mut self, path: &str, limit: u64) -> Result<Bytes, SandboxError> {
        let operation = Operation::Read { path: path.into(), limit };
        Ok(self.connection.call(Call::new(operation, FILE_TIME).answer_limit(limit)).await?.0)
    }

    /// Writes a file whole or not at all, with its missing parent folders; follows an existing link to a file.
    pub async fn write(&mut self, path: &str, content: &[u8], mode: FileMode) -> Result<(), SandboxError> {
        let mode = match mode {
            FileMode::Plain => WriteMode::Plain,
            FileMode::Executable => WriteMode::Executable,
            FileMode::Keep => WriteMode::Keep,
        };
        let operation = Operation::Write { path: path.into(), mode };
        self.connection.call(Call::new(operation, FILE_TIME).body(content)).await.map(drop)
    }

    /// Creates or replaces a symbolic link, with its missing parent folders.
    pub async fn symlink(&mut self, path: &str, target: &[u8]) -> Result<(), SandboxError> {
        let operation = Operation::Symlink { path: path.into(), target: Bytes::copy_from_slice(target) };
        self.connection.call(Call::new(operation, FILE_TIME)).await.map(drop)
    }

    /// Removes a file, a link or a whole folder; one that is absent is fine.
    pub async fn remove(&mut self, path: &str) -> Result<(), SandboxError> {
        self.connection.call(Call::new(Operation::Remove { path: path.into() }, WALK_TIME)).await.map(drop)
    }

    /// Returns kind and size of what is at `path`, following links; `None` where nothing is.
    pub async fn stat(&mut self, path: &str) -> Result<Option<(EntryKind, u64)>, SandboxError> {
        let operation = Operation::Stat { path: path.into() };
        match self.connection.call(Call::new(operation, FILE_TIME)).await?.1 {
            Answer::Stat(found) => Ok(found.map(|(kind, size)| (answers::kind(kind), size))),
            other => Err(unexpected(&other)),
        }
    }

    /// Lists a folder: parents before what is in them, siblings by name. Depth 1 is the folder's own entries; the
    /// folder itself is not among them.
    pub async fn list(
        &mut self,
        path: &str,
        max_depth: u32,
        skip_hidden: bool,
        max_entries: usize,
    ) -> Result<Vec<DirEntry>, SandboxError> {
        let max_entries = max_entries as u64;
        let operation = Operation::List { path: path.into(), max_depth, skip_hidden, max_entries };
        let call = Call::new(operation, FILE_TIME).answer_limit(MOST_ANSWER);
        answers::listing(&self.connection.call(call).await?.0)
    }

    /// Finds plain text in a file, or in the files below a folder in order of their paths.
    pub async fn search(&mut self, query: &SearchQuery) -> Result<Vec<SearchHit>, SandboxError> {
        let operation = Operation::Search {
            path: query.path.clone(),
            needle: query.needle.clone(),
            suffix: query.suffix.clone(),
            max_files: query.max_files as u64,
            skip_hidden: query.skip_hidden,
        };
        let call = Call::new(operation, WALK_TIME).answer_limit(MOST_ANSWER);
        answers::hits(&self.connection.call(call).await?.0)
    }

    /// Returns the files below `root` that `git add -A` would take, sorted by path.
    ///
    /// Ignore files and `.git/info/exclude` count, also where there is no git in the image. Tracked paths, and on later
    /// calls the paths of the first call for this root, the baseline, are never ignored. Everything named `.git` is
    /// passed over; the files of nested repositories are included. Unchanged files are not read again.
    pub async fn snapshot(&mut self, root: &str) -> Result<Vec<SnapshotEntry>, SandboxError> {
        let call = Call::new(Operation::Snapshot { root: root.into() }, WALK_TIME).answer_limit(MOST_ANSWER);
        answers::snapshot(&self.connection.call(call).await?.0)
    }

    /// Reads many files, and the targets of links, in one round trip; `paths` are relative to `root`.
    ///
    /// # Errors
    /// [`SandboxError::File`] for the first that cannot be read, and with kind `TooLarge` where they are larger than
    /// 256 MiB together.
    pub async fn read_many(&mut self, root: &str, paths: &[Vec<u8>]) -> Result<Vec<Bytes>, SandboxError> {
        let mut body = Vec::new();
        for path in paths {
            put_item(&path.as_slice(), &mut body).map_err(connection::broken_frame)?;
        }
        // Each content comes with its length before it.
        const LONGEST_PREFIX: u64 = 10;
        let limit = MOST_READ + LONGEST_PREFIX * paths.len() as u64;
        let operation = Operation::ReadMany { root: root.into(), limit: MOST_READ };
        let call = Call::new(operation, WALK_TIME).body(&body).answer_limit(limit);
        answers::contents(self.connection.call(call).await?.0, paths.len())
    }

    /// Reads a folder, or one file, out as a tar of at most `limit` bytes. Paths in it are relative to the folder.
    pub async fn archive(&mut self, path: &str, limit: u64) -> Result<Bytes, SandboxError> {
        let operation = Operation::Archive { path: path.into(), limit };
        Ok(self.connection.call(Call::new(operation, WALK_TIME).answer_limit(limit)).await?.0)
    }

    /// Puts the content of a tar into a folder, which is created if absent. Modes, links and modification times are
    /// kept, and owners by number where that is allowed. Nothing is written outside of the folder.
    pub async fn unarchive(&mut self, path: &str, tar: &[u8]) -> Result<(), SandboxError> {
        let operation = Operation::Unarchive { path: path.into() };
        self.connection.call(Call::new(operation, WALK_TIME).body(tar)).await.map(drop)
    }

    /// Returns the variables that the sandbox's first process was started with: those of the image, and what an engine
    /// adds.
    #[cfg(feature = "pods")]
    pub(crate) async fn environ(&mut self) -> Result<BTreeMap<String, String>, SandboxError> {
        let call = Call::new(Operation::Environ, FILE_TIME).answer_limit(MOST_ANSWER);
        answers::variables(&self.connection.call(call).await?.0)
    }

    /// Kills every process inside but the guest, and returns when they are gone.
    ///
    /// # Errors
    /// [`SandboxError::Protocol`] where processes survive, hung in the kernel.
    pub async fn kill_all(&mut self) -> Result<(), SandboxError> {
        match self.connection.call(Call::new(Operation::KillAll, KILL_TIME)).await {
            Err(SandboxError::File { message, .. }) => Err(SandboxError::Protocol(message)),
            done => done.map(drop),
        }
    }

    /// Ends the sandbox at once; nothing inside is asked.
    pub async fn close(self) -> Result<(), SandboxError> {
        let Self { connection, identity: _, workdir: _, defaults: _, teardown, lease } = self;
        // The end of the stream alone makes the guest end everything inside.
        drop(connection);
        let ended = teardown.end().await;
        drop(lease);
        ended
    }
}

/// Agrees on the protocol's version, and checks that nobody inside can reach into the guest.
async fn hello(connection: &mut Connection) -> Result<(), SandboxError> {
    let operation = Operation::Hello { version: PROTOCOL_VERSION };
    match connection.call(Call::new(operation, HELLO_TIME)).await?.1 {
        Answer::Hello(guest) if guest.version != PROTOCOL_VERSION => Err(SandboxError::Protocol(format!(
            "it speaks version {} and this runner {PROTOCOL_VERSION}",
            guest.version
        ))),
        Answer::Hello(guest) if guest.dumpable => {
            Err(SandboxError::Protocol("it can be traced from inside".into()))
        }
        Answer::Hello(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> SandboxError {
    SandboxError::Protocol(format!("an answer of another operation: {answer:.200?}"))
}
