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
    /// The bucket does not exist: correct the URL, or make the bucket. A repeat ends the same.
    #[error("there is no bucket `{bucket}`; make it, or correct the URL")]
    NoBucket {
        /// The bucket's name.
        bucket: String,
    },
    /// The store refuses the request itself: it lacks a feature, or the region or endpoint is wrong. A repeat ends
    /// the same.
    #[error("the store refuses the request for `{path}`: {source}")]
    Rejected {
        /// The object's path.
        path: String,
        /// What the store said.
        source: Arc<io::Error>,
    },
    /// The store asks for fewer requests: wait, then repeat.
    #[error("the store asks for fewer requests, on `{path}`: {source}")]
    Throttled {
        /// The object's path.
        path: String,
        /// What the store said.
        source: Arc<io::Error>,
    },
    /// Another conditional write of the object was under way and nothing is decided: repeat the put; start a
    /// multipart upload again from its first part.
    #[error("another write of `{path}` was under way")]
    Contended {
        /// The object's path.
        path: String,
    },
    /// The multipart upload is no longer known: it was completed (perhaps by a call whose answer got lost), aborted,
    /// or removed by the store. Read the object; where it is not this writer's, start again from the first part.
    #[error("the multipart upload of `{path}` is gone")]
    UploadGone {
        /// The object's path.
        path: String,
    },
    /// Any other failure of input or output, whose effect is unknown; it may pass: wait, then repeat.
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

    /// Whether the same call may succeed a little later, with nothing changed by anybody.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Contended { .. } | Self::Io { .. } => true,
            Self::NotFound { .. }
            | Self::DiskFull { .. }
            | Self::Denied { .. }
            | Self::Unstorable { .. }
            | Self::NoBucket { .. }
            | Self::Rejected { .. }
            | Self::UploadGone { .. } => false,
        }
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
        assert!(class(Errno::IO).is_transient() && !class(Errno::NOSPC).is_transient());
    }
}
