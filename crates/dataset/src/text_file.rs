//! Rows as JSON text: one object per line, a list of objects, an object of objects, or one object.
//!
//! Opening finds where each row starts and ends; reading parses only the columns that are asked for and steps
//! over the others, which in R2E-Gym's rows are most of the bytes.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::DatasetError;
use crate::source::Columns;

/// Rows that are looked at for column names: later ones may leave some out.
const PROBED_ROWS: usize = 20;

/// The column that the key of an object of rows stands for.
const KEY_COLUMN: &str = "instance_id";

#[derive(Debug)]
pub(crate) struct TextFile {
    path: PathBuf,
    name: String,
    spans: Vec<Span>,
    columns: Vec<String>,
}

/// Where a row is.
#[derive(Debug)]
struct Span {
    offset: u64,
    length: usize,
    /// Its key, in an object of rows.
    key: Option<String>,
}

impl TextFile {
    pub(crate) fn open_lines(path: &Path, name: &str) -> Result<Self, DatasetError> {
        let spans = line_spans(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
        Self::with_spans(path, name, spans)
    }

    pub(crate) fn open_json(path: &Path, name: &str) -> Result<Self, DatasetError> {
        let text =
            std::fs::read(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
        let spans = json_spans(&text).map_err(|source| json_error(name, 0, source))?;
        Self::with_spans(path, name, spans)
    }

    fn with_spans(path: &Path, name: &str, spans: Vec<Span>) -> Result<Self, DatasetError> {
        let mut file = Self { path: path.to_owned(), name: name.to_owned(), spans, columns: Vec::new() };
        file.columns = file.probe_columns()?;
        Ok(file)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.spans.len() as u64
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    fn probe_columns(&self) -> Result<Vec<String>, DatasetError> {
        let mut columns: Vec<String> = Vec::new();
        let mut reader = self.reader()?;
        for (row, span) in self.spans.iter().enumerate().take(PROBED_ROWS) {
            let mut names = Names(Vec::new());
            let parsed = serde_json::from_slice(reader.bytes(span)?).map(|parsed| names = parsed);
            parsed.map_err(|source| json_error(&self.name, row as u64, source))?;
            let key = span.key.is_some().then(|| KEY_COLUMN.to_owned());
            names.0.extend(key);
            names.0.retain(|name| !columns.contains(name));
            columns.append(&mut names.0);
        }
        Ok(columns)
    }

    pub(crate) fn scan(
        &self,
        columns: &Columns,
        first_row: u64,
        visit: &mut impl FnMut(Map<String, Value>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let mut reader = self.reader()?;
        for (row, span) in (first_row..).zip(&self.spans) {
            visit(self.cells(&mut reader, span, columns, row)?)?;
        }
        Ok(())
    }

    pub(crate) fn read(
        &self,
        within: u64,
        columns: &Columns,
        row: u64,
    ) -> Result<Map<String, Value>, DatasetError> {
        self.cells(&mut self.reader()?, &self.spans[within as usize], columns, row)
    }

    fn cells(
        &self,
        reader: &mut SpanReader<'_>,
        span: &Span,
        columns: &Columns,
        row: u64,
    ) -> Result<Map<String, Value>, DatasetError> {
        let mut parser = serde_json::Deserializer::from_slice(reader.bytes(span)?);
        let cells = Projection(columns).deserialize(&mut parser);
        let mut cells = cells.map_err(|source| json_error(&self.name, row, source))?;
        if let Some(key) = span.key.as_ref().filter(|_| columns.contains(KEY_COLUMN)) {
            cells.entry(KEY_COLUMN).or_insert_with(|| Value::String(key.clone()));
        }
        Ok(cells)
    }

    fn reader(&self) -> Result<SpanReader<'_>, DatasetError> {
        let file = File::open(&self.path).map_err(|source| self.io(source))?;
        Ok(SpanReader { owner: self, file, buffer: Vec::new() })
    }

    fn io(&self, source: std::io::Error) -> DatasetError {
        DatasetError::Io { path: self.path.clone(), source }
    }
}

fn json_error(file: &str, row: u64, source: serde_json::Error) -> DatasetError {
    DatasetError::Json { file: file.to_owned(), row, source }
}

/// Reads spans into one buffer that is used again.
struct SpanReader<'a> {
    owner: &'a TextFile,
    file: File,
    buffer: Vec<u8>,
}

impl SpanReader<'_> {
    fn bytes(&mut self, span: &Span) -> Result<&[u8], DatasetError> {
        self.buffer.resize(span.length, 0);
        self.file.read_exact_at(&mut self.buffer, span.offset).map_err(|source| self.owner.io(source))?;
        Ok(&self.buffer)
    }
}

/// Finds the lines that are not blank.
fn line_spans(path: &Path) -> std::io::Result<Vec<Span>> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut spans, mut offset) = (Vec::new(), 0);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !line.trim_ascii().is_empty() {
            spans.push(Span { offset, length: line.len(), key: None });
        }
        offset += line.len() as u64;
        line.clear();
    }
    Ok(spans)
}

/// Finds the rows of a JSON text.
fn json_spans(text: &[u8]) -> Result<Vec<Span>, serde_json::Error> {
    let span = |key, raw: &RawValue| {
        let raw = raw.get();
        let offset = raw.as_ptr() as usize - text.as_ptr() as usize;
        Span { offset: offset as u64, length: raw.len(), key }
    };
    if text.trim_ascii_start().starts_with(b"[") {
        let rows: Vec<&RawValue> = serde_json::from_slice(text)?;
        return Ok(rows.into_iter().map(|raw| span(None, raw)).collect());
    }
    let Entries(entries) = serde_json::from_slice(text)?;
    if entries.iter().all(|(_, raw)| raw.get().starts_with('{')) {
        return Ok(entries.into_iter().map(|(key, raw)| span(Some(key), raw)).collect());
    }
    Ok(vec![Span { offset: 0, length: text.len(), key: None }])
}

/// The entries of an object, in order, their values not parsed.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows or an object of rows")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// The names of an object's entries.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// Parses the wanted columns of an object and steps over the others.
struct Projection<'a>(&'a Columns);

impl<'de> DeserializeSeed<'de> for Projection<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Projection<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.0.contains(&name) {
                cells.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(cells)
    }
}
