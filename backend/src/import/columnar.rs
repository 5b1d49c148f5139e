//! Columns that are Arrow already: IPC streams and Parquet files, their types converted strictly to the table's.
//!
//! Arrow's own cast decides, except where it would lose something without a word (a fraction in a whole number)
//! and where it knows less than we do (text as times, UUIDs, bytes and JSON; nested values as JSON).

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{BatchCoalescer, CastOptions, can_cast_types, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamDecoder;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::csv::text_column;
use super::{Decode, Misplaced, Target, not_understood};
use crate::encode::RowWriter;

/// Converts batches of one schema to the table's types, and cuts them into chunks.
pub(super) struct Conversion {
    target: Target,
    source: SchemaRef,
    /// The table's column of each column.
    columns: Vec<(usize, ColumnType)>,
    schema: SchemaRef,
    chunks: BatchCoalescer,
    rows: u64,
}

impl Conversion {
    fn new(target: Target, source: SchemaRef) -> Result<Self> {
        let names: Vec<&str> = source.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = target.columns(&names)?;
        let schema = target.schema_of(columns.iter().map(|(index, _)| *index));
        let chunks = BatchCoalescer::new(Arc::clone(&schema), target.chunk_rows);
        Ok(Self { target, source, columns, schema, chunks, rows: 0 })
    }

    fn add(&mut self, batch: &RecordBatch, out: &mut Vec<RecordBatch>) -> Result<()> {
        let converted = self.columns.iter().zip(self.source.fields()).zip(batch.columns());
        let converted = converted.map(|(((index, column_type), field), array)| {
            convert(field, array, *column_type).map_err(|refusal| match refusal {
                Refusal::Type => Error::invalid_input(format!(
                    "column '{}': {} does not convert to {column_type}",
                    field.name(),
                    array.data_type()
                )),
                Refusal::Value(misplaced) => self.target.misfit(self.rows, *index, misplaced),
            })
        });
        let columns = converted.collect::<Result<Vec<_>>>()?;
        let converted = super::batch_of(&self.schema, columns, batch.num_rows())?;
        self.rows += batch.num_rows() as u64;
        self.chunks.push_batch(converted).map_err(failed)?;
        self.take(out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        self.chunks.finish_buffered_batch().map_err(failed)?;
        self.take(out);
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<RecordBatch>) {
        while let Some(chunk) = self.chunks.next_completed_batch() {
            out.push(chunk);
        }
    }
}

fn failed(cause: arrow::error::ArrowError) -> Error {
    Error::internal("cutting imported batches into chunks failed").with_source(cause)
}

/// Why a column is refused.
enum Refusal {
    /// No value of the type ever converts.
    Type,
    /// This one does not.
    Value(Misplaced),
}

fn convert(field: &Arc<Field>, array: &ArrayRef, column_type: ColumnType) -> Result<ArrayRef, Refusal> {
    let wanted = column_type.arrow();
    let is_as_stored = !matches!(column_type, ColumnType::Uuid | ColumnType::Json);
    match array.data_type() {
        found if *found == wanted && is_as_stored => Ok(Arc::clone(array)),
        DataType::Dictionary(_, values) => {
            convert(field, &cast(array, values).map_err(|_| Refusal::Type)?, column_type)
        }
        DataType::RunEndEncoded(_, values) => {
            convert(field, &cast(array, values.data_type()).map_err(|_| Refusal::Type)?, column_type)
        }
        DataType::LargeUtf8 | DataType::Utf8View => {
            convert(field, &cast(array, &DataType::Utf8).map_err(|_| Refusal::Type)?, column_type)
        }
        DataType::Utf8 => text_column(column_type, array).map_err(Refusal::Value),
        DataType::FixedSizeBinary(16) if column_type == ColumnType::Uuid => Ok(uuids(array)),
        nested if nested.is_nested() && column_type == ColumnType::Json => json(field, array),
        found if is_as_stored && can_cast_types(found, &wanted) => checked_cast(array, &wanted),
        DataType::Null => cast(array, &wanted).map_err(|_| Refusal::Type),
        _ => Err(Refusal::Type),
    }
}

fn uuids(array: &ArrayRef) -> ArrayRef {
    let text = |bytes: &[u8]| uuid::Uuid::from_slice(bytes).map(|uuid| uuid.hyphenated().to_string()).ok();
    let texts = array.as_fixed_size_binary().iter().map(|bytes| bytes.and_then(text));
    Arc::new(texts.collect::<arrow::array::StringArray>())
}

/// Nested values as JSON text, as answers write them.
fn json(field: &Arc<Field>, array: &ArrayRef) -> Result<ArrayRef, Refusal> {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(array)]).map_err(|_| Refusal::Type)?;
    let writer = RowWriter::new(&schema, &batch).map_err(|_| Refusal::Type)?;
    let mut written = Vec::new();
    let texts = (0..array.len()).map(|row| {
        written.clear();
        writer.write(row, &mut written);
        // The one cell stands in brackets.
        let cell = &written[1..written.len() - 1];
        array.is_valid(row).then(|| String::from_utf8_lossy(cell).into_owned())
    });
    Ok(Arc::new(texts.collect::<arrow::array::StringArray>()))
}

/// Casts, and finds the first value that was lost on the way.
fn checked_cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, Refusal> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let result = cast_with_options(array, wanted, &options).map_err(|_| Refusal::Type)?;
    let lost = (0..array.len()).find(|row| result.is_null(*row) && array.is_valid(*row));
    let lost =
        lost.or_else(|| if may_truncate(array.data_type(), wanted) { first_changed(array, &result) } else { None });
    match lost {
        None => Ok(result),
        Some(row) => {
            let value = array_value_to_string(array, row).unwrap_or_default();
            Err(Refusal::Value(Misplaced { row, value }))
        }
    }
}

/// Whether the cast drops fractions or bits silently.
fn may_truncate(from: &DataType, to: &DataType) -> bool {
    (from.is_floating() || from.is_decimal()) && to.is_integer()
}

/// The first value that does not come back when it is cast back.
fn first_changed(array: &ArrayRef, result: &ArrayRef) -> Option<usize> {
    let back = cast(result, array.data_type()).ok()?;
    let same: BooleanArray = not_distinct(&back, array).ok()?;
    (0..same.len()).find(|row| !same.value(*row))
}

/// An Arrow IPC stream, read as it arrives.
pub(super) struct ArrowStream {
    target: Target,
    decoder: StreamDecoder,
    conversion: Option<Conversion>,
    /// Bytes since the last batch.
    bytes_in_message: usize,
}

impl ArrowStream {
    pub(super) fn new(target: Target) -> Self {
        Self { target, decoder: StreamDecoder::new(), conversion: None, bytes_in_message: 0 }
    }

    fn conversion(&mut self) -> Result<Option<&mut Conversion>> {
        if let (None, Some(schema)) = (&self.conversion, self.decoder.schema()) {
            self.conversion = Some(Conversion::new(self.target.clone(), schema)?);
        }
        Ok(self.conversion.as_mut())
    }
}

impl Decode for ArrowStream {
    fn feed(&mut self, bytes: Bytes, out: &mut Vec<RecordBatch>) -> Result<()> {
        self.bytes_in_message += bytes.len();
        let mut buffer = Buffer::from(bytes);
        while !buffer.is_empty() {
            let batch = self.decoder.decode(&mut buffer).map_err(|cause| not_understood("Arrow IPC stream", cause))?;
            let conversion = self.conversion()?;
            if let (Some(batch), Some(conversion)) = (batch, conversion) {
                conversion.add(&batch, out)?;
                self.bytes_in_message = buffer.len();
            }
        }
        if self.bytes_in_message > self.target.message_bytes_max {
            let max = self.target.message_bytes_max;
            return Err(Error::too_large(format!(
                "a batch of the Arrow IPC stream has over {max} bytes; make it smaller"
            )));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        self.decoder.finish().map_err(|cause| not_understood("Arrow IPC stream", cause))?;
        match self.conversion()? {
            Some(conversion) => conversion.finish(out),
            None => Err(Error::invalid_input("the Arrow IPC stream has no schema")),
        }
    }
}

/// Reads a whole Parquet file and hands its chunks on, until `give` says that nobody takes more. Blocking.
pub(super) fn read_parquet(target: Target, file: File, mut give: impl FnMut(RecordBatch) -> bool) -> Result<()> {
    let not_parquet = |cause: parquet::errors::ParquetError| not_understood("Parquet file", cause);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(not_parquet)?;
    let mut conversion = Conversion::new(target.clone(), Arc::clone(builder.schema()))?;
    let reader = builder.with_batch_size(target.chunk_rows).build().map_err(not_parquet)?;
    let mut chunks = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|cause| not_understood("Parquet file", cause))?;
        let outcome = conversion.add(&batch, &mut chunks);
        if !chunks.drain(..).all(&mut give) {
            return Ok(());
        }
        outcome?;
    }
    conversion.finish(&mut chunks)?;
    let _all_taken = chunks.drain(..).all(&mut give);
    Ok(())
}

#[cfg(test)]
mod tests;
