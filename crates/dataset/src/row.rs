//! A row, or the part of it that was asked for.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use thresher_core::Sha256Hex;

use crate::error::{DatasetError, did_you_mean};
use crate::nearest::nearest;

/// Cells by column name, and where they come from.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) file: String,
    /// Number in the dataset, from 0.
    pub(crate) number: u64,
    pub(crate) cells: Map<String, Value>,
}

impl Row {
    /// The cell, unless it is absent or null.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.cells.get(field).filter(|cell| !cell.is_null())
    }

    /// The text of a cell; `None` if it is absent, null or blank.
    pub(crate) fn optional_text(&self, field: &str) -> Result<Option<&str>, DatasetError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.trim().is_empty())),
            Some(other) => Err(self.error(field, format!("it is {}, not a text", kind(other)))),
        }
    }

    /// The text of a cell that must have one.
    pub(crate) fn text(&self, field: &str) -> Result<&str, DatasetError> {
        self.optional_text(field)?.ok_or_else(|| self.error(field, self.absence(field)))
    }

    /// The cell, which must be there.
    pub(crate) fn required(&self, field: &str) -> Result<&Value, DatasetError> {
        self.get(field).ok_or_else(|| self.error(field, self.absence(field)))
    }

    pub(crate) fn error(&self, field: &str, problem: impl Into<String>) -> DatasetError {
        DatasetError::Field {
            file: self.file.clone(),
            row: self.number,
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    fn absence(&self, field: &str) -> String {
        if self.cells.contains_key(field) {
            return "it is empty".to_owned();
        }
        let near = nearest(field, self.cells.keys().map(String::as_str));
        format!("it is missing{}", did_you_mean(&near))
    }

    /// Hashes the cells of some columns by name, the absent and null ones left out, whatever their order.
    pub(crate) fn sha256(&self, columns: &[&str]) -> Sha256Hex {
        let mut columns: Vec<&str> = columns.to_vec();
        columns.sort_unstable();
        let mut hash = Sha256::new();
        for column in columns {
            match self.get(column) {
                None => {}
                Some(Value::String(text)) => {
                    hash_parts(&mut hash, [column.as_bytes(), b"text", text.as_bytes()])
                }
                Some(other) => {
                    hash_parts(&mut hash, [column.as_bytes(), b"json", other.to_string().as_bytes()])
                }
            }
        }
        Sha256Hex::new(thresher_core::id::hex(&hash.finalize()))
    }
}

/// Lengths go in too, so that no two different rows give the same bytes.
fn hash_parts(hash: &mut Sha256, parts: [&[u8]; 3]) {
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
