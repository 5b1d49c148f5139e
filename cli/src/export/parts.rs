//! Rows as Parquet. A Parquet file cannot be gone on with, so each page is a file of its own until all are there; then
//! they become one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Page, Sink};
use crate::failure::Failure;
use crate::session::Session;

/// A directory of parts.
pub(super) struct Parts {
    directory: PathBuf,
    count: u64,
    namespace: Option<String>,
}

impl Parts {
    /// The first `count` parts count; what is there beside them is written over.
    pub(super) fn open(directory: &Path, count: u64, namespace: Option<String>) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), count, namespace })
    }

    fn part(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:08}.parquet"))
    }
}

impl Sink for Parts {
    fn page(&mut self, session: &mut Session, sql: &str) -> Result<Page, Failure> {
        let bytes = session.client.arrow(sql, self.namespace.as_deref())?;
        let unreadable = |error: ArrowError| Failure::Protocol(format!("the server's answer is not readable: {error}"));
        let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(unreadable)?;
        let whole = reader.schema();
        let schema = project(&whole).map_err(unreadable)?;
        let path = self.part(self.count + 1);
        let failed = |source| Failure::File { path: path.display().to_string(), source };
        let mut writer = writer(&path, &schema).map_err(failed)?;
        let mut page = Page { rows: 0, last: None };
        for batch in reader {
            let batch = batch.map_err(unreadable)?;
            let ids = batch.column(0).as_primitive_opt::<Int64Type>();
            page.last = ids.and_then(|ids| ids.values().last().copied()).or(page.last);
            page.rows += batch.num_rows() as u64;
            let columns = RecordBatch::try_new(schema.clone(), batch.columns()[1..].to_vec()).map_err(unreadable)?;
            writer.write(&columns).map_err(|error| failed(io::Error::other(error)))?;
        }
        finish(writer).map_err(failed)?;
        self.count += 1;
        Ok(page)
    }

    fn length(&self) -> u64 {
        self.count
    }

    fn end(self: Box<Self>, file: &Path) -> io::Result<()> {
        if self.count == 1 {
            fs::rename(self.part(1), file)?;
        } else {
            let whole = self.directory.join("whole.parquet");
            self.join(&whole)?;
            fs::rename(whole, file)?;
        }
        for number in 1..=self.count {
            drop(fs::remove_file(self.part(number)));
        }
        fs::remove_dir(&self.directory)
    }
}

impl Parts {
    fn join(&self, whole: &Path) -> io::Result<()> {
        let mut joined: Option<ArrowWriter<File>> = None;
        for number in 1..=self.count {
            let part =
                ParquetRecordBatchReaderBuilder::try_new(File::open(self.part(number))?).map_err(io::Error::other)?;
            let writer = match &mut joined {
                Some(writer) => writer,
                None => joined.insert(writer(whole, part.schema())?),
            };
            for batch in part.build().map_err(io::Error::other)? {
                writer.write(&batch.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
        }
        joined.map_or(Ok(()), finish)
    }
}

/// Without the first column, which is the row id.
fn project(schema: &SchemaRef) -> Result<SchemaRef, ArrowError> {
    let rest: Vec<usize> = (1..schema.fields().len()).collect();
    schema.project(&rest).map(Into::into)
}

fn writer(path: &Path, schema: &SchemaRef) -> io::Result<ArrowWriter<File>> {
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties)).map_err(io::Error::other)
}

/// On disk when this returns.
fn finish(writer: ArrowWriter<File>) -> io::Result<()> {
    writer.into_inner().map_err(io::Error::other)?.sync_all()
}
