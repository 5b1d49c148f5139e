//! Rows of five columns, the same for a number in every run, as SQL text, CSV and Arrow.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;

use crate::Result;

/// The type of a CSV body.
pub(crate) const CSV: &str = "text/csv";
/// The type of an Arrow body.
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Rows in one batch of an Arrow body.
const ARROW_BATCH_ROWS: usize = 10_000;

/// CREATE TABLE of the five columns, with a primary key on the first or without.
pub(crate) fn create(table: &str, keyed: bool) -> String {
    let key = if keyed { " PRIMARY KEY" } else { "" };
    format!("CREATE SHARED TABLE {table} (id BIGINT{key}, kind INT, price DOUBLE, name TEXT, active BOOLEAN)")
}

/// The `id` of row `n`: different for each `n`, and spread over the whole range, so that every batch spans it.
pub(crate) fn id(n: u64) -> i64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) & ((1 << 62) - 1)) as i64
}

struct Row {
    id: i64,
    kind: i32,
    price: f64,
    name: String,
    active: bool,
}

fn row(n: u64) -> Row {
    let mut mixed = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    Row {
        id: id(n),
        kind: (mixed % 100) as i32,
        price: (mixed >> 8 & 0xF_FFFF) as f64 / 100.0,
        name: format!("customer {:08}", mixed >> 20 & 0xFF_FFFF),
        active: mixed >> 63 == 1,
    }
}

/// One INSERT of the rows of a range.
pub(crate) fn insert(table: &str, rows: Range<u64>) -> Result<String> {
    let mut sql = format!("INSERT INTO {table} (id, kind, price, name, active) VALUES ");
    for n in rows.clone() {
        let Row { id, kind, price, name, active } = row(n);
        let comma = if n == rows.start { "" } else { ", " };
        write!(sql, "{comma}({id}, {kind}, {price}, '{name}', {active})")?;
    }
    Ok(sql)
}

/// A range as CSV.
pub(crate) fn csv(rows: Range<u64>) -> Result<Vec<u8>> {
    let mut text = "id,kind,price,name,active\n".to_owned();
    for n in rows {
        let Row { id, kind, price, name, active } = row(n);
        writeln!(text, "{id},{kind},{price},{name},{active}")?;
    }
    Ok(text.into_bytes())
}

/// A range as an Arrow IPC stream.
pub(crate) fn arrow(rows: Range<u64>) -> Result<Vec<u8>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("kind", DataType::Int32, true),
        Field::new("price", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("active", DataType::Boolean, true),
    ]));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for start in rows.clone().step_by(ARROW_BATCH_ROWS) {
        let end = rows.end.min(start + ARROW_BATCH_ROWS as u64);
        let part: Vec<Row> = (start..end).map(row).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(part.iter().map(|row| row.id).collect::<Int64Array>()),
            Arc::new(part.iter().map(|row| row.kind).collect::<Int32Array>()),
            Arc::new(part.iter().map(|row| row.price).collect::<Float64Array>()),
            Arc::new(part.iter().map(|row| Some(row.name.as_str())).collect::<StringArray>()),
            Arc::new(part.iter().map(|row| Some(row.active)).collect::<BooleanArray>()),
        ];
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    Ok(writer.into_inner()?)
}
