//! Dataset rows to tasks.
//!
//! The secret of this crate: how a problem is written down by each benchmark, and in which files. It hides file
//! formats (Parquet, JSONL, JSON), folder layouts, nested JSON in text columns, encodings of test lists and the
//! rules by which images, environments and gold patches follow from a row. One module per dataset family.
//!
//! The main type is [`Dataset`]: [`Dataset::plan`] reads only the columns that planning needs and gives a
//! [`Selection`]; [`Dataset::load`] decodes one row into a `Task` when its rollout starts.
//!
//! Invariants:
//! - A row that cannot be run is refused by name in the selection, never dropped.
//! - A row's hash covers the columns that make the task, and neither its place nor its file: a dataset that is
//!   re-ordered, split or converted keeps the identity of its tasks.
//! - The column `prompt` of R2E-Gym rows, which holds gold patch and tests, is never read into a task, and nothing
//!   but the statement's own column reaches the statement.
//! - An error names the file, the row and the field, and the closest value that exists.

mod cell;
mod dataset;
mod error;
mod family;
mod filter;
mod inline;
mod layout;
mod nearest;
mod parquet_file;
pub mod r2e;
mod row;
mod select;
mod source;
mod swe_bench;
mod text_file;

pub use dataset::Dataset;
pub use error::DatasetError;
pub use select::Selection;
