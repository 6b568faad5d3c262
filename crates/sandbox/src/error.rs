//! What can go wrong with a sandbox, told apart by who acted.

use std::time::Duration;

use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::task::ImageRef;

/// An error of a sandbox or its backend.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The stream to the guest ended. By itself this is no evidence of an outside cause: ask
    /// [`crate::Backend::evidence`].
    #[error("the sandbox ended: {0}")]
    Gone(String),
    /// The guest sent something that is not of the protocol, or did not answer within the host's own deadline.
    #[error("the sandbox's guest broke the protocol: {0}")]
    Protocol(String),
    /// A file operation inside failed: an ordinary result for an agent's tool.
    #[error("{path}: {message}")]
    File {
        /// The path inside the sandbox.
        path: String,
        /// The error's kind, as the operating system names it.
        kind: FileErrorKind,
        /// For a person.
        message: String,
    },
    /// The container engine does not answer or refuses.
    #[error("the container engine {0}")]
    Daemon(String),
    /// The registry does not answer or refuses.
    #[error("the registry refused {image}: {message}")]
    Registry {
        /// The reference.
        image: String,
        /// What it said.
        message: String,
    },
    /// The registry asked to slow down.
    #[error("the registry limits requests for {image}")]
    RateLimited {
        /// The reference.
        image: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// The image is not there, and policy or registry say that it will not come.
    #[error("no image {image}: {message}")]
    NoImage {
        /// The reference.
        image: String,
        /// Where it was looked for.
        message: String,
    },
    /// The node's own disk is full.
    #[error("the node's disk is full: {0}")]
    DiskFull(String),
    /// No node takes the sandbox now: all are full, or none fits, or a quota is used up.
    #[error("no node takes the sandbox: {0}")]
    NoRoom(String),
    /// The sandbox was taken away from outside: its node was drained, lost or short of something.
    #[error("the sandbox was taken away: {0}")]
    Lost(String),
    /// This machine cannot do what was asked.
    #[error("this machine cannot run the sandbox: {0}")]
    Unsupported(String),
    /// An operating-system call of the backend failed.
    #[error("failed to {action}")]
    Os {
        /// What was tried, a fragment that fits after "failed to".
        action: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Kinds of file errors that tools distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileErrorKind {
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
    /// No space inside the sandbox.
    NoSpace,
    /// Larger than the caller's limit.
    TooLarge,
    /// Anything else.
    Other,
}

impl SandboxError {
    /// The error for an image whose content of `digest`, which the run is locked to, cannot be had.
    pub(crate) fn not_locked(image: &ImageRef, digest: &str) -> Self {
        let message = format!("the run uses {digest}, which cannot be had here");
        Self::NoImage { image: image.to_string(), message }
    }

    /// The infrastructure fault that this error is evidence of, seen in `phase`; `None` where the code inside the
    /// sandbox could have caused it by itself.
    pub fn fault(&self, phase: Phase) -> Option<Fault> {
        let (blame, retry) = match self {
            Self::Gone(_) | Self::Protocol(_) | Self::File { .. } => return None,
            Self::Daemon(_) => (Blame::Daemon, Retry::Later),
            Self::Registry { .. } | Self::RateLimited { .. } => (Blame::Registry, Retry::Later),
            Self::NoImage { .. } => (Blame::Image, Retry::Never),
            Self::DiskFull(_) => (Blame::Disk, Retry::Elsewhere),
            Self::NoRoom(_) | Self::Lost(_) => (Blame::Node, Retry::Later),
            Self::Unsupported(_) => (Blame::Node, Retry::Never),
            Self::Os { .. } => (Blame::Node, Retry::Later),
        };
        Some(Fault::new(blame, retry, phase, chain(self)))
    }
}

/// The error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
