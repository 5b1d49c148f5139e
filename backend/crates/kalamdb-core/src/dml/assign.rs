//! Assignment: values of any type into a column of a given type, with PostgreSQL's idea of which conversions happen
//! by themselves. A value that does not convert is an error that names it, never a NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Float64Type};
use kalamdb_commons::schema::Column;
use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{Error, Result};

/// Converts an array into a column's Arrow type.
pub(crate) fn to_column(values: &ArrayRef, column: &Column) -> Result<ArrayRef> {
    let target = column.column_type.arrow();
    let source = values.data_type();
    if source.is_null() {
        return Ok(new_null_array(&target, values.len()));
    }
    if let DataType::Dictionary(_, inner) = source {
        return to_column(&cast(values, inner).map_err(|error| failed(column, error))?, column);
    }
    if matches!(source, DataType::LargeUtf8 | DataType::Utf8View) {
        return to_column(&cast(values, &DataType::Utf8).map_err(|error| failed(column, error))?, column);
    }
    if *source == DataType::Utf8 {
        return from_text(values.as_string::<i32>(), column);
    }
    if !converts(source, column.column_type) {
        return Err(Error::execution(format!(
            "column '{}' is of type {} but the value is of type {source}",
            column.name, column.column_type
        )));
    }
    if *source == target {
        return Ok(values.clone());
    }
    if target.is_integer() && (source.is_floating() || source.is_decimal()) {
        return strict(&rounded(values, column)?, &target, column);
    }
    strict(values, &target, column)
}

/// Whether an assignment converts by itself.
fn converts(source: &DataType, target: ColumnType) -> bool {
    use ColumnType as T;
    let temporal = matches!(target, T::Date | T::Time | T::Timestamp | T::DateTime);
    match source {
        DataType::Boolean => matches!(target, T::Boolean | T::Text),
        // Integers are what the wire shows of temporal values: days or microseconds.
        _ if source.is_integer() => !matches!(target, T::Boolean | T::Bytes | T::Uuid),
        _ if source.is_numeric() => !temporal && !matches!(target, T::Boolean | T::Bytes | T::Uuid),
        DataType::Date32 | DataType::Date64 => matches!(target, T::Date | T::Timestamp | T::DateTime | T::Text),
        DataType::Time32(_) | DataType::Time64(_) => matches!(target, T::Time | T::Text),
        DataType::Timestamp(..) => {
            matches!(target, T::Timestamp | T::DateTime | T::Date | T::Time | T::Text | T::BigInt)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            target == T::Bytes
        }
        _ => false,
    }
}

fn strict(values: &ArrayRef, target: &DataType, column: &Column) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(values, target, &options).map_err(|error| failed(column, error))
}

fn failed(column: &Column, error: impl std::fmt::Display) -> Error {
    Error::execution(format!("a value does not fit column '{}' of type {}: {error}", column.name, column.column_type))
}

/// Fractions become whole numbers by rounding, as in PostgreSQL.
fn rounded(values: &ArrayRef, column: &Column) -> Result<ArrayRef> {
    if values.data_type().is_decimal() {
        return strict(values, &DataType::Decimal128(38, 0), column);
    }
    let floats = strict(values, &DataType::Float64, column)?;
    let rounded: Float64Array = floats.as_primitive::<Float64Type>().unary(f64::round_ties_even);
    Ok(Arc::new(rounded))
}

fn from_text(values: &StringArray, column: &Column) -> Result<ArrayRef> {
    let refuse = |text: &str, why: &dyn std::fmt::Display| {
        let shown: String = text.chars().take(60).collect();
        Error::execution(format!(
            "invalid value for column '{}' of type {}: '{shown}' ({why})",
            column.name, column.column_type
        ))
    };
    match column.column_type {
        ColumnType::Text => Ok(Arc::new(values.clone())),
        ColumnType::Json => {
            for text in values.iter().flatten() {
                serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| refuse(text, &error))?;
            }
            Ok(Arc::new(values.clone()))
        }
        ColumnType::Uuid => {
            let parse = |text: &str| {
                uuid::Uuid::try_parse(text).map(|uuid| uuid.hyphenated().to_string()).map_err(|e| refuse(text, &e))
            };
            let parsed: StringArray = values.iter().map(|text| text.map(parse).transpose()).collect::<Result<_>>()?;
            Ok(Arc::new(parsed))
        }
        ColumnType::Bytes => {
            let parsed: Vec<Option<Vec<u8>>> = values
                .iter()
                .map(|text| text.map(|text| bytes_of(text, &refuse)).transpose())
                .collect::<Result<_>>()?;
            Ok(Arc::new(parsed.iter().map(Option::as_deref).collect::<BinaryArray>()))
        }
        _ => {
            let target = column.column_type.arrow();
            let array: ArrayRef = Arc::new(values.clone());
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&array, &target, &options).map_err(|error| {
                // Arrow does not always say which value it was: find it.
                let bad = (0..values.len()).find(|row| {
                    values.is_valid(*row) && cast_with_options(&array.slice(*row, 1), &target, &options).is_err()
                });
                match bad {
                    Some(row) => refuse(values.value(row), &"it does not read as that type"),
                    None => failed(column, error),
                }
            })
        }
    }
}

/// Text into bytes: `\x` and hex digits, or the text's own bytes.
fn bytes_of(text: &str, refuse: &dyn Fn(&str, &dyn std::fmt::Display) -> Error) -> Result<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else { return Ok(text.as_bytes().to_vec()) };
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
        _ => Err(refuse(text, &"after \\x there must be pairs of hex digits")),
    }
}

#[cfg(test)]
mod tests;
