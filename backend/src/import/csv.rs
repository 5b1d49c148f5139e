//! CSV with a header row that names the columns. Nothing between two commas is NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, Result};

use super::column::Column;
use super::{Decode, Misplaced, Target, batch_of, not_understood};

/// The most bytes in the header row.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Reads CSV as it arrives.
pub(super) struct Csv {
    target: Target,
    /// Bytes before the end of the header row.
    header: Vec<u8>,
    body: Option<Body>,
}

/// What is known after the header row.
struct Body {
    decoder: Decoder,
    /// The table's columns in the order of the file, and their types.
    columns: Vec<(usize, ColumnType)>,
    schema: SchemaRef,
    rows: u64,
    /// Bytes since a row ended.
    bytes_in_row: usize,
    capacity: usize,
}

impl Csv {
    pub(super) fn new(target: Target) -> Self {
        Self { target, header: Vec::new(), body: None }
    }

    /// Collects the header row, and reads on with what follows it.
    fn feed_header(&mut self, bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<()> {
        self.header.extend_from_slice(bytes);
        let Some(end) = end_of_record(&self.header) else {
            if self.header.len() > HEADER_BYTES_MAX {
                return Err(Error::invalid_input(format!("the header row has over {HEADER_BYTES_MAX} bytes")));
            }
            return Ok(());
        };
        let mut body = Body::new(&self.target, &self.header[..end])?;
        // The decoder reads the header row again, and skips it: so it counts lines as whoever wrote them does.
        body.feed(&self.target, &std::mem::take(&mut self.header), out)?;
        self.body = Some(body);
        Ok(())
    }
}

impl Decode for Csv {
    fn feed(&mut self, bytes: Bytes, out: &mut Vec<RecordBatch>) -> Result<()> {
        match &mut self.body {
            Some(body) => body.feed(&self.target, &bytes, out),
            None => self.feed_header(&bytes, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        if self.body.is_none() {
            // A header row without a line end: a file without rows.
            self.feed_header(b"\n", out)?;
        }
        let body = self.body.as_mut().ok_or_else(|| Error::invalid_input("the header row ends inside quotes"))?;
        body.end(&self.target)?;
        body.flush(&self.target, out)
    }
}

/// Where the first record ends, its line end included.
fn end_of_record(bytes: &[u8]) -> Option<usize> {
    let mut quoted = false;
    bytes
        .iter()
        .position(|byte| {
            quoted ^= *byte == b'"';
            *byte == b'\n' && !quoted
        })
        .map(|at| at + 1)
}

impl Body {
    fn new(target: &Target, header: &[u8]) -> Result<Self> {
        let header = header.strip_prefix("\u{feff}".as_bytes()).unwrap_or(header);
        let (named, _) = Format::default()
            .with_header(true)
            .infer_schema(header, Some(0))
            .map_err(|cause| not_understood("CSV header row", cause))?;
        let names: Vec<&str> = named.fields().iter().map(|field| field.name().as_str()).collect();
        if names.iter().all(|name| name.is_empty()) {
            return Err(Error::invalid_input("the CSV has no header row; its first line must name the columns"));
        }
        let columns = target.columns(&names)?;
        let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let decoder = arrow::csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
            .with_header(true)
            .with_batch_size(target.chunk_rows)
            .build_decoder();
        let capacity = decoder.capacity();
        let schema = target.schema_of(columns.iter().map(|(index, _)| *index));
        Ok(Self { decoder, columns, schema, rows: 0, bytes_in_row: 0, capacity })
    }

    fn feed(&mut self, target: &Target, mut bytes: &[u8], out: &mut Vec<RecordBatch>) -> Result<()> {
        while !bytes.is_empty() {
            let read = self.decode(target, bytes)?;
            bytes = &bytes[read..];
            if self.decoder.capacity() == 0 {
                self.flush(target, out)?;
            }
        }
        Ok(())
    }

    fn decode(&mut self, target: &Target, bytes: &[u8]) -> Result<usize> {
        let read = self.decoder.decode(bytes).map_err(|cause| not_understood("CSV", cause))?;
        self.bytes_in_row = if self.decoder.capacity() == self.capacity { self.bytes_in_row + read } else { 0 };
        self.capacity = self.decoder.capacity();
        if self.bytes_in_row > target.row_bytes_max {
            return Err(target.row_too_long(self.rows + 1));
        }
        Ok(read)
    }

    /// Ends the last row, which may have no line end of its own. A row that only the end of the body ends, and not
    /// the end of a line, is one that breaks off inside quotes.
    fn end(&mut self, target: &Target) -> Result<()> {
        let room = self.decoder.capacity();
        self.decode(target, b"\n")?;
        if self.decoder.capacity() == room {
            self.decode(target, &[])?;
            if self.decoder.capacity() < room {
                let row = self.rows + (target.chunk_rows - room) as u64 + 1;
                return Err(not_understood("CSV", format_args!("row {row} ends inside quotes")));
            }
        }
        Ok(())
    }

    fn flush(&mut self, target: &Target, out: &mut Vec<RecordBatch>) -> Result<()> {
        let texts = self.decoder.flush().map_err(|cause| not_understood("CSV", cause))?;
        self.capacity = self.decoder.capacity();
        let Some(texts) = texts else { return Ok(()) };
        let typed = self.columns.iter().zip(texts.columns());
        let typed = typed.map(|((index, column_type), array)| {
            typed_column(*column_type, array).map_err(|misplaced| target.misfit(self.rows, *index, misplaced))
        });
        let columns = typed.collect::<Result<Vec<_>>>()?;
        self.rows += texts.num_rows() as u64;
        out.push(batch_of(&self.schema, columns, texts.num_rows())?);
        Ok(())
    }
}

fn typed_column(column_type: ColumnType, texts: &ArrayRef) -> Result<ArrayRef, Misplaced> {
    if column_type == ColumnType::Text {
        return Ok(Arc::clone(texts));
    }
    text_column(column_type, texts)
}

/// Texts as another type.
pub(super) fn text_column(column_type: ColumnType, texts: &ArrayRef) -> Result<ArrayRef, Misplaced> {
    let texts = texts.as_string::<i32>();
    let mut column = Column::new(column_type);
    for row in 0..texts.len() {
        if texts.is_null(row) {
            column.append_null();
        } else {
            column.append_text(texts.value(row)).map_err(|_| Misplaced { row, value: texts.value(row).to_owned() })?;
        }
    }
    Ok(column.finish())
}

#[cfg(test)]
mod tests;
