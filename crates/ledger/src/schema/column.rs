//! What a column is, and its Arrow field.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// A column of a table whose rows come from values of type `R`: row number `usize` of an `R`.
pub(crate) struct Column<R: 'static> {
    pub(crate) id: i32,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nulls: Nulls,
    pub(crate) doc: &'static str,
    pub(crate) get: for<'a> fn(&'a R, usize) -> Cell<'a>,
}

/// Whether a column may hold nulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    Never,
    Allowed,
}

/// A column's type and how it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Short text: dictionary and statistics.
    Text,
    /// Long text of few distinct values, such as a prompt: dictionary, no statistics.
    Repeated,
    /// Long text: neither.
    Wide,
    Int32,
    Int64,
    Float32,
    Float64,
    Bool,
    Timestamp,
    /// Raw bytes, stored like [`Kind::Wide`].
    Binary,
    /// A list of texts; the id of its element.
    Texts(i32),
    /// A list of structs; the id of its element, and the fields.
    Structs(i32, &'static [Child]),
}

/// A field of a struct within a list. Nullable throughout, as readers expect of nested fields.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) id: i32,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// One value, borrowed from the record where it can be.
#[derive(Clone, Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Bytes(&'a [u8]),
    Texts(&'a [String]),
    /// One entry per element, each with one cell per field.
    Structs(Vec<Vec<Cell<'a>>>),
}

impl<'a> Cell<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(crate) fn word(word: impl Display) -> Self {
        Self::Text(Cow::Owned(word.to_string()))
    }

    pub(crate) fn owned(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }

    pub(crate) fn words<T: Display>(word: Option<T>) -> Self {
        word.map_or(Self::Null, Self::word)
    }

    pub(crate) fn texts(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// Counts and sizes are far below 2^63; one that is not is stored as the largest that is.
    pub(crate) fn count(count: impl TryInto<i64>) -> Self {
        Self::Int(count.try_into().unwrap_or(i64::MAX))
    }

    pub(crate) fn counts<T: TryInto<i64>>(count: Option<T>) -> Self {
        count.map_or(Self::Null, Self::count)
    }

    pub(crate) fn floats(number: Option<f64>) -> Self {
        number.map_or(Self::Null, Self::Float)
    }

    /// Bytes that the value takes before any encoding.
    pub(crate) fn raw_bytes(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Texts(texts) => texts.iter().map(|text| text.len() as u64).sum(),
            Self::Structs(elements) => elements.iter().flatten().map(Self::raw_bytes).sum(),
        }
    }
}

impl Kind {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Repeated | Self::Wide => DataType::Utf8,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Binary => DataType::Binary,
            Self::Texts(id) => DataType::List(element(id, DataType::Utf8)),
            Self::Structs(id, children) => {
                DataType::List(element(id, DataType::Struct(struct_fields(children))))
            }
        }
    }
}

/// The schema of `columns`.
pub(crate) fn arrow_schema<R>(columns: &[Column<R>]) -> Schema {
    let fields = columns
        .iter()
        .map(|column| field(column.id, column.name, column.kind.data_type(), column.nulls == Nulls::Allowed));
    Schema::new(fields.collect::<Vec<_>>())
}

pub(crate) fn struct_fields(children: &[Child]) -> Fields {
    children.iter().map(|child| field(child.id, child.name, child.kind.data_type(), true)).collect()
}

pub(crate) fn element(id: i32, data_type: DataType) -> Arc<Field> {
    Arc::new(field(id, "element", data_type, true))
}

fn field(id: i32, name: &str, data_type: DataType, nullable: bool) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

/// A column that never holds nulls.
pub(crate) const fn required<R>(
    id: i32,
    name: &'static str,
    kind: Kind,
    doc: &'static str,
    get: for<'a> fn(&'a R, usize) -> Cell<'a>,
) -> Column<R> {
    Column { id, name, kind, nulls: Nulls::Never, doc, get }
}

/// A column that may hold nulls.
pub(crate) const fn nullable<R>(
    id: i32,
    name: &'static str,
    kind: Kind,
    doc: &'static str,
    get: for<'a> fn(&'a R, usize) -> Cell<'a>,
) -> Column<R> {
    Column { id, name, kind, nulls: Nulls::Allowed, doc, get }
}
