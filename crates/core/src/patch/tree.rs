//! Git's object ids of files and trees, and what differs between two snapshots.

use std::fmt;

use sha1::{Digest as _, Sha1};

use crate::id::hex;

/// The id of a file's content: SHA-1 over git's blob object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 20]);

/// The id of a whole directory tree, equal to what `git write-tree` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(pub [u8; 20]);

impl BlobId {
    /// The id that index lines use for "no file".
    pub const NULL: Self = Self([0; 20]);
}

macro_rules! hex_forms {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    )*};
}
hex_forms!(BlobId, TreeId);

/// What git records of a file besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileMode {
    /// A file, `100644`.
    Regular,
    /// A file that its owner may execute, `100755`.
    Executable,
    /// A symbolic link, `120000`; its content is the target.
    Symlink,
}

impl FileMode {
    /// The six octal digits that patches and trees use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }

    /// Reads octal digits. Any regular file's mode is cut down to the two that git keeps; `None` for
    /// directories, submodules and anything else.
    pub fn from_octal(digits: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(digits).ok()?;
        let mode = u32::from_str_radix(text, 8).ok()?;
        match mode >> 12 {
            0o10 if mode & 0o100 == 0 => Some(Self::Regular),
            0o10 => Some(Self::Executable),
            0o12 => Some(Self::Symlink),
            _ => None,
        }
    }

    /// Whether both are symbolic links or both are files.
    pub(crate) fn same_type(self, other: Self) -> bool {
        (self == Self::Symlink) == (other == Self::Symlink)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path from the root of the tree, components separated by `/`; any bytes but NUL.
    pub path: Vec<u8>,
    /// Its mode.
    pub mode: FileMode,
    /// Its content.
    pub blob: BlobId,
}

/// Computes the id of a file's content.
pub fn blob_id(content: &[u8]) -> BlobId {
    BlobId(object_id("blob", content))
}

fn object_id(kind: &str, content: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(format!("{kind} {}\0", content.len()));
    hash.update(content);
    hash.finalize().into()
}

/// Computes the id of the tree that holds `entries`, in any order.
///
/// The paths are those of one directory tree: each once, and none that is a file and a directory at once.
pub fn tree_id(entries: &[TreeEntry]) -> TreeId {
    TreeId(subtree_id(&by_path(entries), 0))
}

/// Hashes the entries below one directory, whose path with its slash is `prefix` bytes long. Sorting whole
/// paths puts a directory where git sorts it, namely as if its name ended in a slash.
fn subtree_id(entries: &[&TreeEntry], prefix: usize) -> [u8; 20] {
    let mut object = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let name = &first.path[prefix..];
        let (mode, name, id, taken) = match name.iter().position(|&byte| byte == b'/') {
            None => (first.mode.as_str(), name, first.blob.0, 1),
            Some(slash) => {
                let below = prefix + slash + 1;
                let taken = rest.partition_point(|entry| entry.path.starts_with(&first.path[..below]));
                ("40000", &name[..slash], subtree_id(&rest[..taken], below), taken)
            }
        };
        object.extend_from_slice(mode.as_bytes());
        object.push(b' ');
        object.extend_from_slice(name);
        object.push(0);
        object.extend_from_slice(&id);
        rest = &rest[taken..];
    }
    object_id("tree", &object)
}

fn by_path(entries: &[TreeEntry]) -> Vec<&TreeEntry> {
    let mut sorted: Vec<&TreeEntry> = entries.iter().collect();
    sorted.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    sorted
}

/// A path that two snapshots disagree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// The path.
    pub path: Vec<u8>,
    /// What the older snapshot has there.
    pub old: Option<(FileMode, BlobId)>,
    /// What the newer one has.
    pub new: Option<(FileMode, BlobId)>,
}

/// Compares two snapshots, given in any order of paths; the result is sorted by path.
pub fn changed_paths(old: &[TreeEntry], new: &[TreeEntry]) -> Vec<ChangedPath> {
    let (old, new) = (by_path(old), by_path(new));
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    let mut changed = Vec::new();
    while let Some(path) = [old.peek(), new.peek()].into_iter().flatten().map(|entry| &entry.path).min() {
        let path = path.clone();
        let before = old.next_if(|entry| entry.path == path).map(|entry| (entry.mode, entry.blob));
        let after = new.next_if(|entry| entry.path == path).map(|entry| (entry.mode, entry.blob));
        if before != after {
            changed.push(ChangedPath { path, old: before, new: after });
        }
    }
    changed
}
