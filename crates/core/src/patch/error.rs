//! Why a patch cannot be read or applied.

use super::tree::FileMode;

/// Why a text is no patch. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// No file header in a text that is not blank.
    #[error("no file header (`diff --git`, or `---` and `+++` before a hunk) in the text")]
    NoHeader,
    /// A file header does not make sense.
    #[error("line {line}: bad file header: {reason}")]
    Header {
        /// Where it was noticed.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A hunk does not make sense.
    #[error("line {line}: {file}, hunk {hunk}: {reason}")]
    Hunk {
        /// Where it was noticed.
        line: usize,
        /// The file that it belongs to.
        file: String,
        /// Its number within the file, from 1.
        hunk: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Binary data is malformed.
    #[error("line {line}: {file}: corrupt binary patch: {reason}")]
    Binary {
        /// Where it was noticed.
        line: usize,
        /// The file that it belongs to.
        file: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path that leaves the tree or enters `.git`.
    #[error("line {line}: path {path:?} is not within the tree")]
    UnsafePath {
        /// Line of the file's header.
        line: usize,
        /// The path.
        path: String,
    },
}

/// Why a patch does not apply: which file, which hunk and what is there instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {reason}", .hunk.map(|hunk| format!(", hunk {hunk}")).unwrap_or_default())]
pub struct ApplyError {
    /// The file that was to be changed.
    pub file: String,
    /// The hunk's number within the file, from 1, where one is to blame.
    pub hunk: Option<usize>,
    /// What is wrong.
    pub reason: ApplyReason,
}

/// What is wrong about a change. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyReason {
    /// There is no file to change.
    #[error("the file does not exist")]
    Missing,
    /// The file to be made is there already.
    #[error("the file already exists")]
    Exists,
    /// An earlier part of the same patch took the file away.
    #[error("the file has been renamed or deleted earlier in the patch")]
    Gone,
    /// A symbolic link where a file is expected, or the other way round.
    #[error("the file has mode {found}, the patch expects {expected}")]
    WrongType {
        /// What the patch expects.
        expected: FileMode,
        /// What is there.
        found: FileMode,
    },
    /// The patch has no index line with full blob ids, which is needed here.
    #[error("the patch has no index line with full blob ids")]
    NoFullIndex,
    /// The file's content is not the one that the patch was made from.
    #[error("the old content is {found}, the index line expects {expected}")]
    OldBlob {
        /// What the index line names.
        expected: String,
        /// What the content hashes to.
        found: String,
    },
    /// The result is not the one that the patch was made for.
    #[error("the new content is {found}, the index line expects {expected}")]
    NewBlob {
        /// What the index line names.
        expected: String,
        /// What the result hashes to.
        found: String,
    },
    /// The hunk's old lines are nowhere; this is where they come closest.
    #[error("line {line} is {found:?}, the patch expects {expected:?}")]
    Mismatch {
        /// Line of the file.
        line: usize,
        /// What the patch expects.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The hunk's old lines run over the end of the file.
    #[error("the file ends at line {lines}, the patch expects {expected:?} there")]
    PastEnd {
        /// Lines of the file.
        lines: usize,
        /// What the patch expects.
        expected: String,
    },
    /// The hunk's old lines are there, but not at the start or end of the file as its lack of context demands.
    #[error(
        "the lines are found at line {line}, but the hunk without context belongs to the {edge} of the file"
    )]
    NotAtEdge {
        /// Line of the file.
        line: usize,
        /// `start` or `end`.
        edge: &'static str,
    },
    /// The hunk's old lines overlap with those of an earlier hunk.
    #[error("the lines at line {line} were already used by an earlier hunk")]
    Overlap {
        /// Line of the file.
        line: usize,
    },
    /// The patch only says that binary contents differ.
    #[error("the patch says that binary contents differ, but does not hold them")]
    NoBinaryData,
    /// The binary data does not give a content.
    #[error("corrupt binary patch: {0}")]
    BadBinaryData(&'static str),
    /// A deletion that does not cover the whole content.
    #[error("the file would be deleted, but the patch does not remove all of its content")]
    ContentLeft,
}
