//! Finding rows of a batch file without scanning it: by `_id` and by unique key.
//!
//! By `_id`: the page index says which page may hold an id, because the file is sorted by it; decoded pages of ids
//! are kept in the cache. By key: the Bloom filter, held in memory, answers most; the key index gives the positions
//! that are left; the key's columns at those positions decide. A key that the file has no index for, because it was
//! declared later, is looked for in the pages whose bounds allow it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use kalamdb_commons::ids::{ColumnId, RowId};
use kalamdb_commons::{Error, Result};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::ColumnChunkMetaData;

use super::BatchColumn;
use super::file::{BatchFile, FileMetadata};
use super::footer::KeySection;
use super::key_index::{self, Directory};
use super::physical::{KeyBytes, KeyValues, PhysicalColumn};
use crate::cache::{Held, Part};
use crate::failure;
use crate::io::IoCounters;

/// With more pages than this to decode, the Bloom filter of `_id` is asked first.
const PAGES_BEFORE_BLOOM: usize = 2;
/// With more keys than this to look for, page bounds are not compared one key at a time.
const KEYS_BEFORE_SCAN: usize = 64;

/// Values that are looked for in a column of many files, as its Bloom filters hash them.
#[derive(Debug)]
pub struct Sought {
    data_type: DataType,
    bytes: Vec<Box<[u8]>>,
    /// Whether one of them is a value of which filters know nothing.
    unfiltered: bool,
}

impl Sought {
    /// The values of an array of a column type. NULL equals nothing and is not looked for.
    ///
    /// # Errors
    /// Internal if no column holds values of that type.
    pub fn new(values: &ArrayRef) -> Result<Self> {
        let view = PhysicalColumn::new(values)?;
        let (mut bytes, mut unfiltered) = (Vec::new(), false);
        for row in 0..values.len() {
            let mut value = Vec::new();
            if view.append(row, &mut value) {
                unfiltered |= !view.is_filtered(row);
                bytes.push(value.into_boxed_slice());
            }
        }
        Ok(Self { data_type: values.data_type().clone(), bytes, unfiltered })
    }
}

/// The Bloom filters of a column of one file.
#[derive(Debug)]
pub(crate) struct ColumnFilters {
    data_type: DataType,
    /// One for each row group; none if one is missing.
    groups: Vec<Sbbf>,
}

impl ColumnFilters {
    #[cfg(test)]
    pub(super) fn none(data_type: DataType) -> Self {
        Self { data_type, groups: Vec::new() }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.groups.iter().map(|filter| filter.num_blocks() * 32 + 32).sum()
    }

    fn exist(&self) -> bool {
        !self.groups.is_empty()
    }

    fn may_hold(&self, bytes: &[u8]) -> bool {
        !self.exist() || self.groups.iter().any(|filter| filter.check(bytes))
    }

    /// Whether one of the values may be there.
    fn may_hold_any(&self, sought: &Sought, counters: &IoCounters) -> bool {
        if !self.exist() || sought.unfiltered || sought.data_type != self.data_type {
            return true;
        }
        let may_hold = sought.bytes.iter().any(|bytes| self.may_hold(bytes));
        counters.bloom(1, usize::from(!may_hold));
        may_hold
    }
}

impl BatchFile {
    /// Where rows are, by `_id`. The ids are sorted; the answer has one place for each.
    ///
    /// # Errors
    /// As [`BatchFile::metadata`].
    pub async fn positions_of_ids(
        self: &Arc<Self>,
        sorted_ids: &[RowId],
        counters: &Arc<IoCounters>,
    ) -> Result<Vec<Option<u32>>> {
        let entry = self.entry();
        let (Some(min), Some(max)) = (entry.min_id, entry.max_id) else { return Ok(vec![None; sorted_ids.len()]) };
        let within = sorted_ids.partition_point(|id| *id < min)..sorted_ids.partition_point(|id| *id <= max);
        let mut found = vec![None; sorted_ids.len()];
        if within.is_empty() {
            return Ok(found);
        }
        let metadata = self.parsed(counters).await?;
        let mut wanted = candidates(&metadata, sorted_ids, within);
        let mut pages = self.held_pages(&wanted, counters);
        let missing = |pages: &HashMap<usize, Arc<[i64]>>, wanted: &[(usize, Range<usize>)]| {
            wanted.iter().map(|(page, _)| *page).filter(|page| !pages.contains_key(page)).collect::<Vec<_>>()
        };
        let absent = missing(&pages, &wanted);
        // With about one id for each page, a filter that costs less than the pages rules most of them out.
        if absent.len() > PAGES_BEFORE_BLOOM && sorted_ids.len() < absent.len() * 64 {
            self.drop_impossible(&metadata, sorted_ids, &mut wanted, &absent, counters).await?;
        }
        let absent = missing(&pages, &wanted);
        self.load_pages(&metadata, &absent, &mut pages, counters).await?;
        for (page, ids) in wanted {
            let Some(values) = pages.get(&page) else { continue };
            let first = metadata.id_pages[page].rows.start;
            for at in ids {
                found[at] = values.binary_search(&sorted_ids[at].0).ok().map(|row| first + row as u32);
            }
        }
        Ok(found)
    }

    fn held_pages(&self, wanted: &[(usize, Range<usize>)], counters: &IoCounters) -> HashMap<usize, Arc<[i64]>> {
        let held = |page: usize| match self.held(Part::Ids(page as u32), counters) {
            Some(Held::Ids(values)) => Some((page, values)),
            _ => None,
        };
        wanted.iter().filter_map(|(page, _)| held(*page)).collect()
    }

    /// Takes those pages out of `wanted` for which the Bloom filter says that none of the ids is there.
    async fn drop_impossible(
        &self,
        metadata: &FileMetadata,
        ids: &[RowId],
        wanted: &mut Vec<(usize, Range<usize>)>,
        absent: &[usize],
        counters: &IoCounters,
    ) -> Result<()> {
        let filters = self.filters(metadata, BatchColumn::Id, counters).await?;
        if !filters.exist() {
            return Ok(());
        }
        let may_hold = |id: RowId| filters.may_hold(&id.0.to_le_bytes()[..]);
        let before = wanted.len();
        let is_held = |page: &usize| absent.binary_search(page).is_err();
        wanted.retain(|(page, range)| is_held(page) || ids[range.clone()].iter().any(|id| may_hold(*id)));
        counters.bloom(before, before - wanted.len());
        Ok(())
    }

    /// Decodes pages of ids, in one read, and keeps them.
    async fn load_pages(
        self: &Arc<Self>,
        metadata: &FileMetadata,
        absent: &[usize],
        pages: &mut HashMap<usize, Arc<[i64]>>,
        counters: &Arc<IoCounters>,
    ) -> Result<()> {
        if absent.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = absent.iter().map(|page| metadata.id_pages[*page].rows.clone()).collect();
        let decoded = self.rows_in(metadata, &rows, &[BatchColumn::Id], counters).await?;
        let values = decoded.column(0).as_primitive::<Int64Type>().values();
        let mut at = 0;
        for (page, rows) in absent.iter().zip(&rows) {
            let ids: Arc<[i64]> = values[at..at + rows.len()].into();
            at += rows.len();
            self.storage.caches.put(self.key, Part::Ids(*page as u32), Held::Ids(Arc::clone(&ids)));
            pages.insert(*page, ids);
        }
        Ok(())
    }

    /// Whether the file may hold one of these values in a column, by the column's Bloom filters. `false` is certain.
    ///
    /// # Errors
    /// As [`BatchFile::metadata`]; internal if the file has no such column.
    pub async fn may_contain(&self, column: BatchColumn, values: &Sought, counters: &IoCounters) -> Result<bool> {
        if let Some(known) = self.may_contain_by_memory(column, values, counters) {
            return Ok(known);
        }
        let metadata = self.parsed(counters).await?;
        self.places(&metadata, &[column])?;
        let filters = self.filters(&metadata, column, counters).await?;
        Ok(filters.may_hold_any(values, counters))
    }

    /// The same if it can be said without reading anything.
    pub fn may_contain_by_memory(&self, column: BatchColumn, values: &Sought, counters: &IoCounters) -> Option<bool> {
        let filters = self.recent.get(column).or_else(|| {
            let Some(Held::Filters(filters)) = self.storage.caches.get(self.key, Part::Filters(column)) else {
                return None;
            };
            self.recent.put(column, &filters);
            Some(filters)
        })?;
        counters.cached(true);
        Some(filters.may_hold_any(values, counters))
    }

    /// The rows of `values` whose key the file may hold, by Bloom filters alone, ascending.
    ///
    /// # Errors
    /// As [`BatchFile::may_contain`].
    pub async fn keys_that_may_exist(
        &self,
        columns: &[ColumnId],
        values: &[ArrayRef],
        counters: &IoCounters,
    ) -> Result<Vec<usize>> {
        let keys = KeyValues::new(values)?;
        let metadata = self.parsed(counters).await?;
        self.check_key_types(&metadata, columns, &keys.arrays)?;
        self.pass_filters(&metadata, columns, &keys, counters).await
    }

    /// The positions at which the columns equal these values, each an array of one value.
    ///
    /// # Errors
    /// As [`BatchFile::may_contain`].
    pub async fn find_key(
        self: &Arc<Self>,
        columns: &[ColumnId],
        values: &[ArrayRef],
        counters: &Arc<IoCounters>,
    ) -> Result<Vec<u32>> {
        let found = self.find_keys(columns, values, counters).await?;
        Ok(found.into_iter().map(|(_, position)| position).collect())
    }

    /// For many keys at once: (row in `values`, position in the file), in order of position.
    ///
    /// # Errors
    /// As [`BatchFile::may_contain`].
    pub async fn find_keys(
        self: &Arc<Self>,
        columns: &[ColumnId],
        values: &[ArrayRef],
        counters: &Arc<IoCounters>,
    ) -> Result<Vec<(usize, u32)>> {
        Ok(self.find_prepared(columns, &KeyValues::new(values)?, counters).await?.unwrap_or_default())
    }

    /// As [`Self::find_keys`], with keys that are asked of many files; `None` if the Bloom filters deny all of them.
    ///
    /// # Errors
    /// As [`BatchFile::may_contain`].
    pub async fn find_prepared(
        self: &Arc<Self>,
        columns: &[ColumnId],
        keys: &KeyValues,
        counters: &Arc<IoCounters>,
    ) -> Result<Option<Vec<(usize, u32)>>> {
        if self.entry().row_count == 0 {
            return Ok(None);
        }
        let metadata = self.parsed(counters).await?;
        self.check_key_types(&metadata, columns, &keys.arrays)?;
        let rows = self.pass_filters(&metadata, columns, keys, counters).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let ranges = match metadata.footer.key_section(columns) {
            Some(section) => self.indexed(&metadata, section, &keys.bytes, &rows, counters).await?,
            None => self.page_candidates(&metadata, columns, &keys.arrays, &rows)?,
        };
        self.verify(&metadata, columns, &keys.bytes, &rows, &ranges, counters).await.map(Some)
    }

    fn check_key_types(&self, metadata: &FileMetadata, columns: &[ColumnId], values: &[ArrayRef]) -> Result<()> {
        for (column, values) in columns.iter().zip(values) {
            let place = self.places(metadata, &[BatchColumn::Column(*column)])?[0];
            let (wanted, given) = (metadata.schema.field(place).data_type(), values.data_type());
            if wanted != given {
                return Err(Error::internal(format!(
                    "a key for '{}' has type {given} where the file has {wanted}",
                    self.path
                )));
            }
        }
        if columns.len() == values.len() && !columns.is_empty() {
            return Ok(());
        }
        Err(Error::internal("a key needs one value for each of its columns"))
    }

    /// The rows whose keys pass the filter of the key, or else the filters of its columns.
    async fn pass_filters(
        &self,
        metadata: &FileMetadata,
        columns: &[ColumnId],
        keys: &KeyValues,
        counters: &IoCounters,
    ) -> Result<Vec<usize>> {
        let mut rows: Vec<usize> = (0..keys.bytes.len()).filter(|row| keys.bytes.get(*row).is_some()).collect();
        if let Some(filter) = self.key_filter(metadata, columns, counters).await? {
            let asked = rows.len();
            rows.retain(|row| keys.bytes.get(*row).is_some_and(|key| filter.check(key)));
            counters.bloom(asked, asked - rows.len());
            return Ok(rows);
        }
        if keys.is_column() {
            let filters = self.filters(metadata, BatchColumn::Column(columns[0]), counters).await?;
            let asked = rows.len();
            rows.retain(|row| keys.bytes.get(*row).is_some_and(|key| filters.may_hold(key)));
            if filters.exist() {
                counters.bloom(asked, asked - rows.len());
            }
            return Ok(rows);
        }
        for (column, values) in columns.iter().zip(&keys.arrays) {
            rows = self.pass_column(metadata, *column, values, rows, counters).await?;
        }
        Ok(rows)
    }

    /// Those of `rows` whose value in `values` the column may hold.
    async fn pass_column(
        &self,
        metadata: &FileMetadata,
        column: ColumnId,
        values: &ArrayRef,
        mut rows: Vec<usize>,
        counters: &IoCounters,
    ) -> Result<Vec<usize>> {
        let filters = self.filters(metadata, BatchColumn::Column(column), counters).await?;
        if !filters.exist() {
            return Ok(rows);
        }
        let view = PhysicalColumn::new(values)?;
        let (asked, mut bytes) = (rows.len(), Vec::new());
        rows.retain(|row| {
            bytes.clear();
            let is_null = !view.append(*row, &mut bytes);
            !is_null && (!view.is_filtered(*row) || filters.may_hold(&bytes[..]))
        });
        counters.bloom(asked, asked - rows.len());
        Ok(rows)
    }

    /// The Bloom filters of a column that the file has, from the cache or read at once.
    async fn filters(
        &self,
        metadata: &FileMetadata,
        column: BatchColumn,
        counters: &IoCounters,
    ) -> Result<Arc<ColumnFilters>> {
        if let Some(Held::Filters(filters)) = self.held(Part::Filters(column), counters) {
            return Ok(filters);
        }
        let place = self.places(metadata, &[column])?[0];
        let chunks = metadata.parquet.row_groups().iter().map(|group| group.column(place));
        let ranges: Option<Vec<_>> = chunks.map(|chunk| self.filter_range(chunk)).collect::<Result<_>>()?;
        let mut groups = Vec::new();
        if let Some(ranges) = ranges {
            for bytes in self.read_ranges(&ranges, counters).await? {
                groups.push(self.parse_filter(&bytes)?);
            }
        }
        let filters = Arc::new(ColumnFilters { data_type: metadata.schema.field(place).data_type().clone(), groups });
        self.storage.caches.put(self.key, Part::Filters(column), Held::Filters(Arc::clone(&filters)));
        Ok(filters)
    }

    /// Where the Bloom filter of a column in a row group is, if it has one.
    fn filter_range(&self, chunk: &ColumnChunkMetaData) -> Result<Option<Range<u64>>> {
        let (Some(start), Some(length)) = (chunk.bloom_filter_offset(), chunk.bloom_filter_length()) else {
            return Ok(None);
        };
        let start = u64::try_from(start).ok();
        let end = start.zip(u64::try_from(length).ok()).and_then(|(start, length)| start.checked_add(length));
        match start.zip(end).filter(|(_, end)| *end <= self.entry().byte_size) {
            Some((start, end)) => Ok(Some(start..end)),
            None => Err(failure::corrupt(&self.path, "a Bloom filter lies outside of the file")),
        }
    }

    /// The Bloom filter of a key of several columns, if the file has one.
    async fn key_filter(
        &self,
        metadata: &FileMetadata,
        columns: &[ColumnId],
        counters: &IoCounters,
    ) -> Result<Option<Arc<Sbbf>>> {
        let Some(place) = metadata.footer.key_section(columns) else { return Ok(None) };
        let Some(section) = &metadata.footer.about.keys[place].filter else { return Ok(None) };
        let part = Part::KeyFilter(place as u32);
        if let Some(Held::Filter(filter)) = self.held(part, counters) {
            return Ok(Some(filter));
        }
        let bytes = self.read_one(section.at..section.at + section.bytes, counters).await?;
        if key_index::checksum(&bytes) != section.checksum {
            return Err(failure::corrupt(&self.path, "the Bloom filter of a key is damaged"));
        }
        let filter = Arc::new(self.parse_filter(&bytes)?);
        self.storage.caches.put(self.key, part, Held::Filter(Arc::clone(&filter)));
        Ok(Some(filter))
    }

    fn parse_filter(&self, bytes: &[u8]) -> Result<Sbbf> {
        let filter = Sbbf::from_bytes(bytes).map_err(|error| self.unreadable(error))?;
        if filter.num_blocks() == 0 {
            return Err(failure::corrupt(&self.path, "a Bloom filter is empty"));
        }
        Ok(filter)
    }

    async fn read_one(&self, range: Range<u64>, counters: &IoCounters) -> Result<Bytes> {
        Ok(self.read_ranges(&[range], counters).await?.pop().unwrap_or_default())
    }

    /// The positions that a key index gives for the keys of `rows`, as ranges of one, in order.
    async fn indexed(
        &self,
        metadata: &FileMetadata,
        place: usize,
        keys: &KeyBytes,
        rows: &[usize],
        counters: &IoCounters,
    ) -> Result<Vec<Range<u32>>> {
        let section = &metadata.footer.about.keys[place];
        let bytes = self.directory(section, place, counters).await?;
        let directory = Directory::new(&bytes, section.entries as usize)
            .ok_or_else(|| failure::corrupt(&self.path, "the directory of a key index is damaged"))?;
        let mut hashes: Vec<(usize, u64)> = rows
            .iter()
            .filter_map(|row| keys.get(*row).map(key_index::hash))
            .map(|hash| (directory.bucket(hash), hash))
            .collect();
        hashes.sort_unstable();
        let mut buckets: Vec<usize> = hashes.iter().map(|(bucket, _)| *bucket).collect();
        buckets.dedup();
        let at = |bucket: &usize| {
            let range = directory.range(*bucket);
            section.entries_at + range.start..section.entries_at + range.end
        };
        let ranges: Vec<_> = buckets.iter().map(at).collect();
        let contents = self.read_ranges(&ranges, counters).await?;
        let mut positions = Vec::new();
        let mut next = hashes.iter().peekable();
        for (bucket, content) in buckets.iter().zip(&contents) {
            if !directory.is_sound(*bucket, content) {
                return Err(failure::corrupt(&self.path, "a key index is damaged"));
            }
            while let Some((_, hash)) = next.next_if(|(of, _)| of == bucket) {
                positions.extend(key_index::positions(content, *hash));
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions.into_iter().map(|position| position..position.saturating_add(1)).collect())
    }

    async fn directory(&self, section: &KeySection, place: usize, counters: &IoCounters) -> Result<Bytes> {
        let part = Part::KeyDirectory(place as u32);
        if let Some(Held::Directory(bytes)) = self.held(part, counters) {
            return Ok(bytes);
        }
        let length = key_index::directory_bytes(section.entries as usize) as u64;
        let bytes = self.read_one(section.directory_at..section.directory_at + length, counters).await?;
        if key_index::checksum(&bytes) != section.directory_checksum {
            return Err(failure::corrupt(&self.path, "the directory of a key index is damaged"));
        }
        self.storage.caches.put(self.key, part, Held::Directory(bytes.clone()));
        Ok(bytes)
    }

    /// Without an index: the pages of the key's first column whose bounds allow one of the keys of `rows`.
    fn page_candidates(
        &self,
        metadata: &FileMetadata,
        columns: &[ColumnId],
        values: &[ArrayRef],
        rows: &[usize],
    ) -> Result<Vec<Range<u32>>> {
        let whole = Vec::from_iter(std::iter::once(0..self.entry().row_count as u32));
        let (Some(column), Some(values)) = (columns.first(), values.first()) else { return Ok(whole) };
        if rows.len() > KEYS_BEFORE_SCAN {
            return Ok(whole);
        }
        let Some(place) = metadata.footer.column_index(BatchColumn::Column(*column)) else { return Ok(whole) };
        let Some(pages) = page_bounds(metadata, place).map_err(|error| self.unreadable(error))? else {
            return Ok(whole);
        };
        let mut keep = vec![false; pages.rows.len()];
        for row in rows {
            let value = arrow::array::Scalar::new(values.slice(*row, 1));
            let above = arrow::compute::kernels::cmp::lt_eq(&pages.mins, &value);
            let below = arrow::compute::kernels::cmp::gt_eq(&pages.maxes, &value);
            let (above, below) =
                (above.map_err(|error| self.undecodable(error))?, below.map_err(|error| self.undecodable(error))?);
            for (page, keep) in keep.iter_mut().enumerate() {
                let allows = |answers: &arrow::array::BooleanArray| answers.is_null(page) || answers.value(page);
                *keep |= allows(&above) && allows(&below);
            }
        }
        Ok(pages.rows.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(rows, _)| rows).collect())
    }

    /// Decodes the key's columns in these ranges and keeps what equals one of the keys of `rows`.
    async fn verify(
        self: &Arc<Self>,
        metadata: &FileMetadata,
        columns: &[ColumnId],
        keys: &KeyBytes,
        rows: &[usize],
        ranges: &[Range<u32>],
        counters: &Arc<IoCounters>,
    ) -> Result<Vec<(usize, u32)>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(key) = keys.get(*row) {
                wanted.entry(key).or_default().push(*row);
            }
        }
        let projection: Vec<_> = columns.iter().map(|column| BatchColumn::Column(*column)).collect();
        let decoded = self.rows_in(metadata, ranges, &projection, counters).await?;
        let there = KeyBytes::new(decoded.columns())?;
        let mut found = Vec::new();
        for (at, position) in ranges.iter().cloned().flatten().enumerate() {
            if let Some(rows) = there.get(at).and_then(|key| wanted.get(key)) {
                found.extend(rows.iter().map(|row| (*row, position)));
            }
        }
        Ok(found)
    }
}

/// The pages that may hold ids of `ids[within]`, each with the range of those ids.
fn candidates(metadata: &FileMetadata, ids: &[RowId], within: Range<usize>) -> Vec<(usize, Range<usize>)> {
    let mut wanted = Vec::new();
    let mut at = within.start;
    while at < within.end {
        let page = metadata.id_pages.partition_point(|page| page.max < ids[at].0);
        let Some(bounds) = metadata.id_pages.get(page) else { break };
        // The page's greatest id is at least this one, so the range is not empty and the loop ends.
        let end = at + ids[at..within.end].partition_point(|id| id.0 <= bounds.max);
        let start = at + ids[at..end].partition_point(|id| id.0 < bounds.min);
        if start < end {
            wanted.push((page, start..end));
        }
        at = end;
    }
    wanted
}

/// The bounds of a column's pages.
struct PageBounds {
    rows: Vec<Range<u32>>,
    mins: ArrayRef,
    maxes: ArrayRef,
}

fn page_bounds(metadata: &FileMetadata, place: usize) -> Result<Option<PageBounds>, parquet::errors::ParquetError> {
    let parquet = &metadata.parquet;
    let (Some(columns), Some(offsets)) = (parquet.column_index(), parquet.offset_index()) else { return Ok(None) };
    let schema = metadata.arrow.schema();
    let descriptor = parquet.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(schema.field(place).name(), schema, descriptor)?;
    let groups: Vec<usize> = (0..parquet.num_row_groups()).collect();
    let mins = converter.data_page_mins(columns, offsets, &groups)?;
    let maxes = converter.data_page_maxes(columns, offsets, &groups)?;
    let mut rows = Vec::with_capacity(mins.len());
    let mut start = 0u32;
    for (group, offsets) in parquet.row_groups().iter().zip(offsets) {
        let count = group.num_rows() as u32;
        let Some(pages) = offsets.get(place).map(|index| index.page_locations()) else { return Ok(None) };
        for (page, location) in pages.iter().enumerate() {
            let next = pages.get(page + 1).map_or(count, |next| next.first_row_index as u32);
            rows.push(start.saturating_add(location.first_row_index as u32)..start.saturating_add(next));
        }
        start = start.saturating_add(count);
    }
    Ok((rows.len() == mins.len() && rows.len() == maxes.len()).then_some(PageBounds { rows, mins, maxes }))
}
