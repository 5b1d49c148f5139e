//! Reading batch files for DataFusion: the reader that hands it cached footers and counts what is asked of it, and the
//! row selections that mask dead positions.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use kalamdb_filestore::{BatchFile, BatchReader};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringBitmap;

use crate::stats::StatementStats;

/// Makes readers of batch files that a scan attached to its [`PartitionedFile`]s.
#[derive(Debug)]
pub(super) struct BatchReaders {
    stats: Arc<StatementStats>,
    reads_columns: bool,
    /// Done when the scan's metrics are known to the statement's counters.
    counted: Once,
}

impl BatchReaders {
    /// Readers for one scan. One that reads no columns only says how many rows there are.
    pub(super) fn new(stats: Arc<StatementStats>, reads_columns: bool) -> Self {
        Self { stats, reads_columns, counted: Once::new() }
    }
}

impl ParquetFileReaderFactory for BatchReaders {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let Some(batch) = file.extension::<AttachedBatch>() else {
            return Err(DataFusionError::Internal("a scanned file has no batch attached".to_owned()));
        };
        self.counted.call_once(|| self.stats.scan(metrics, self.reads_columns));
        let reader = batch.file.reader(&self.stats.io);
        Ok(Box::new(CountedReader { reader, batch: batch.clone(), stats: self.stats.clone() }))
    }
}

/// The batch file behind a [`PartitionedFile`].
#[derive(Debug, Clone)]
pub(super) struct AttachedBatch {
    file: Arc<BatchFile>,
    /// Whether a scan has asked for pages of it. The parts of a large file are read by several readers.
    is_read: Arc<AtomicBool>,
}

impl AttachedBatch {
    pub(super) fn new(file: Arc<BatchFile>) -> Self {
        Self { file, is_read: Arc::default() }
    }
}

/// A reader that counts its batch as read when the first pages of it are asked for.
struct CountedReader {
    reader: BatchReader,
    batch: AttachedBatch,
    stats: Arc<StatementStats>,
}

impl CountedReader {
    fn reads(&self) {
        if !self.batch.is_read.swap(true, Ordering::Relaxed) {
            StatementStats::add(&self.stats.batches_read, 1);
        }
    }
}

impl AsyncFileReader for CountedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.reads();
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        if !ranges.is_empty() {
            self.reads();
        }
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.reader.get_metadata(options)
    }
}

/// The live rows of a file as a row selection; `None` if every row is live.
pub(super) fn live_rows(dead: &RoaringBitmap, rows: u64) -> Option<RowSelection> {
    if dead.is_empty() {
        return None;
    }
    let mut live: Vec<Range<usize>> = Vec::new();
    let mut next = 0usize;
    for position in dead {
        let position = position as usize;
        if position > next {
            live.push(next..position);
        }
        next = position + 1;
    }
    let rows = rows as usize;
    if next < rows {
        live.push(next..rows);
    }
    Some(RowSelection::from_consecutive_ranges(live.into_iter(), rows))
}
