//! What can be wrong with a dataset.

use std::path::PathBuf;

/// Why a dataset cannot be opened, planned or loaded. Rows count from 0 over the whole dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing of the kind that datasets are made of.
    #[error("{} holds no .parquet, .jsonl or .json file{hint}", .path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// What else is there, or empty.
        hint: String,
    },
    /// The file's name says no known format.
    #[error("{} is neither a .parquet, .jsonl nor .json file", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder with more than one split.
    #[error("{} holds several splits ({splits}): add the one you mean to the path, as in {}", .path.display(), .example.display())]
    SeveralSplits {
        /// The folder.
        path: PathBuf,
        /// Their names.
        splits: String,
        /// A path that would do.
        example: PathBuf,
    },
    /// A file of a numbered series is not there.
    #[error("{} is incomplete: {missing} is missing", .path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// Name of the first missing file.
        missing: String,
    },
    /// A Parquet file is corrupt, or uses what this reader does not know.
    #[error("cannot read {} as Parquet", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A text is not the JSON that it should be.
    #[error("{file}, row {row}: not a JSON object of columns")]
    Json {
        /// The file.
        file: String,
        /// The row.
        row: u64,
        /// Where in the row, and why.
        source: serde_json::Error,
    },
    /// The columns fit no family, or not the one that the job names.
    #[error("{dataset}: {problem}")]
    Columns {
        /// The dataset's name.
        dataset: String,
        /// What is missing.
        problem: String,
    },
    /// A field of a row cannot be used.
    #[error("{file}, row {row}, field `{field}`: {problem}")]
    Field {
        /// The file.
        file: String,
        /// The row.
        row: u64,
        /// The column.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A filter expression cannot be read.
    #[error("filter `{expression}`, at character {at}: {problem}")]
    Filter {
        /// The expression.
        expression: String,
        /// Where, from 1.
        at: usize,
        /// What is wrong.
        problem: String,
    },
    /// A glob over instance ids is malformed.
    #[error("`{pattern}` is not a glob: {problem}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// No row has such an instance id.
    #[error("no instance of {dataset} is called or matches `{wanted}`{}", did_you_mean(.nearest))]
    UnknownInstance {
        /// The dataset's name.
        dataset: String,
        /// The id or glob.
        wanted: String,
        /// The closest id, if there is any.
        nearest: Option<String>,
    },
    /// The row is not the one that was planned.
    #[error("{file}, row {row}: the row has changed since the run was planned (it was {instance_id})")]
    Changed {
        /// The file.
        file: String,
        /// The row.
        row: u64,
        /// The id that was planned.
        instance_id: String,
    },
}

pub(crate) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
