//! Import: a body of rows into a table, chunk by chunk.
//!
//! The body is decoded as it arrives, and no faster than chunks are committed: a few pieces and two chunks are in
//! memory at a time. While one chunk commits the next is decoded. Each chunk is one atomic commit, in the order of
//! the body; a body that breaks off does not commit what it had begun. On an error everything before the failing
//! chunk is in, and the answer says how many rows that is.
//!
//! | module | reads |
//! |---|---|
//! | [`csv`] | `text/csv` |
//! | [`ndjson`] | `application/x-ndjson` |
//! | [`columnar`] | Arrow IPC streams, Parquet files |
//! | [`column`] | single values, strictly |

pub(crate) mod column;
mod columnar;
mod csv;
mod ndjson;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use bytes::Bytes;
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, Result};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The most bytes of one row of text.
const ROW_BYTES_MAX: usize = 16 << 20;
/// Chunks that wait between decoding and committing.
const CHUNKS_WAITING_MAX: usize = 1;

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Comma-separated values with a header row.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// An Arrow IPC stream.
    ArrowStream,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// By the media type, parameters aside.
    pub(crate) fn of_content_type(content_type: &str) -> Result<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "text/csv" => Ok(Self::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Ndjson),
            "application/vnd.apache.arrow.stream" => Ok(Self::ArrowStream),
            "application/vnd.apache.parquet" => Ok(Self::Parquet),
            _ => Err(Error::invalid_input(format!(
                "the Content-Type '{essence}' cannot be imported; allowed are text/csv, application/x-ndjson, \
                 application/vnd.apache.arrow.stream and application/vnd.apache.parquet"
            ))),
        }
    }
}

/// The table that rows go to, as decoding needs to know it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The user's columns.
    schema: SchemaRef,
    chunk_rows: usize,
    row_bytes_max: usize,
    message_bytes_max: usize,
}

/// A value that does not convert: its row within the batch, and how it was written.
#[derive(Debug)]
pub(crate) struct Misplaced {
    row: usize,
    value: String,
}

impl Target {
    /// A table with these columns.
    pub(crate) fn new(schema: SchemaRef, limits: &LimitSettings) -> Self {
        let message_bytes_max = limits.statement_bytes_max;
        Self { schema, chunk_rows: limits.chunk_rows, row_bytes_max: ROW_BYTES_MAX, message_bytes_max }
    }

    /// The table's columns by name, each at most once, with their types.
    fn columns(&self, names: &[&str]) -> Result<Vec<(usize, ColumnType)>> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let index = self.schema.index_of(name).map_err(|_| self.unknown_column(name))?;
            if columns.iter().any(|(known, _)| *known == index) {
                return Err(Error::invalid_input(format!("the column '{name}' is there twice")));
            }
            columns.push((index, self.column_type(index)?));
        }
        Ok(columns)
    }

    fn column_type(&self, index: usize) -> Result<ColumnType> {
        ColumnType::of_field(self.schema.field(index))
            .ok_or_else(|| Error::internal(format!("column {index} of the table has no column type")))
    }

    fn unknown_column(&self, name: &str) -> Error {
        if let Err(error) = SystemColumns::refuse_write(name) {
            return error;
        }
        let known: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        Error::execution(format!("the table has no column '{name}'; its columns are {}", known.join(", ")))
    }

    /// The schema of some of the columns, all nullable: the engine checks NOT NULL, after defaults.
    fn schema_of(&self, columns: impl Iterator<Item = usize>) -> SchemaRef {
        let fields = columns.map(|index| self.schema.field(index).clone().with_nullable(true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Names the row and column of a value that does not convert. `rows_before` are the rows before its batch.
    fn misfit(&self, rows_before: u64, column: usize, misplaced: Misplaced) -> Error {
        let field = self.schema.field(column);
        let expected = ColumnType::of_field(field).map_or_else(|| field.data_type().to_string(), |t| t.to_string());
        let row = rows_before + misplaced.row as u64 + 1;
        let value: String = misplaced.value.chars().take(64).collect();
        Error::execution(format!("row {row}, column '{}': '{value}' does not convert to {expected}", field.name()))
    }

    fn row_too_long(&self, row: u64) -> Error {
        Error::too_large(format!("row {row} has over {} bytes", self.row_bytes_max))
    }
}

/// What is not of the form that its Content-Type says.
fn not_understood(form: &str, cause: impl std::fmt::Display) -> Error {
    Error::invalid_input(format!("the body is not a valid {form}: {cause}"))
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|cause| Error::internal("imported columns do not fit together").with_source(cause))
}

/// Bytes to chunks. What is put out before an error is good.
trait Decode: Send {
    /// Takes the next bytes.
    fn feed(&mut self, bytes: Bytes, out: &mut Vec<RecordBatch>) -> Result<()>;
    /// The body is at its end.
    fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<()>;
}

/// A piece of the body. A channel that closes without an [`Piece::End`] is a client that went away.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// All of it was there.
    End,
    /// The body is too long or was cut.
    Broken(Error),
}

/// Where chunks go.
pub(crate) trait Rows: Send {
    /// Commits a chunk and says how many rows went in.
    fn write(&mut self, chunk: RecordBatch) -> impl Future<Output = Result<u64>> + Send;
}

/// How far an import came.
#[derive(Debug)]
pub(crate) struct Imported {
    /// Rows that are in.
    pub(crate) rows: u64,
    /// Why no more are.
    pub(crate) failure: Option<Error>,
}

impl Imported {
    /// Which rows are in, for the details of an error.
    pub(crate) fn rows_in(&self) -> String {
        match self.rows {
            0 => "no rows were imported".to_owned(),
            rows => format!("rows 1 to {rows} were imported"),
        }
    }
}

/// Reads a body and writes its rows. `spool_dir` is where a Parquet file waits until it is complete, because its
/// index is at its end.
pub(crate) async fn run(
    rows: &mut impl Rows,
    target: Target,
    format: Format,
    body: mpsc::Receiver<Piece>,
    spool_dir: &Path,
) -> Imported {
    let (chunks, mut decoded) = mpsc::channel(CHUNKS_WAITING_MAX);
    let decoding = match format {
        Format::Csv => tokio::spawn(decode(csv::Csv::new(target), body, chunks)),
        Format::Ndjson => tokio::spawn(decode(ndjson::Ndjson::new(target), body, chunks)),
        Format::ArrowStream => tokio::spawn(decode(columnar::ArrowStream::new(target), body, chunks)),
        Format::Parquet => tokio::spawn(decode_parquet(target, spool_dir.to_owned(), body, chunks)),
    };
    let decoding = AbortOnDropHandle::new(decoding);
    let mut written = 0;
    while let Some(chunk) = decoded.recv().await {
        match rows.write(chunk).await {
            Ok(rows) => written += rows,
            Err(error) => return Imported { rows: written, failure: Some(error) },
        }
    }
    // A decoder that panics was given bytes that claim to be what they are not.
    let outcome = decoding.await.unwrap_or_else(|panic| Err(not_understood("file of its type", panic)));
    Imported { rows: written, failure: outcome.err() }
}

async fn decode(
    mut decoder: impl Decode,
    mut body: mpsc::Receiver<Piece>,
    chunks: mpsc::Sender<RecordBatch>,
) -> Result<()> {
    let mut out = Vec::new();
    loop {
        let piece = body.recv().await.unwrap_or_else(|| Piece::Broken(broken_off()));
        let (outcome, is_end) = match piece {
            Piece::Data(bytes) => (decoder.feed(bytes, &mut out), false),
            Piece::End => (decoder.finish(&mut out), true),
            Piece::Broken(error) => (Err(error), true),
        };
        for chunk in out.drain(..) {
            if chunks.send(chunk).await.is_err() {
                // The writer has failed, and says why.
                return Ok(());
            }
        }
        outcome?;
        if is_end {
            return Ok(());
        }
    }
}

fn broken_off() -> Error {
    Error::new(kalamdb_commons::ErrorKind::Cancelled, "the client went away in the middle of the body")
}

async fn decode_parquet(
    target: Target,
    spool_dir: PathBuf,
    body: mpsc::Receiver<Piece>,
    chunks: mpsc::Sender<RecordBatch>,
) -> Result<()> {
    let file = spool(&spool_dir, body).await?;
    let reading = tokio::task::spawn_blocking(move || {
        columnar::read_parquet(target, file, |chunk| chunks.blocking_send(chunk).is_ok())
    });
    reading.await.unwrap_or_else(|panic| Err(not_understood("Parquet file", panic)))
}

/// Puts the body into a file that has no name and goes when it is closed.
async fn spool(directory: &Path, mut body: mpsc::Receiver<Piece>) -> Result<std::fs::File> {
    let failed = |cause: std::io::Error| Error::io("spooling the Parquet file failed").with_source(cause);
    tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(directory).map_err(failed)?);
    loop {
        match body.recv().await.unwrap_or_else(|| Piece::Broken(broken_off())) {
            Piece::Data(bytes) => file.write_all(&bytes).await.map_err(failed)?,
            Piece::End => break,
            Piece::Broken(error) => return Err(error),
        }
    }
    file.flush().await.map_err(failed)?;
    Ok(file.into_std().await)
}

#[cfg(test)]
mod tests;
