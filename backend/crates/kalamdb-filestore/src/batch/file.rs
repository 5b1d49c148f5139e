//! An open batch file.
//!
//! Opening does no I/O; the footer is read on first use and kept in the shared cache. While somebody holds a
//! [`BatchFile`], [`ManifestService`](crate::manifest::ManifestService) does not delete the file, so whoever plans to
//! read holds it from the moment the manifest that names it is taken. Missing, short and damaged files are
//! [`ErrorKind::Corrupt`](kalamdb_commons::ErrorKind::Corrupt) and named.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use kalamdb_commons::manifest;
use kalamdb_commons::schema::Column;
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, ErrorKind, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::footer::BatchFooter;
use super::recent::RecentFilters;
use super::{BatchColumn, batch_schema};
use crate::cache::{FileKey, Held, Part, file_key};
use crate::failure;
use crate::io::IoCounters;
use crate::storage::Storage;

/// How much of a file's end is read at once, in the hope that footer and page indexes are in it.
const TAIL_BYTES: usize = 64 << 10;

/// A batch file, cheap to hold.
#[derive(Debug)]
pub struct BatchFile {
    pub(super) storage: Arc<Storage>,
    pub(super) path: Arc<str>,
    pub(super) key: FileKey,
    pub(super) recent: RecentFilters,
    entry: manifest::Batch,
}

/// Everything that is parsed from a file's footer.
#[derive(Debug)]
pub(crate) struct FileMetadata {
    pub(crate) parquet: Arc<ParquetMetaData>,
    pub(crate) arrow: ArrowReaderMetadata,
    pub(crate) footer: Arc<BatchFooter>,
    pub(crate) schema: SchemaRef,
    /// The pages of `_id`, in order.
    pub(crate) id_pages: Vec<IdPage>,
}

/// A page of `_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdPage {
    /// Its rows' positions in the file.
    pub(crate) rows: Range<u32>,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl FileMetadata {
    pub(crate) fn memory_bytes(&self) -> usize {
        let bitmaps = self.footer.tombstones.serialized_size() + self.footer.superseding.serialized_size();
        let columns = self.footer.about.columns.len() * 400;
        self.parquet.memory_size() + bitmaps + columns + self.id_pages.len() * size_of::<IdPage>()
    }
}

impl BatchFile {
    /// The file of a manifest entry, in directory `directory` of a storage. No I/O. Whoever asks for a file that is
    /// open gets the same one.
    pub fn open(storage: &Arc<Storage>, directory: &str, entry: &manifest::Batch) -> Arc<Self> {
        let path: Arc<str> = format!("{directory}/{}", entry.path).into();
        let key = file_key(storage.id(), &path);
        let mut slot = storage.caches.open.entry(key).or_default();
        if let Some(file) = slot.upgrade().filter(|file| file.is_of(entry)) {
            return file;
        }
        let (storage, recent) = (Arc::clone(storage), RecentFilters::default());
        let file = Arc::new(Self { storage, path, key, recent, entry: entry.clone() });
        *slot = Arc::downgrade(&file);
        file
    }

    /// Whether the entry describes this file; its status may have changed.
    fn is_of(&self, entry: &manifest::Batch) -> bool {
        (self.entry.number, self.entry.incarnation, self.entry.byte_size, self.entry.row_count)
            == (entry.number, entry.incarnation, entry.byte_size, entry.row_count)
    }

    /// The manifest entry that it was opened by.
    pub fn entry(&self) -> &manifest::Batch {
        &self.entry
    }

    /// Its path in its storage.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The storage that it lies in.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// What Parquet's footer says, page indexes included.
    ///
    /// # Errors
    /// Corrupt if the file is missing, unreadable or not what its manifest entry says.
    pub async fn metadata(&self, counters: &IoCounters) -> Result<Arc<ParquetMetaData>> {
        Ok(Arc::clone(&self.parsed(counters).await?.parquet))
    }

    /// What the file says about itself beyond Parquet.
    ///
    /// # Errors
    /// As [`Self::metadata`].
    pub async fn footer(&self, counters: &IoCounters) -> Result<Arc<BatchFooter>> {
        Ok(Arc::clone(&self.parsed(counters).await?.footer))
    }

    /// Reads ranges, in the order given.
    ///
    /// # Errors
    /// As [`Storage::read_ranges`].
    pub async fn read_ranges(&self, ranges: &[Range<u64>], counters: &IoCounters) -> Result<Vec<Bytes>> {
        self.storage.read_ranges_of(&self.path, self.key, ranges, counters).await
    }

    /// A reader for Parquet's asynchronous decoders, DataFusion's among them. It keeps the file.
    pub fn reader(self: &Arc<Self>, counters: &Arc<IoCounters>) -> BatchReader {
        BatchReader { file: Arc::clone(self), counters: Arc::clone(counters) }
    }

    /// The rows at these positions, which are sorted and distinct, in their order: only the pages that hold them are
    /// read. Columns are in the order asked for and typed as in the file's schema version.
    ///
    /// # Errors
    /// Internal if a column is not in the file or a position beyond its end; else as [`Self::metadata`].
    pub async fn rows_at(
        self: &Arc<Self>,
        positions: &[u32],
        projection: &[BatchColumn],
        counters: &Arc<IoCounters>,
    ) -> Result<RecordBatch> {
        let metadata = self.parsed(counters).await?;
        let rows: Vec<_> = positions.iter().map(|position| *position..position + 1).collect();
        self.rows_in(&metadata, &rows, projection, counters).await
    }

    /// The rows of one range of positions, as [`Self::rows_at`] gives them: for reading a file from end to end in
    /// pieces.
    ///
    /// # Errors
    /// As [`Self::rows_at`].
    pub async fn rows_between(
        self: &Arc<Self>,
        rows: Range<u32>,
        projection: &[BatchColumn],
        counters: &Arc<IoCounters>,
    ) -> Result<RecordBatch> {
        let metadata = self.parsed(counters).await?;
        self.rows_in(&metadata, &[rows], projection, counters).await
    }

    /// The rows in these ranges of positions, which are in order and disjoint.
    pub(super) async fn rows_in(
        self: &Arc<Self>,
        metadata: &FileMetadata,
        rows: &[Range<u32>],
        projection: &[BatchColumn],
        counters: &Arc<IoCounters>,
    ) -> Result<RecordBatch> {
        let places = self.places(metadata, projection)?;
        let total = rows.iter().map(|range| range.len()).sum();
        self.check_rows(rows)?;
        let schema = Arc::new(metadata.schema.project(&places).map_err(|error| self.undecodable(error))?);
        if total == 0 || places.is_empty() {
            return empty_rows(schema, total).map_err(|error| self.undecodable(error));
        }
        let (row_groups, selection) = select(&metadata.parquet, rows);
        let mask = ProjectionMask::roots(metadata.parquet.file_metadata().schema_descr(), places.iter().copied());
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(counters), metadata.arrow.clone())
            .with_projection(mask)
            .with_row_groups(row_groups)
            .with_row_selection(selection)
            .with_batch_size(total)
            .build()
            .map_err(|error| self.unreadable(error))?;
        // Nothing tells whether a page's bytes are those that were written, and the decoders assert about some of them.
        let batches = AssertUnwindSafe(stream.try_collect::<Vec<RecordBatch>>()).catch_unwind().await;
        let batches = batches.map_err(|_| failure::corrupt(&self.path, "decoding it panicked"))?;
        let batches = batches.map_err(|error| self.unreadable(error))?;
        self.arrange(&batches, &places, schema, total)
    }

    pub(super) fn places(&self, metadata: &FileMetadata, projection: &[BatchColumn]) -> Result<Vec<usize>> {
        let place = |column: &BatchColumn| {
            metadata
                .footer
                .column_index(*column)
                .ok_or_else(|| Error::internal(format!("batch file '{}' has no column {column:?}", self.path)))
        };
        projection.iter().map(place).collect()
    }

    fn check_rows(&self, rows: &[Range<u32>]) -> Result<()> {
        let ordered = rows.windows(2).all(|pair| pair[0].end <= pair[1].start);
        let within = rows.last().is_none_or(|last| u64::from(last.end) <= self.entry.row_count);
        if ordered && within {
            return Ok(());
        }
        Err(Error::internal(format!("positions for '{}' are out of order or beyond its end", self.path)))
    }

    /// Puts decoded columns, which come in the file's order, into the order asked for.
    fn arrange(
        &self,
        batches: &[RecordBatch],
        places: &[usize],
        schema: SchemaRef,
        total: usize,
    ) -> Result<RecordBatch> {
        let Some(first) = batches.first() else {
            return Err(failure::corrupt(&self.path, "it holds fewer rows than its footer says"));
        };
        let whole = match batches {
            [one] => one.clone(),
            many => concat_batches(&first.schema(), many).map_err(|error| self.undecodable(error))?,
        };
        if whole.num_rows() != total {
            return Err(failure::corrupt(&self.path, "it holds fewer rows than its footer says"));
        }
        let mut in_file = places.to_vec();
        in_file.sort_unstable();
        in_file.dedup();
        let column = |place: &usize| in_file.binary_search(place).ok().and_then(|at| whole.columns().get(at)).cloned();
        let columns: Option<Vec<_>> = places.iter().map(column).collect();
        let columns = columns.ok_or_else(|| failure::corrupt(&self.path, "columns are missing"))?;
        RecordBatch::try_new(schema, columns).map_err(|error| self.undecodable(error))
    }

    /// Everything parsed from the footer, from the cache or the file.
    pub(super) async fn parsed(&self, counters: &IoCounters) -> Result<Arc<FileMetadata>> {
        if let Some(Held::Metadata(metadata)) = self.held(Part::Metadata, counters) {
            return Ok(metadata);
        }
        let parquet = match self.load(PageIndexPolicy::Required, counters).await {
            Ok(parquet) => parquet,
            Err(error) => return Err(self.or_cut_short(error).await),
        };
        let metadata = Arc::new(self.parse(parquet)?);
        self.check_entry(&metadata.footer)?;
        self.storage.caches.put(self.key, Part::Metadata, Held::Metadata(Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// A part of the file, if it is in memory.
    pub(super) fn held(&self, part: Part, counters: &IoCounters) -> Option<Held> {
        let held = self.storage.caches.get(self.key, part);
        counters.cached(held.is_some());
        held
    }

    /// An object store reports a range beyond the end of a file as a failed read: a file that was cut short is damaged.
    async fn or_cut_short(&self, error: Error) -> Error {
        match self.storage.size(&self.path).await {
            Ok(Some(bytes)) if error.kind() == ErrorKind::Io && bytes != self.entry.byte_size => failure::corrupt(
                &self.path,
                format!("it has {bytes} bytes, and its manifest says {}", self.entry.byte_size),
            ),
            _ => error,
        }
    }

    async fn load(&self, page_index: PageIndexPolicy, counters: &IoCounters) -> Result<ParquetMetaData> {
        // A file without rows has no pages to index.
        let page_index = if self.entry.row_count == 0 { PageIndexPolicy::Skip } else { page_index };
        ParquetMetaDataReader::new()
            .with_page_index_policy(page_index)
            .with_prefetch_hint(Some(TAIL_BYTES))
            .load_and_finish(Fetch { file: self, counters }, self.entry.byte_size)
            .await
            .map_err(|error| self.unreadable(error))
    }

    fn parse(&self, parquet: ParquetMetaData) -> Result<FileMetadata> {
        if !lies_within(&parquet, self.entry.byte_size) {
            return Err(failure::corrupt(&self.path, "its footer points outside of the file"));
        }
        let footer = self.parse_footer(&parquet)?;
        let parquet =
            without_ranges_of(&unordered_columns(&footer), parquet).map_err(|error| self.unreadable(error))?;
        let parquet = Arc::new(parquet);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let arrow = ArrowReaderMetadata::try_new(Arc::clone(&parquet), options);
        let arrow = arrow.map_err(|error| self.unreadable(error))?;
        let schema = batch_schema(&footer.about.columns);
        if !same_types(&schema, arrow.schema()) {
            return Err(failure::corrupt(&self.path, "its columns do not have the types that its footer names"));
        }
        let id_pages = id_pages(&parquet).ok_or_else(|| failure::corrupt(&self.path, "its page index is damaged"))?;
        Ok(FileMetadata { parquet, arrow, footer: Arc::new(footer), schema, id_pages })
    }

    fn parse_footer(&self, parquet: &ParquetMetaData) -> Result<BatchFooter> {
        BatchFooter::parse(parquet, self.entry.byte_size)
            .map_err(|error| failure::corrupt(&self.path, &error).with_source(error))
    }

    /// The file is the one that the manifest means.
    fn check_entry(&self, footer: &BatchFooter) -> Result<()> {
        let (found, wanted) = (&footer.about.entry, &self.entry);
        let differing = [
            ("number", found.number != wanted.number),
            ("incarnation", found.incarnation != wanted.incarnation),
            ("row count", found.row_count != wanted.row_count),
            ("interval", (found.from, found.through) != (wanted.from, wanted.through)),
        ];
        match differing.iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(failure::corrupt(&self.path, format!("its {what} is not the manifest's"))),
            None => Ok(()),
        }
    }

    pub(super) fn unreadable(&self, error: ParquetError) -> Error {
        match error {
            ParquetError::External(source) => match source.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => failure::corrupt(&self.path, "it cannot be decoded").with_source(other),
            },
            other => failure::corrupt(&self.path, "it cannot be decoded").with_source(other),
        }
    }

    pub(super) fn undecodable(&self, error: arrow::error::ArrowError) -> Error {
        failure::corrupt(&self.path, "it cannot be decoded").with_source(error)
    }
}

impl Drop for BatchFile {
    fn drop(&mut self) {
        self.storage.caches.open.remove_if(&self.key, |_, weak| weak.strong_count() == 0);
    }
}

/// Reads the footer of a file that no manifest is believed about: for rebuilding one.
pub(crate) async fn read_footer(
    storage: &Arc<Storage>,
    directory: &str,
    name: &str,
    bytes: u64,
    counters: &IoCounters,
) -> Result<BatchFooter> {
    let path: Arc<str> = format!("{directory}/{name}").into();
    let key = file_key(storage.id(), &path);
    let fetch = StorageFetch { storage, path: &path, key, counters };
    let parquet = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Skip)
        .with_prefetch_hint(Some(TAIL_BYTES))
        .load_and_finish(fetch, bytes)
        .await
        .map_err(|error| match error {
            ParquetError::External(source) => match source.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => failure::corrupt(&path, "its footer cannot be read").with_source(other),
            },
            other => failure::corrupt(&path, "its footer cannot be read").with_source(other),
        })?;
    BatchFooter::parse(&parquet, bytes).map_err(|error| failure::corrupt(&path, &error).with_source(error))
}

struct StorageFetch<'a> {
    storage: &'a Storage,
    path: &'a str,
    key: FileKey,
    counters: &'a IoCounters,
}

impl MetadataFetch for StorageFetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let answer = self.storage.read_ranges_of(self.path, self.key, &[range], self.counters).await;
            one(answer)
        }
        .boxed()
    }
}

struct Fetch<'a> {
    file: &'a BatchFile,
    counters: &'a IoCounters,
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { one(self.file.read_ranges(&[range], self.counters).await) }.boxed()
    }
}

fn one(answer: Result<Vec<Bytes>>) -> Result<Bytes, ParquetError> {
    answer.map(|mut parts| parts.pop().unwrap_or_default()).map_err(external)
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// A batch file as Parquet's asynchronous decoders read it.
#[derive(Debug, Clone)]
pub struct BatchReader {
    file: Arc<BatchFile>,
    counters: Arc<IoCounters>,
}

impl AsyncFileReader for BatchReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { one(self.file.read_ranges(&[range], &self.counters).await) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.file.read_ranges(&ranges, &self.counters).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move { self.file.metadata(&self.counters).await.map_err(external) }.boxed()
    }
}

fn empty_rows(schema: SchemaRef, rows: usize) -> Result<RecordBatch, arrow::error::ArrowError> {
    if rows == 0 {
        return Ok(RecordBatch::new_empty(schema));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, Vec::new(), &options)
}

fn same_types(wanted: &Schema, found: &Schema) -> bool {
    wanted.fields().len() == found.fields().len()
        && wanted.fields().iter().zip(found.fields()).all(|(wanted, found)| {
            wanted.data_type() == found.data_type()
                && wanted.name() == found.name()
                && (wanted.is_nullable() || !found.is_nullable())
        })
}

/// The row groups that hold some of the rows, and which of their rows they are.
fn select(parquet: &ParquetMetaData, rows: &[Range<u32>]) -> (Vec<usize>, RowSelection) {
    let (mut row_groups, mut ranges, mut skipped_rows) = (Vec::new(), Vec::new(), 0usize);
    let (mut start, mut chosen_rows, mut next) = (0usize, 0usize, 0usize);
    for (index, group) in parquet.row_groups().iter().enumerate() {
        let length = usize::try_from(group.num_rows()).unwrap_or(0);
        let end = start + length;
        let mut hit = false;
        while let Some(range) = rows.get(next).filter(|range| (range.start as usize) < end) {
            let (first, last) = ((range.start as usize).max(start), (range.end as usize).min(end));
            if first < last {
                ranges.push(first - skipped_rows..last - skipped_rows);
                hit = true;
            }
            if range.end as usize > end {
                break;
            }
            next += 1;
        }
        if hit {
            row_groups.push(index);
            chosen_rows += length;
        } else {
            skipped_rows += length;
        }
        start = end;
    }
    (row_groups, RowSelection::from_consecutive_ranges(ranges.into_iter(), chosen_rows))
}

/// Whether every part that the footer and the page indexes name lies within the file, and every page has rows.
/// Parquet's decoders rely on that.
fn lies_within(parquet: &ParquetMetaData, file_bytes: u64) -> bool {
    let within = |start: i64, length: i64| {
        let end = u64::try_from(start).ok().zip(u64::try_from(length).ok()).and_then(|(a, b)| a.checked_add(b));
        end.is_some_and(|end| end <= file_bytes)
    };
    let columns = parquet.file_metadata().schema_descr().num_columns();
    parquet.row_groups().iter().enumerate().all(|(index, group)| {
        let pages_of = |column: usize| Some(parquet.offset_index()?.get(index)?.get(column)?.page_locations());
        group.num_columns() == columns
            && group.columns().iter().enumerate().all(|(column, chunk)| {
                let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
                let pages = pages_of(column).map_or(&[][..], Vec::as_slice);
                let firsts = pages.iter().map(|page| page.first_row_index);
                within(start, chunk.compressed_size())
                    && within(chunk.data_page_offset(), 0)
                    && chunk.num_values() == group.num_rows()
                    && pages.first().is_some_and(|first| first.first_row_index == 0)
                    && firsts.is_sorted_by(|a, b| a < b)
                    && pages.last().is_some_and(|last| last.first_row_index < group.num_rows())
                    && pages.iter().all(|page| within(page.offset, page.compressed_page_size.into()))
            })
    })
}

/// The places of floating-point columns that may hold NaN: those whose range the file does not know though they have
/// values.
fn unordered_columns(footer: &BatchFooter) -> Vec<usize> {
    let entry = &footer.about.entry;
    let is_float = |column: &&Column| matches!(column.column_type, ColumnType::Float | ColumnType::Double);
    let unordered = |column: &&Column| {
        let range = entry.columns.get(&column.id);
        range.is_none_or(|range| range.min.is_none() && range.max.is_none() && range.null_count < entry.row_count)
    };
    let columns = footer.about.columns.iter().filter(is_float).filter(unordered);
    columns.filter_map(|column| footer.column_index(BatchColumn::Column(column.id))).collect()
}

/// Forgets Parquet's ranges of some columns. Parquet leaves NaN out of them, and a comparison puts it above every
/// number: by such a range, pages and row groups that hold it would be skipped.
fn without_ranges_of(columns: &[usize], parquet: ParquetMetaData) -> Result<ParquetMetaData, ParquetError> {
    if columns.is_empty() {
        return Ok(parquet);
    }
    let mut builder = parquet.into_builder();
    let mut groups = Vec::new();
    for group in builder.take_row_groups() {
        let mut chunks = group.columns().to_vec();
        for column in columns {
            if let Some(chunk) = chunks.get_mut(*column) {
                *chunk = chunk.clone().into_builder().clear_statistics().build()?;
            }
        }
        groups.push(group.into_builder().set_column_metadata(chunks).build()?);
    }
    let mut index = builder.take_column_index();
    for pages in index.iter_mut().flatten() {
        for column in columns {
            if let Some(pages) = pages.get_mut(*column) {
                *pages = ColumnIndexMetaData::NONE;
            }
        }
    }
    Ok(builder.set_row_groups(groups).set_column_index(index).build())
}

/// The pages of the first column, from its page indexes; `None` if these contradict the row groups.
fn id_pages(parquet: &ParquetMetaData) -> Option<Vec<IdPage>> {
    let mut pages = Vec::new();
    let mut start = 0u32;
    for (index, group) in parquet.row_groups().iter().enumerate() {
        let rows = u32::try_from(group.num_rows()).ok()?;
        let ColumnIndexMetaData::INT64(bounds) = parquet.column_index()?.get(index)?.first()? else { return None };
        let locations = parquet.offset_index()?.get(index)?.first()?.page_locations();
        for (page, location) in locations.iter().enumerate() {
            let first = u32::try_from(location.first_row_index).ok()?;
            let next = locations.get(page + 1).map_or(Some(rows), |next| u32::try_from(next.first_row_index).ok())?;
            if first >= next || next > rows || page as u64 >= bounds.num_pages() {
                return None;
            }
            let (min, max) = (*bounds.min_value(page)?, *bounds.max_value(page)?);
            pages.push(IdPage { rows: start + first..start + next, min, max });
        }
        start = start.checked_add(rows)?;
    }
    let ordered = pages.windows(2).all(|pair| pair[0].max < pair[1].min && pair[0].rows.end == pair[1].rows.start);
    ordered.then_some(pages)
}

#[cfg(test)]
mod tests;
