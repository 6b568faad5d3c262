//! Cells to Arrow arrays.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, SchemaRef};

use super::column::{Cell, Child, Column, Kind, element, struct_fields};

/// Builds a batch of `rows`, each the `usize`th row of an `R`, and says how many bytes its values take unencoded.
///
/// A column that may not be null and is makes it fail: the writer enforces what the schema promises.
pub(crate) fn batch<R>(
    schema: SchemaRef,
    columns: &[Column<R>],
    rows: &[(&R, usize)],
) -> Result<(RecordBatch, u64), arrow_schema::ArrowError> {
    let mut raw_bytes = 0;
    let arrays = columns.iter().map(|column| {
        let cells: Vec<Cell<'_>> = rows.iter().map(|(of, row)| (column.get)(of, *row)).collect();
        raw_bytes += cells.iter().map(Cell::raw_bytes).sum::<u64>();
        array(column.kind, &cells)
    });
    let arrays = arrays.collect();
    Ok((RecordBatch::try_new(schema, arrays)?, raw_bytes))
}

fn array(kind: Kind, cells: &[Cell<'_>]) -> ArrayRef {
    match kind {
        Kind::Text | Kind::Repeated | Kind::Wide => Arc::new(StringArray::from_iter(cells.iter().map(text))),
        Kind::Int32 => Arc::new(Int32Array::from_iter(cells.iter().map(|cell| int(cell).map(clamp)))),
        Kind::Int64 => Arc::new(Int64Array::from_iter(cells.iter().map(int))),
        Kind::Timestamp => {
            let times = TimestampMicrosecondArray::from_iter(cells.iter().map(int));
            Arc::new(times.with_timezone("UTC"))
        }
        Kind::Float32 => Arc::new(Float32Array::from_iter(
            cells.iter().map(|cell| float(cell).map(|number| number as f32)),
        )),
        Kind::Float64 => Arc::new(Float64Array::from_iter(cells.iter().map(float))),
        Kind::Bool => Arc::new(BooleanArray::from_iter(cells.iter().map(boolean))),
        Kind::Binary => Arc::new(BinaryArray::from_iter(cells.iter().map(bytes))),
        Kind::Texts(id) => texts(id, cells),
        Kind::Structs(id, children) => structs(id, children, cells),
    }
}

fn texts(id: i32, cells: &[Cell<'_>]) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new()).with_field(element(id, DataType::Utf8));
    for cell in cells {
        match cell {
            Cell::Texts(texts) => list.append_value(texts.iter().map(Some)),
            _ => list.append_null(),
        }
    }
    Arc::new(list.finish())
}

fn structs(id: i32, children: &[Child], cells: &[Cell<'_>]) -> ArrayRef {
    let elements: Vec<&Vec<Cell<'_>>> = cells.iter().flat_map(elements_of).collect();
    let fields = struct_fields(children);
    let arrays = children.iter().enumerate().map(|(at, child)| {
        let column: Vec<Cell<'_>> = elements.iter().map(|element| element[at].clone()).collect();
        array(child.kind, &column)
    });
    let values = StructArray::try_new_with_length(fields.clone(), arrays.collect(), None, elements.len())
        .expect("each child has one value per element, of its field's type");
    let lengths = OffsetBuffer::from_lengths(cells.iter().map(|cell| elements_of(cell).len()));
    let present = NullBuffer::from_iter(cells.iter().map(|cell| matches!(cell, Cell::Structs(_))));
    let list =
        ListArray::new(element(id, DataType::Struct(fields)), lengths, Arc::new(values), Some(present));
    Arc::new(list)
}

fn elements_of<'c, 'a>(cell: &'c Cell<'a>) -> &'c [Vec<Cell<'a>>] {
    if let Cell::Structs(elements) = cell { elements } else { &[] }
}

fn text<'c>(cell: &'c Cell<'_>) -> Option<&'c str> {
    if let Cell::Text(text) = cell { Some(text) } else { None }
}

fn int(cell: &Cell<'_>) -> Option<i64> {
    if let Cell::Int(number) = cell { Some(*number) } else { None }
}

fn clamp(number: i64) -> i32 {
    number.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn float(cell: &Cell<'_>) -> Option<f64> {
    if let Cell::Float(number) = cell { Some(*number) } else { None }
}

fn boolean(cell: &Cell<'_>) -> Option<bool> {
    if let Cell::Bool(value) = cell { Some(*value) } else { None }
}

fn bytes<'c>(cell: &'c Cell<'_>) -> Option<&'c [u8]> {
    if let Cell::Bytes(bytes) = cell { Some(bytes) } else { None }
}
