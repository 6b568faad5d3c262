//! What can go wrong with a store.

use std::io;
use std::sync::Arc;

/// A failed operation on a store, by meaning: what a caller does next depends on the variant alone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("no object at `{path}`")]
    NotFound {
        /// The object's path.
        path: String,
    },
    /// The medium has no room left, or the quota is used up: free some, then repeat.
    #[error("no space left to store `{path}`")]
    DiskFull {
        /// The object's path.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store may not be read or written by this user.
    #[error("no permission for `{path}`")]
    Denied {
        /// The object's path.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store cannot hold an object there: a folder is in its place, or the name is too long.
    #[error("`{path}` cannot be an object's path in this store")]
    Unstorable {
        /// The object's path.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Any other failure of input or output; it may pass.
    #[error("input or output on `{path}` failed: {source}")]
    Io {
        /// The object's path.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl StoreError {
    /// Classifies what the system said about `path`.
    pub(crate) fn from_io(path: impl Into<String>, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.into();
        let kind = error.kind();
        let source = Arc::new(error);
        match kind {
            Kind::NotFound => Self::NotFound { path },
            Kind::StorageFull | Kind::QuotaExceeded => Self::DiskFull { path, source },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Denied { path, source },
            Kind::IsADirectory | Kind::NotADirectory | Kind::DirectoryNotEmpty | Kind::InvalidFilename => {
                Self::Unstorable { path, source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn errors_are_told_apart_by_what_to_do() {
        let class = |errno: Errno| StoreError::from_io("p", errno.into());
        assert!(class(Errno::NOENT).is_not_found());
        for full in [Errno::NOSPC, Errno::DQUOT] {
            assert!(matches!(class(full), StoreError::DiskFull { .. }), "{full:?}");
        }
        for denied in [Errno::ACCESS, Errno::ROFS] {
            assert!(matches!(class(denied), StoreError::Denied { .. }), "{denied:?}");
        }
        for unstorable in [Errno::ISDIR, Errno::NOTDIR, Errno::NAMETOOLONG] {
            assert!(matches!(class(unstorable), StoreError::Unstorable { .. }), "{unstorable:?}");
        }
        assert!(matches!(class(Errno::IO), StoreError::Io { .. }));
    }
}
