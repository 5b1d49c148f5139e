//! The bytes of a unique key's values.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use bytes::BufMut;

use crate::error::{Result, StoreError};
use crate::keys::put_terminated;

/// The values of a row's key columns as bytes; `None` if any of them is NULL, because NULL equals nothing.
///
/// Rows with equal values give equal bytes, other rows give other bytes, and no key's bytes are a prefix of
/// another's of the same columns. Whole numbers of every width are alike, and so are -0.0 and 0.0. The columns
/// must be of the Arrow types of column types.
pub fn key_bytes(columns: &[&ArrayRef], row: usize) -> Result<Option<Vec<u8>>> {
    let mut key = Vec::with_capacity(16 * columns.len());
    for column in columns {
        if row >= column.len() {
            return Err(StoreError::schema(format!("row {row} of a key column of {} rows", column.len())));
        }
        if column.is_null(row) {
            return Ok(None);
        }
        put_value(&mut key, column, row)?;
    }
    Ok(Some(key))
}

fn put_value(key: &mut Vec<u8>, column: &ArrayRef, row: usize) -> Result<()> {
    match column.data_type() {
        DataType::Boolean => key.put_u8(u8::from(column.as_boolean().value(row))),
        DataType::Int16 => put_whole(key, column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => put_whole(key, column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => put_whole(key, column.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => put_whole(key, column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Time64(TimeUnit::Microsecond) => {
            put_whole(key, column.as_primitive::<Time64MicrosecondType>().value(row));
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            put_whole(key, column.as_primitive::<TimestampMicrosecondType>().value(row));
        }
        DataType::Decimal128(..) => {
            let unscaled = column.as_primitive::<Decimal128Type>().value(row);
            key.put_u128((unscaled as u128) ^ (1 << 127));
        }
        DataType::Float32 => put_float(key, column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => put_float(key, column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => put_terminated(key, column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => put_terminated(key, column.as_binary::<i32>().value(row)),
        other => return Err(StoreError::schema(format!("a column of type {other} cannot be part of a key"))),
    }
    Ok(())
}

fn put_whole(key: &mut Vec<u8>, number: i64) {
    key.put_u64((number as u64) ^ (1 << 63));
}

/// In the order of the numbers, NaN last, one form each of zero and of NaN.
fn put_float(key: &mut Vec<u8>, number: f64) {
    let canonical = if number.is_nan() { f64::NAN.abs() } else { number + 0.0 };
    let bits = canonical.to_bits();
    key.put_u64(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 });
}
