//! One Arrow cell as a JSON value, so that families see the same row whatever the file's format.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, MapArray, StructArray};
use arrow_schema::DataType;
use serde_json::{Map, Value};

/// Converts the cell at `row`; the error says what its type cannot do.
pub(crate) fn json(array: &dyn Array, row: usize) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Binary => text(array.as_binary::<i32>().value(row))?,
        DataType::LargeBinary => text(array.as_binary::<i64>().value(row))?,
        DataType::BinaryView => text(array.as_binary_view().value(row))?,
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(_) => object(array.as_struct(), row)?,
        DataType::Map(..) => map(array.as_map(), row)?,
        DataType::Dictionary(..) => dictionary(array, row)?,
        other => number(array, row).ok_or_else(|| format!("has the type {other}, which is not read"))?,
    })
}

fn text(bytes: &[u8]) -> Result<Value, String> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| "holds bytes that are not UTF-8".to_owned())
}

fn number(array: &dyn Array, row: usize) -> Option<Value> {
    fn cell<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Value
    where
        Value: From<T::Native>,
    {
        array.as_primitive::<T>().value(row).into()
    }
    Some(match array.data_type() {
        DataType::Int8 => cell::<Int8Type>(array, row),
        DataType::Int16 => cell::<Int16Type>(array, row),
        DataType::Int32 => cell::<Int32Type>(array, row),
        DataType::Int64 => cell::<Int64Type>(array, row),
        DataType::UInt8 => cell::<UInt8Type>(array, row),
        DataType::UInt16 => cell::<UInt16Type>(array, row),
        DataType::UInt32 => cell::<UInt32Type>(array, row),
        DataType::UInt64 => cell::<UInt64Type>(array, row),
        DataType::Float32 => cell::<Float32Type>(array, row),
        DataType::Float64 => cell::<Float64Type>(array, row),
        _ => return None,
    })
}

fn list(items: &dyn Array) -> Result<Value, String> {
    (0..items.len()).map(|at| json(items, at)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn object(array: &StructArray, row: usize) -> Result<Value, String> {
    let names = array.column_names().into_iter().map(str::to_owned);
    let cells = names.zip(array.columns()).map(|(name, column)| Ok((name, json(column, row)?)));
    cells.collect::<Result<Map<_, _>, String>>().map(Value::Object)
}

fn map(array: &MapArray, row: usize) -> Result<Value, String> {
    let entries = array.value(row);
    let entry = |at| match json(entries.column(0), at)? {
        Value::String(key) => Ok((key, json(entries.column(1), at)?)),
        _ => Err("is a map whose keys are not texts".to_owned()),
    };
    (0..entries.len()).map(entry).collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn dictionary(array: &dyn Array, row: usize) -> Result<Value, String> {
    let dictionary = array.as_any_dictionary();
    let key = dictionary.normalized_keys().get(row).copied().unwrap_or_default();
    json(dictionary.values(), key)
}
