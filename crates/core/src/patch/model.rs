//! A patch that has been read.

use bytes::Bytes;

use super::binary::BinaryHunk;
use super::tree::FileMode;

/// A whole patch: its files in the order in which it names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// One entry per file header; a file may occur more than once.
    pub files: Vec<FilePatch>,
}

/// What a patch says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePatch {
    pub(crate) kind: ChangeKind,
    pub(crate) old_path: Option<Vec<u8>>,
    pub(crate) new_path: Option<Vec<u8>>,
    pub(crate) old_mode: Option<FileMode>,
    pub(crate) new_mode: Option<FileMode>,
    pub(crate) index: Option<IndexLine>,
    pub(crate) body: Body,
}

/// What happens to the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It exists before and after.
    Modify,
    /// It is new.
    Create,
    /// It goes away.
    Delete,
    /// It moves from the old path to the new one.
    Rename,
    /// It also appears under the new path.
    Copy,
    /// A plain unified diff without `/dev/null`: the file is made if it is not there.
    Undeclared,
}

/// The blob ids of an index line: hex digits, abbreviated or full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexLine {
    pub(crate) old: String,
    pub(crate) new: String,
}

/// How the content changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// By hunks; none where only the mode or the path changes.
    Text(Vec<Hunk>),
    /// By data; boxed because few patches have it.
    Binary(Box<BinaryHunk>),
    /// `Binary files differ`: the data was not put into the patch.
    BinaryWithoutData,
}

/// A run of lines, with the lines around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hunk {
    pub(crate) old: LineRange,
    pub(crate) new: LineRange,
    pub(crate) lines: Vec<HunkLine>,
}

/// The `start,length` of a hunk header; lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineRange {
    pub(crate) start: u64,
    pub(crate) length: u64,
}

/// A line with its newline, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HunkLine {
    pub(crate) kind: LineKind,
    pub(crate) text: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    Context,
    Added,
    Removed,
}

impl FilePatch {
    /// What happens to the file as a whole.
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The path that the old content is read from; `None` for a new file.
    pub fn old_path(&self) -> Option<&[u8]> {
        self.old_path.as_deref()
    }

    /// The path that the new content goes to; `None` for a deleted file.
    pub fn new_path(&self) -> Option<&[u8]> {
        self.new_path.as_deref()
    }

    /// The path to call this change by: the new one where there is one.
    pub fn path(&self) -> &[u8] {
        self.new_path().or_else(|| self.old_path()).unwrap_or_default()
    }

    /// Whether the content is binary.
    pub fn is_binary(&self) -> bool {
        !matches!(self.body, Body::Text(_))
    }

    /// Text lines added.
    pub fn added(&self) -> u64 {
        self.count(LineKind::Added)
    }

    /// Text lines removed.
    pub fn removed(&self) -> u64 {
        self.count(LineKind::Removed)
    }

    pub(crate) fn hunks(&self) -> &[Hunk] {
        match &self.body {
            Body::Text(hunks) => hunks,
            Body::Binary(_) | Body::BinaryWithoutData => &[],
        }
    }

    fn count(&self, kind: LineKind) -> u64 {
        let lines = self.hunks().iter().flat_map(|hunk| &hunk.lines);
        lines.filter(|line| line.kind == kind).count() as u64
    }
}

impl Hunk {
    /// The lines that the hunk expects.
    pub(crate) fn preimage(&self) -> Vec<&Bytes> {
        self.without(LineKind::Added)
    }

    /// The lines that it leaves.
    pub(crate) fn postimage(&self) -> Vec<&Bytes> {
        self.without(LineKind::Removed)
    }

    /// Whether it ends with a change, not with context: then it must match at the end of the file.
    pub(crate) fn ends_changed(&self) -> bool {
        self.lines.last().is_none_or(|line| line.kind != LineKind::Context)
    }

    fn without(&self, kind: LineKind) -> Vec<&Bytes> {
        self.lines.iter().filter(|line| line.kind != kind).map(|line| &line.text).collect()
    }
}
