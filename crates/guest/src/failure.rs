//! Why an operation ends early.

use std::io;
use std::path::Path;

use thresher_guest::{Failure, FailureKind};

/// The stream to the host ended, or it carried something that is not of the protocol: the guest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hangup;

/// Why an operation's handler stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The guest must end.
    Hangup,
    /// The operation failed; the host is told.
    Failed(Failure),
}

impl From<Hangup> for Stop {
    fn from(Hangup: Hangup) -> Self {
        Self::Hangup
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Adds the path to an input or output error.
pub(crate) trait AtPath<T> {
    /// The failure of an operation on `path`.
    fn at(self, path: impl AsRef<Path>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|error| of_io(&error.into(), path.as_ref()))
    }
}

/// A failure of a kind of our own making.
pub(crate) fn failure(kind: FailureKind, path: impl AsRef<Path>, message: impl Into<String>) -> Failure {
    /// As long as a path can be; the answer must fit into a frame whatever was asked.
    const LONGEST: usize = 4096;
    let path = path.as_ref().to_string_lossy().chars().take(LONGEST).collect();
    Failure { kind, path, message: message.into() }
}

/// The failure that an operating-system error on `path` is.
pub(crate) fn of_io(error: &io::Error, path: &Path) -> Failure {
    let kind = match error.raw_os_error() {
        None if error.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
        Some(libc::ENOENT) => FailureKind::NotFound,
        Some(libc::EEXIST) => FailureKind::Exists,
        Some(libc::EISDIR) => FailureKind::IsDirectory,
        Some(libc::ENOTDIR) => FailureKind::NotADirectory,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => FailureKind::Denied,
        Some(libc::ENOSPC | libc::EDQUOT) => FailureKind::NoSpace,
        Some(libc::EFBIG) => FailureKind::TooLarge,
        _ => FailureKind::Other,
    };
    failure(kind, path, error.to_string())
}
