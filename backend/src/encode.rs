//! Arrow to the cells of the wire (wire-protocol.md, section 2): JSON bytes written straight from the arrays.
//!
//! Every Arrow type has a `data_type` and a form; clients reject an answer with one that they do not know.
//! 64-bit integers and decimals are strings, so that no client rounds them; times of any unit are microsecond
//! numbers, dates day numbers; NaN and infinities are null; lists, structs and maps are JSON values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, PrimitiveArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, ByteArrayType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DecimalType, Field, FieldRef, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::ColumnFlags;
use serde::Serialize;
use serde_json::{Value, json};

/// Writes one value as JSON.
pub(crate) fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).unwrap_or_else(|_| unreachable!("plain values, written to memory"));
}

/// The `data_type` of a column.
pub(crate) fn data_type(field: &Field) -> Value {
    let Some(column_type) = ColumnType::of_field(field) else {
        return json!(if field.data_type().is_nested() { "Json" } else { "Text" });
    };
    match column_type {
        ColumnType::Boolean => json!("Boolean"),
        ColumnType::SmallInt => json!("SmallInt"),
        ColumnType::Int => json!("Int"),
        ColumnType::BigInt => json!("BigInt"),
        ColumnType::Float => json!("Float"),
        ColumnType::Double => json!("Double"),
        ColumnType::Text => json!("Text"),
        ColumnType::Timestamp => json!("Timestamp"),
        ColumnType::Date => json!("Date"),
        ColumnType::DateTime => json!("DateTime"),
        ColumnType::Time => json!("Time"),
        ColumnType::Json => json!("Json"),
        ColumnType::Bytes => json!("Bytes"),
        ColumnType::Uuid => json!("Uuid"),
        ColumnType::Decimal(precision, scale) => json!({"Decimal": {"precision": precision, "scale": scale}}),
    }
}

/// Writes the `schema` of a result.
pub(crate) fn write_schema(schema: &SchemaRef, flags: &[ColumnFlags], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, field) in schema.fields().iter().enumerate() {
        separate(index, out);
        out.extend_from_slice(b"{\"name\":");
        write_json(field.name(), out);
        out.extend_from_slice(b",\"data_type\":");
        write_json(&data_type(field), out);
        out.extend_from_slice(b",\"index\":");
        write_json(&index, out);
        let flags = flags.get(index).map_or(Vec::new(), |flags| flag_words(*flags));
        if !flags.is_empty() {
            out.extend_from_slice(b",\"flags\":");
            write_json(&flags, out);
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn flag_words(flags: ColumnFlags) -> Vec<&'static str> {
    let words = [(flags.primary_key, "pk"), (flags.not_null, "nn"), (flags.unique, "uq")];
    words.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect()
}

/// A comma before all but the first.
pub(crate) fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// The columns of a batch, ready to be written row by row.
pub(crate) struct RowWriter {
    rows: usize,
    columns: Vec<CellWriter>,
}

impl RowWriter {
    /// Looks at each column once.
    pub(crate) fn new(schema: &SchemaRef, batch: &RecordBatch) -> Result<Self> {
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| CellWriter::new(field, array)).collect::<Result<_>>()?;
        Ok(Self { rows: batch.num_rows(), columns })
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Writes a row as an object. The names are those that [`names`] gives for the columns.
    pub(crate) fn write_object(&self, names: &[Vec<u8>], row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (column, name)) in self.columns.iter().zip(names).enumerate() {
            separate(index, out);
            out.extend_from_slice(name);
            column.write(row, out);
        }
        out.push(b'}');
    }

    /// Writes a row as an array.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, column) in self.columns.iter().enumerate() {
            separate(index, out);
            column.write(row, out);
        }
        out.push(b']');
    }
}

/// The names of columns, each as JSON with the colon after it.
pub(crate) fn names<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> Vec<Vec<u8>> {
    let name = |field: &'a FieldRef| {
        let mut out = Vec::with_capacity(field.name().len() + 3);
        write_json(field.name(), &mut out);
        out.push(b':');
        out
    };
    fields.into_iter().map(name).collect()
}

/// Writes one value.
pub(crate) fn write_cell(field: &FieldRef, values: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<()> {
    CellWriter::new(field, &values.slice(row, 1))?.write(0, out);
    Ok(())
}

type WriteCell = Box<dyn Fn(usize, &mut Vec<u8>) + Send + Sync>;

/// Writes the cells of one column.
struct CellWriter {
    nulls: Option<NullBuffer>,
    cell: WriteCell,
}

impl CellWriter {
    fn new(field: &FieldRef, array: &ArrayRef) -> Result<Self> {
        let array = plain(array)?;
        Ok(Self { nulls: array.logical_nulls(), cell: cell_writer(field, &array)? })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
        } else {
            (self.cell)(row, out);
        }
    }
}

/// A dictionary or run-end encoded array as the array of its values.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let values = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        DataType::RunEndEncoded(_, values) => values.data_type(),
        _ => return Ok(Arc::clone(array)),
    };
    let cast =
        arrow::compute::cast(array, values).map_err(|cause| cannot_encode(array.data_type()).with_source(cause))?;
    plain(&cast)
}

fn cannot_encode(data_type: &DataType) -> Error {
    Error::internal(format!("a column of type {data_type} cannot be encoded"))
}

fn cell_writer(field: &FieldRef, array: &ArrayRef) -> Result<WriteCell> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| out.extend_from_slice(b"null")),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }))
        }
        DataType::Int8 => number::<Int8Type>(array),
        DataType::Int16 => number::<Int16Type>(array),
        DataType::Int32 => number::<Int32Type>(array),
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::Int64 => quoted::<Int64Type>(array),
        DataType::UInt64 => quoted::<UInt64Type>(array),
        DataType::Float16 => mapped::<Float16Type, _>(array, f32::from),
        // serde_json writes what is not finite as null.
        DataType::Float32 => number::<Float32Type>(array),
        DataType::Float64 => number::<Float64Type>(array),
        DataType::Decimal32(_, _) => decimal::<Decimal32Type>(array),
        DataType::Decimal64(_, _) => decimal::<Decimal64Type>(array),
        DataType::Decimal128(_, _) => decimal::<Decimal128Type>(array),
        DataType::Decimal256(_, _) => decimal::<Decimal256Type>(array),
        DataType::Date32 => number::<Date32Type>(array),
        DataType::Date64 => mapped::<Date64Type, _>(array, |ms| ms.div_euclid(86_400_000)),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(_, _) => micros(array)?,
        DataType::Utf8 => text(array.as_string::<i32>()),
        DataType::LargeUtf8 => text(array.as_string::<i64>()),
        DataType::Utf8View => {
            let values = array.as_string_view().clone();
            Box::new(move |row, out| write_json(values.value(row), out))
        }
        DataType::Binary => bytes(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>()),
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row, out| write_base64(values.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary().clone();
            Box::new(move |row, out| write_base64(values.value(row), out))
        }
        nested if nested.is_nested() => nested_json(field, array).or_else(|_| displayed(array))?,
        _ => displayed(array)?,
    })
}

fn number<T: ArrowPrimitiveType>(array: &ArrayRef) -> WriteCell
where
    T::Native: Serialize,
{
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write_json(&values.value(row), out))
}

fn quoted<T: ArrowPrimitiveType>(array: &ArrayRef) -> WriteCell
where
    T::Native: Serialize,
{
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        out.push(b'"');
        write_json(&values.value(row), out);
        out.push(b'"');
    })
}

fn mapped<T: ArrowPrimitiveType, R: Serialize + 'static>(array: &ArrayRef, map: fn(T::Native) -> R) -> WriteCell {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write_json(&map(values.value(row)), out))
}

fn decimal<T: DecimalType>(array: &ArrayRef) -> WriteCell {
    let values: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write_json(&values.value_as_string(row), out))
}

/// Times of every unit as microseconds, rounded towards the past.
fn micros(array: &ArrayRef) -> Result<WriteCell> {
    Ok(match array.data_type() {
        DataType::Time32(TimeUnit::Second) => mapped::<Time32SecondType, _>(array, |s| i64::from(s) * 1_000_000),
        DataType::Time32(_) => mapped::<Time32MillisecondType, _>(array, |ms| i64::from(ms) * 1_000),
        DataType::Time64(TimeUnit::Nanosecond) => mapped::<Time64NanosecondType, _>(array, |ns| ns.div_euclid(1_000)),
        DataType::Time64(_) => number::<Time64MicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Second, _) => {
            mapped::<TimestampSecondType, _>(array, |s| s.saturating_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            mapped::<TimestampMillisecondType, _>(array, |ms| ms.saturating_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => number::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            mapped::<TimestampNanosecondType, _>(array, |ns| ns.div_euclid(1_000))
        }
        other => return Err(cannot_encode(other)),
    })
}

fn text<T: ByteArrayType<Native = str>>(array: &GenericByteArray<T>) -> WriteCell {
    let values = array.clone();
    Box::new(move |row, out| write_json(values.value(row), out))
}

fn bytes<T: ByteArrayType<Native = [u8]>>(array: &GenericByteArray<T>) -> WriteCell {
    let values = array.clone();
    Box::new(move |row, out| write_base64(values.value(row), out))
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or_else(|_| unreachable!("room for all of it"));
    out.truncate(start + written);
    out.push(b'"');
}

/// Lists, structs and maps as JSON values, written once for the whole batch.
fn nested_json(field: &FieldRef, array: &ArrayRef) -> Result<WriteCell> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, array.as_ref(), &options)
        .map_err(|cause| cannot_encode(array.data_type()).with_source(cause))?;
    let mut written = Vec::new();
    let mut ends = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        if !encoder.is_null(row) {
            encoder.encode(row, &mut written);
        }
        ends.push(written.len());
    }
    Ok(Box::new(move |row, out| {
        let start = if row == 0 { 0 } else { ends[row - 1] };
        out.extend_from_slice(&written[start..ends[row]]);
    }))
}

/// Durations, intervals and whatever else there is, as Arrow shows it.
fn displayed(array: &ArrayRef) -> Result<WriteCell> {
    let failed = |cause| cannot_encode(array.data_type()).with_source(cause);
    let options = FormatOptions::default().with_display_error(true);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(failed)?;
    let shown: Vec<String> = (0..array.len()).map(|row| formatter.value(row).to_string()).collect();
    Ok(Box::new(move |row, out| write_json(&shown[row], out)))
}

#[cfg(test)]
mod tests;
