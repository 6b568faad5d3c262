//! The rows of a dataset's files as one table.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thresher_core::Sha256Hex;
use thresher_core::id::hex;

use crate::error::DatasetError;
use crate::layout::{self, Format};
use crate::parquet_file::ParquetFile;
use crate::row::Row;
use crate::text_file::TextFile;

/// Names of the columns to read.
pub(crate) type Columns = BTreeSet<String>;

/// All files of a dataset, opened: their rows are counted and their columns known, nothing else is in memory.
#[derive(Debug)]
pub(crate) struct Source {
    root: PathBuf,
    files: Vec<SourceFile>,
    columns: Vec<String>,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    /// Path from the root, for messages and the fingerprint.
    name: String,
    first_row: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Parquet(ParquetFile),
    Text(TextFile),
}

impl Content {
    fn open(format: Format, path: &Path, name: &str) -> Result<Self, DatasetError> {
        match format {
            Format::Parquet => ParquetFile::open(path).map(Self::Parquet),
            Format::JsonLines => TextFile::open_lines(path, name).map(Self::Text),
            Format::Json => TextFile::open_json(path, name).map(Self::Text),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Parquet(file) => file.rows(),
            Self::Text(file) => file.rows(),
        }
    }

    fn columns(&self) -> &[String] {
        match self {
            Self::Parquet(file) => file.columns(),
            Self::Text(file) => file.columns(),
        }
    }
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let found = layout::find(path)?;
        let root = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let mut source = Self { root: root.to_owned(), files: Vec::new(), columns: Vec::new() };
        for path in found.files {
            source.add(found.format, path)?;
        }
        Ok(source)
    }

    fn add(&mut self, format: Format, path: PathBuf) -> Result<(), DatasetError> {
        let name = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        let content = Content::open(format, &path, &name)?;
        let new = content.columns().iter().filter(|column| !self.columns.contains(column));
        let new: Vec<String> = new.cloned().collect();
        self.columns.extend(new);
        self.files.push(SourceFile { path, name, first_row: self.rows(), content });
        Ok(())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.files.last().map_or(0, |file| file.first_row + file.content.rows())
    }

    /// All columns that any file has.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Hands every row to `visit`, in order, with those of `columns` that it has.
    pub(crate) fn scan(
        &self,
        columns: &Columns,
        mut visit: impl FnMut(Row) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        for file in &self.files {
            let mut number = file.first_row;
            let mut each = |cells| {
                let row = Row { file: file.name.clone(), number, cells };
                number += 1;
                visit(row)
            };
            match &file.content {
                Content::Parquet(content) => content.scan(columns, &mut each)?,
                Content::Text(content) => content.scan(columns, file.first_row, &mut each)?,
            }
        }
        Ok(())
    }

    /// Reads one row; `None` if there are fewer.
    pub(crate) fn read(&self, number: u64, columns: &Columns) -> Result<Option<Row>, DatasetError> {
        let at = self.files.partition_point(|file| file.first_row <= number);
        let Some(file) = at.checked_sub(1).map(|at| &self.files[at]) else {
            return Ok(None);
        };
        let within = number - file.first_row;
        if within >= file.content.rows() {
            return Ok(None);
        }
        let cells = match &file.content {
            Content::Parquet(content) => content.read(within, columns)?,
            Content::Text(content) => content.read(within, columns, number)?,
        };
        Ok(Some(Row { file: file.name.clone(), number, cells }))
    }

    /// Paths from the root and whole paths of the files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|file| (file.name.as_str(), file.path.as_path()))
    }

    /// Hashes the files' names and contents.
    pub(crate) fn fingerprint(&self) -> Result<Sha256Hex, DatasetError> {
        let mut all = Sha256::new();
        for file in &self.files {
            let content = file_sha256(&file.path)
                .map_err(|source| DatasetError::Io { path: file.path.clone(), source })?;
            all.update(format!("{content}  {}\n", file.name));
        }
        Ok(Sha256Hex::new(hex(&all.finalize())))
    }
}

fn file_sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
