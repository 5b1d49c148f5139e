//! Rows of cells, and their Arrow form. System tables are small and read seldom: clarity goes before speed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::types::{ColumnType, SchemaRef};

/// The columns of a system table, all of which may be NULL.
pub(super) type Columns = &'static [(&'static str, ColumnType)];

/// A row, in the order of the columns.
pub(super) type Row = Vec<Cell>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Cell {
    fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

pub(super) fn schema(columns: Columns) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(|(name, column_type)| column_type.field(name, true)).collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn batch(columns: Columns, rows: Vec<Row>) -> Result<RecordBatch> {
    let arrays = columns.iter().enumerate().map(|(at, (_, column_type))| array(*column_type, &rows, at)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
        .map_err(|error| Error::internal("a system table's rows do not fit its columns").with_source(error))
}

fn array(column_type: ColumnType, rows: &[Row], at: usize) -> ArrayRef {
    let cells = rows.iter().map(|row| row.get(at).unwrap_or(&Cell::Null));
    match column_type {
        ColumnType::Boolean => Arc::new(BooleanArray::from_iter(
            cells.map(|cell| if let Cell::Bool(truth) = cell { Some(*truth) } else { None }),
        )),
        ColumnType::Int => {
            Arc::new(Int32Array::from_iter(cells.map(|cell| cell.as_int().and_then(|n| i32::try_from(n).ok()))))
        }
        ColumnType::BigInt => Arc::new(Int64Array::from_iter(cells.map(Cell::as_int))),
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::from_iter(
            cells.map(|cell| if let Cell::Time(ms) = cell { ms.checked_mul(1_000) } else { None }),
        )),
        _ => Arc::new(StringArray::from_iter(cells.map(Cell::as_text))),
    }
}
