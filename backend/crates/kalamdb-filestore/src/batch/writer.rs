//! Writing one batch file.
//!
//! The life of a row here: it comes in a record batch of the exact schema of the file, sorted by `_id`; its place in
//! the file, its flags and its keys are noted; it is encoded on a thread that may block; whole row groups go to the
//! storage, so that memory stays bounded by one row group and the notes. [`BatchWriter::finish`] writes the key
//! indexes and the footer, makes the file durable under its name and returns the manifest entry. Before that nothing
//! is visible; a writer that is dropped leaves nothing behind.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use kalamdb_commons::ids::{ColumnId, CommitTime, RowId, SchemaVersion};
use kalamdb_commons::manifest::{self, BatchStatus, batch_file_name};
use kalamdb_commons::schema::{Columns, Compression};
use kalamdb_commons::system_columns;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, Encoding, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::bounds::RangeBuilder;
use super::footer::{About, BatchFooter, FilterSection, KeySection};
use super::key_index::{self, KeyIndexBuilder};
use super::physical::KeyBytes;
use super::{BatchColumn, batch_schema, column_index};
use crate::failure;
use crate::partition::PartitionSpec;
use crate::storage::{Storage, Upload};

/// The false-positive rate of unique keys' Bloom filters: every INSERT of a random key asks all batches.
const KEY_FPP_MAX: f64 = 1e-4;
/// Dictionaries beyond this size do not pay, and every point read of the column would read them.
const DICTIONARY_BYTES_MAX: usize = 64 << 10;
/// A page of wide values ends at this size even if it has few rows.
const PAGE_BYTES_MAX: usize = 128 << 10;
/// A row group of wide values ends at this size: it is what writing holds in memory.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;

/// Which file of how many that are published together, counted from 1. The files of a group have consecutive
/// numbers in this order, so that a rebuild can tell a complete group from one that a crash cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The place of this file, from 1.
    pub position: u32,
    /// How many there are.
    pub size: u32,
}

impl Group {
    /// A file that is published alone.
    pub const ALONE: Self = Self { position: 1, size: 1 };

    /// The number of the group's first file, if this is the place of file `number`.
    pub(crate) fn first(self, number: u64) -> Option<u64> {
        number.checked_sub(u64::from(self.position).checked_sub(1)?)
    }

    pub(crate) fn is_sound(self, number: u64) -> bool {
        self.position >= 1 && self.position <= self.size && self.first(number).is_some()
    }
}

impl From<(u32, u32)> for Group {
    fn from((position, size): (u32, u32)) -> Self {
        Self { position, size }
    }
}

/// What a file is to be.
#[derive(Debug, Clone)]
pub struct BatchMeta {
    /// The interval begins after this commit time.
    pub from: CommitTime,
    /// And ends with this one.
    pub through: CommitTime,
    /// Its place among the files that are published together.
    pub group: Group,
    /// Deletions at or after this time are still there to be seen.
    pub deletions_complete_from: CommitTime,
    /// The user's columns.
    pub columns: Columns,
    /// Their version.
    pub schema_version: SchemaVersion,
    /// How pages are compressed.
    pub compression: Compression,
    /// Rows in a row group.
    pub row_group_rows: usize,
    /// Rows in a page.
    pub page_rows: usize,
    /// The false-positive rate of Bloom filters. 0 switches them off, except for unique keys.
    pub fpp: f64,
    /// The columns of every unique key. Each key gets an index; a key of one column a Bloom filter on the column, a
    /// key of several one of its own, besides those of the columns; all of them at most 1 in 10 000 false positives.
    pub unique_keys: Vec<Vec<ColumnId>>,
    /// Further columns with Bloom filters: indexed ones and BLOOM_FILTER_COLUMNS.
    pub bloom_columns: Vec<ColumnId>,
    /// Columns without Bloom filters, whatever else asks for them. A key all of whose columns are here has none.
    pub unfiltered: Vec<ColumnId>,
    /// Whether `_id` is one of them.
    pub unfiltered_id: bool,
    /// How many rows will come, at most. More make the Bloom filters worse, fewer cost nothing.
    pub expected_rows: usize,
}

/// Writes one batch file.
#[derive(Debug)]
pub struct BatchWriter {
    path: String,
    upload: Upload,
    encoder: Option<Box<Encoder>>,
    sink: Sink,
    bytes_written: u64,
}

impl BatchWriter {
    /// Begins file `number` of a partition.
    ///
    /// # Errors
    /// If the file exists, a key or Bloom column is not among the columns, or storage fails.
    pub async fn create(storage: &Storage, partition: &PartitionSpec, number: u64, meta: BatchMeta) -> Result<Self> {
        let path = partition.path().file(&batch_file_name(number));
        Self::create_at(storage, &path, partition, number, meta).await
    }

    /// The same elsewhere: in a backup.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_at(
        storage: &Storage,
        path: &str,
        partition: &PartitionSpec,
        number: u64,
        meta: BatchMeta,
    ) -> Result<Self> {
        let path = path.to_owned();
        let sink = Sink::default();
        let encoder = Encoder::new(partition, number, meta, sink.clone())?;
        let upload = storage.create_exclusive(&path).await?;
        Ok(Self { path, upload, encoder: Some(Box::new(encoder)), sink, bytes_written: 0 })
    }

    /// Appends rows: of exactly [`batch_schema`] of the columns, `_id` strictly greater than all before.
    ///
    /// # Errors
    /// Internal if rows are out of order or outside the interval; I/O if storage fails. The writer is of no use then.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = rows.clone();
        self.encode("encoding", move |encoder| encoder.write(&rows)).await?;
        self.drain().await
    }

    /// Notes that deletions through this time were left out: the footer says so, as the manifest will.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn forget_deletions_through(&mut self, last: CommitTime) -> Result<()> {
        let from = CommitTime(last.0 + 1);
        self.encode("noting", move |encoder| {
            let about = &mut encoder.footer.about;
            about.deletions_complete_from = about.deletions_complete_from.max(from);
            Ok(())
        })
        .await
    }

    /// Ends the file, makes it durable under its name, and returns its manifest entry.
    ///
    /// # Errors
    /// As [`Self::write`], and [`Upload::finish`]. What may be left then is removed as an orphan.
    pub async fn finish(mut self) -> Result<manifest::Batch> {
        let mut entry = self.encode("ending", Encoder::finish).await?;
        self.drain().await?;
        entry.byte_size = self.bytes_written;
        fail::fail_point!("flush::before_batch_sync", |_| {
            Err(Error::io("stopped by the fail point flush::before_batch_sync"))
        });
        self.upload.finish().await?;
        fail::fail_point!("flush::after_batch_durable", |_| {
            Err(Error::io("stopped by the fail point flush::after_batch_durable"))
        });
        Ok(entry)
    }

    /// Gives up and removes what was written.
    pub async fn abort(self) {
        self.upload.abort().await;
    }

    /// The file's path in its storage.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Runs work of the encoder where it may take its time.
    async fn encode<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Encoder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(mut encoder) = self.encoder.take() else {
            return Err(Error::internal(format!("{what} '{}' after it failed", self.path)));
        };
        let done = tokio::task::spawn_blocking(move || work(&mut encoder).map(|done| (encoder, done))).await;
        let (encoder, done) = done.map_err(|error| failure::task(what, &self.path, error))??;
        self.encoder = Some(encoder);
        Ok(done)
    }

    /// Hands what was encoded to the storage.
    async fn drain(&mut self) -> Result<()> {
        let bytes = self.sink.take();
        self.bytes_written += bytes.len() as u64;
        if bytes.is_empty() { Ok(()) } else { self.upload.write(bytes).await }
    }
}

/// Encoded bytes on their way from the encoder to the storage.
#[derive(Debug, Default, Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Turns rows into bytes and keeps the notes for the footer.
struct Encoder {
    schema: SchemaRef,
    meta: BatchMeta,
    footer: BatchFooter,
    ranges: BTreeMap<ColumnId, (usize, RangeBuilder)>,
    keys: Vec<KeyNotes>,
    writer: Option<ArrowWriter<Sink>>,
}

/// What is gathered for one unique key.
struct KeyNotes {
    columns: Vec<ColumnId>,
    places: Vec<usize>,
    index: KeyIndexBuilder,
    filter: Option<Sbbf>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("entry", &self.footer.about.entry).finish_non_exhaustive()
    }
}

impl Encoder {
    fn new(partition: &PartitionSpec, number: u64, meta: BatchMeta, sink: Sink) -> Result<Self> {
        if meta.through <= meta.from || !meta.group.is_sound(number) {
            return Err(Error::internal(format!(
                "batch {number} cannot be ({}, {}], {} of {}",
                meta.from, meta.through, meta.group.position, meta.group.size
            )));
        }
        let schema = batch_schema(&meta.columns);
        let options = ArrowWriterOptions::new().with_properties(properties(&meta)?).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&schema), options).map_err(encoding)?;
        let comparable = meta.columns.iter().filter(|column| column.column_type.is_comparable());
        let ranges = comparable
            .filter_map(|column| {
                let place = column_index(&meta.columns, BatchColumn::Column(column.id))?;
                Some((column.id, (place, RangeBuilder::default())))
            })
            .collect();
        let keys = meta.unique_keys.iter().map(|key| KeyNotes::new(key, &meta)).collect::<Result<_>>()?;
        let footer = BatchFooter {
            about: About {
                table_id: partition.table_id,
                table: partition.table.clone(),
                scope: partition.scope.clone(),
                group: meta.group,
                deletions_complete_from: meta.deletions_complete_from,
                columns: meta.columns.to_vec(),
                keys: Vec::new(),
                entry: empty_entry(partition, number, &meta),
            },
            tombstones: RoaringBitmap::new(),
            superseding: RoaringBitmap::new(),
        };
        Ok(Self { schema, meta, footer, ranges, keys, writer: Some(writer) })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec()).map_err(|error| {
            Error::internal("rows for a batch file do not have the file's columns").with_source(error)
        })?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let first = self.next_position(rows.num_rows())?;
        self.note_ids(rows.column(0).as_primitive::<Int64Type>().values())?;
        self.note_versions(&rows, first)?;
        for (place, range) in self.ranges.values_mut() {
            range.add(rows.column(*place));
        }
        for key in &mut self.keys {
            key.add(&rows, first)?;
        }
        self.footer.about.entry.row_count += rows.num_rows() as u64;
        self.writer()?.write(&rows).map_err(encoding)
    }

    fn writer(&mut self) -> Result<&mut ArrowWriter<Sink>> {
        self.writer.as_mut().ok_or_else(|| Error::internal("a batch file was ended before"))
    }

    fn next_position(&self, rows: usize) -> Result<u32> {
        let first = self.footer.about.entry.row_count;
        let fits = first + rows as u64 <= u64::from(u32::MAX);
        u32::try_from(first)
            .ok()
            .filter(|_| fits)
            .ok_or_else(|| Error::too_large(format!("a batch file has at most {} rows", u32::MAX)))
    }

    /// Ids grow strictly: each row is in a batch once.
    fn note_ids(&mut self, ids: &[i64]) -> Result<()> {
        let entry = &mut self.footer.about.entry;
        let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let grows = entry.max_id.is_none_or(|before| before.0 < first) && ids.is_sorted_by(|a, b| a < b);
        if !grows {
            return Err(Error::internal(format!(
                "rows for batch {} are not in strict order of {}",
                entry.number,
                system_columns::ID
            )));
        }
        entry.min_id.get_or_insert(RowId(first));
        entry.max_id = Some(RowId(last));
        Ok(())
    }

    fn note_versions(&mut self, rows: &RecordBatch, first: u32) -> Result<()> {
        let place = |column| column_index(&self.meta.columns, column).unwrap_or_else(|| unreachable!("always there"));
        let updated = rows.column(place(BatchColumn::Updated)).as_primitive::<TimestampNanosecondType>().values();
        let deleted = rows.column(place(BatchColumn::Deleted)).as_boolean();
        let born = rows.column(place(BatchColumn::Born)).as_primitive::<Int64Type>().values();
        let entry = &mut self.footer.about.entry;
        let (least, greatest) = updated.iter().fold((i64::MAX, i64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        if least <= entry.from.0 || greatest > entry.through.0 {
            return Err(Error::internal(format!(
                "rows for batch {} have commit times {least} to {greatest}, outside of ({}, {}]",
                entry.number, entry.from, entry.through
            )));
        }
        entry.min_updated = Some(entry.min_updated.map_or(CommitTime(least), |min| min.min(CommitTime(least))));
        entry.max_updated = Some(entry.max_updated.map_or(CommitTime(greatest), |max| max.max(CommitTime(greatest))));
        let at = |row: usize| first + row as u32;
        self.footer.tombstones.extend((0..rows.num_rows()).filter(|row| deleted.value(*row)).map(at));
        let from = entry.from.0;
        self.footer.superseding.extend((0..rows.num_rows()).filter(|row| born[*row] <= from).map(at));
        Ok(())
    }

    /// Ends the file and returns its entry, without the size.
    fn finish(&mut self) -> Result<manifest::Batch> {
        let mut writer = self.writer.take().ok_or_else(|| Error::internal("a batch file was ended before"))?;
        writer.flush().map_err(encoding)?;
        for key in self.keys.drain(..) {
            self.footer.about.keys.push(key.finish(&mut writer)?);
        }
        let entry = &mut self.footer.about.entry;
        entry.tombstone_count = self.footer.tombstones.len();
        entry.superseding_count = self.footer.superseding.len();
        let ranges = std::mem::take(&mut self.ranges);
        entry.columns = ranges.into_iter().map(|(column, (_, range))| (column, range.finish())).collect();
        for pair in self.footer.encode() {
            writer.append_key_value_metadata(pair);
        }
        writer.close().map_err(encoding)?;
        Ok(self.footer.about.entry.clone())
    }
}

impl KeyNotes {
    fn new(columns: &[ColumnId], meta: &BatchMeta) -> Result<Self> {
        let place = |id: &ColumnId| {
            column_index(&meta.columns, BatchColumn::Column(*id))
                .ok_or_else(|| Error::internal(format!("a unique key names column {id}, which the batch has not")))
        };
        let places = columns.iter().map(place).collect::<Result<Vec<_>>>()?;
        let fpp = key_fpp(meta.fpp);
        let filtered = columns.iter().any(|column| !meta.unfiltered.contains(column));
        let filter =
            (columns.len() > 1 && filtered).then(|| Sbbf::new_with_ndv_fpp(meta.expected_rows.max(64) as u64, fpp));
        let filter = filter.transpose().map_err(encoding)?;
        Ok(Self { columns: columns.to_vec(), places, index: KeyIndexBuilder::default(), filter })
    }

    fn add(&mut self, rows: &RecordBatch, first: u32) -> Result<()> {
        let columns: Vec<ArrayRef> = self.places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        let keys = KeyBytes::new(&columns)?;
        for row in 0..keys.len() {
            if let Some(key) = keys.get(row) {
                self.index.add(key, first + row as u32);
                if let Some(filter) = &mut self.filter {
                    filter.insert(key);
                }
            }
        }
        Ok(())
    }

    /// Writes index and filter behind the row groups.
    fn finish(self, writer: &mut ArrowWriter<Sink>) -> Result<KeySection> {
        let count = self.index.len() as u64;
        let (entries, directory) = self.index.finish();
        let filter = self.filter.map(|filter| {
            let mut bytes = Vec::with_capacity(filter.num_blocks() * 32 + 32);
            filter.write(&mut bytes).map_err(encoding)?;
            Ok::<_, Error>((append(writer, &bytes)?, bytes))
        });
        let filter = filter.transpose()?.map(|(at, bytes)| FilterSection {
            at,
            bytes: bytes.len() as u64,
            checksum: key_index::checksum(&bytes),
        });
        Ok(KeySection {
            columns: self.columns,
            entries: count,
            entries_at: append(writer, &entries)?,
            directory_at: append(writer, &directory)?,
            directory_checksum: key_index::checksum(&directory),
            filter,
        })
    }
}

/// Writes bytes of ours between the row groups and the footer, and says where they are.
fn append(writer: &mut ArrowWriter<Sink>, bytes: &[u8]) -> Result<u64> {
    let at = writer.bytes_written() as u64;
    writer.write_all(bytes).map_err(|error| encoding(error.into()))?;
    Ok(at)
}

fn encoding(error: ParquetError) -> Error {
    Error::internal("a batch file could not be encoded").with_source(error)
}

fn key_fpp(fpp: f64) -> f64 {
    if fpp > 0.0 { fpp.min(KEY_FPP_MAX) } else { KEY_FPP_MAX }
}

fn empty_entry(partition: &PartitionSpec, number: u64, meta: &BatchMeta) -> manifest::Batch {
    manifest::Batch {
        path: batch_file_name(number),
        number,
        status: BatchStatus::Active,
        from: meta.from,
        through: meta.through,
        min_updated: None,
        max_updated: None,
        min_id: None,
        max_id: None,
        row_count: 0,
        tombstone_count: 0,
        superseding_count: 0,
        byte_size: 0,
        schema_version: meta.schema_version,
        incarnation: partition.incarnation,
        columns: BTreeMap::new(),
    }
}

fn codec(compression: Compression) -> Result<Codec> {
    Ok(match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).map_err(encoding)?),
    })
}

fn properties(meta: &BatchMeta) -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let filtered_rows = meta.row_group_rows.min(meta.expected_rows.max(64)) as u64;
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("kalamdb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec(meta.compression)?)
        .set_max_row_group_row_count(Some(meta.row_group_rows.max(1)))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_data_page_row_count_limit(meta.page_rows.max(1))
        .set_write_batch_size(meta.page_rows.clamp(1, 1024))
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(64))
        .set_column_index_truncate_length(Some(64))
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]));
    // Sorted or nearly sorted numbers: differences are small, dictionaries useless.
    for name in [system_columns::ID, system_columns::UPDATED, system_columns::BORN] {
        builder = builder
            .set_column_dictionary_enabled(path(name), false)
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    let id = (meta.fpp > 0.0 && !meta.unfiltered_id).then_some((system_columns::ID, meta.fpp));
    for (name, fpp) in id.into_iter().chain(filtered_columns(meta)) {
        builder = builder
            .set_column_bloom_filter_enabled(path(name), true)
            .set_column_bloom_filter_fpp(path(name), fpp)
            .set_column_bloom_filter_max_ndv(path(name), filtered_rows);
    }
    for key in meta.unique_keys.iter().filter(|key| key.len() == 1) {
        if let Some(column) = meta.columns.iter().find(|column| column.id == key[0]) {
            builder = builder.set_column_dictionary_enabled(path(&column.name), false);
        }
    }
    Ok(builder.build())
}

/// The user's columns that get Bloom filters, with their rates.
fn filtered_columns(meta: &BatchMeta) -> impl Iterator<Item = (&str, f64)> {
    meta.columns.iter().filter_map(|column| {
        let alone = meta.unique_keys.iter().any(|key| key.len() == 1 && key[0] == column.id);
        let part = meta.unique_keys.iter().any(|key| key.contains(&column.id));
        let wanted = meta.fpp > 0.0 && (part || meta.bloom_columns.contains(&column.id));
        let fpp = if alone { key_fpp(meta.fpp) } else { meta.fpp };
        let possible =
            column.column_type != kalamdb_commons::types::ColumnType::Boolean && !meta.unfiltered.contains(&column.id);
        (possible && (alone || wanted)).then_some((&*column.name, fpp))
    })
}

#[cfg(test)]
mod tests;
