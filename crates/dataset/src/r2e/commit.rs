//! The column `parsed_commit_content` (`parsed_commit` in R2E-Gym's SWE-bench rows).

use serde::{Deserialize, Serialize};

/// A commit, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParsedCommit {
    /// Its files.
    pub file_diffs: Vec<FileDiff>,
    /// The parent: in practice the commit's own hash with a caret behind it.
    pub old_commit_hash: String,
    /// The commit.
    pub new_commit_hash: String,
    /// Its message.
    #[serde(default)]
    pub commit_message: String,
    /// Its date, ISO 8601.
    #[serde(default)]
    pub commit_date: Option<String>,
    /// Whatever else was noted.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

/// One file of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileDiff {
    /// The whole old text; empty or `/dev/null` for a new file.
    #[serde(default)]
    pub old_file_content: String,
    /// The whole new text; empty or `/dev/null` for a deleted file.
    #[serde(default)]
    pub new_file_content: String,
    /// Path, and what is said of the file as a whole.
    pub header: FileHeader,
    /// The index line.
    #[serde(default)]
    pub index_line: Option<IndexLine>,
    /// Whether the content is binary.
    #[serde(default)]
    pub is_binary_file: bool,
    /// The line that stands for a binary content.
    #[serde(default)]
    pub binary_line: Option<String>,
    /// The `---` line.
    #[serde(default)]
    pub minus_file: Option<FilePath>,
    /// The `+++` line.
    #[serde(default)]
    pub plus_file: Option<FilePath>,
    /// The changes.
    #[serde(default)]
    pub hunks: Vec<Hunk>,
}

/// A file's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileHeader {
    /// The file.
    pub file: FilePath,
    /// For example `new file mode 100644`.
    #[serde(default)]
    pub misc_line: Option<String>,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePath {
    /// The path.
    pub path: String,
}

/// An index line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexLine {
    /// Abbreviated id of the old content.
    pub old_commit_hash: String,
    /// Abbreviated id of the new content.
    pub new_commit_hash: String,
    /// Mode, or empty.
    #[serde(default)]
    pub mode: String,
}

/// A hunk, with the code entities that it touches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hunk {
    /// Its header.
    pub descriptor: HunkDescriptor,
    /// Its lines.
    pub line_group: LineGroup,
    /// Entities that it changes.
    #[serde(default)]
    pub modified_entities: Vec<Entity>,
    /// Entities that it adds.
    #[serde(default)]
    pub added_entities: Vec<Entity>,
    /// Entities that it deletes.
    #[serde(default)]
    pub deleted_entities: Vec<Entity>,
}

/// A hunk's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HunkDescriptor {
    /// Lines of the old text.
    pub old_range: LineRange,
    /// Lines of the new text.
    pub new_range: LineRange,
    /// The heading after the ranges, or empty.
    #[serde(default)]
    pub section: String,
}

/// A range of lines, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRange {
    /// First line.
    pub start: u64,
    /// How many; absent where the header left it out, which means 1.
    #[serde(default)]
    pub length: Option<u64>,
}

/// A hunk's lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineGroup {
    /// In order.
    pub all_lines: Vec<Line>,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its text without marker and newline.
    pub content: String,
    /// Its marker.
    #[serde(rename = "type")]
    pub kind: LineType,
}

/// What a line of a hunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineType {
    /// Unchanged.
    Context,
    /// New.
    Added,
    /// Gone.
    Deleted,
    /// A remark, such as that the newline at the end is missing.
    Note,
}

/// A function, class, method, statement or import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    /// File.
    pub file_name: String,
    /// `function`, `class`, `method`, `statement` or `import`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name.
    pub name: String,
    /// Source text.
    #[serde(default)]
    pub content: Option<String>,
    /// Name of the syntax node.
    #[serde(default)]
    pub ast_type_str: Option<String>,
    /// First line, from 1.
    #[serde(default)]
    pub start_lineno: Option<i64>,
    /// Last line.
    #[serde(default)]
    pub end_lineno: Option<i64>,
    /// The entity around it.
    #[serde(default)]
    pub parent: Option<Box<Entity>>,
}
