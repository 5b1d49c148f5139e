//! Reading batch files for DataFusion: the reader that hands it cached footers and counted reads, and the row
//! selections that mask dead positions.

use std::ops::Range;
use std::sync::{Arc, Once};

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use kalamdb_filestore::BatchFile;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::AsyncFileReader;
use roaring::RoaringBitmap;

use crate::stats::StatementStats;

/// Makes readers of batch files that a scan attached to its [`PartitionedFile`]s.
#[derive(Debug)]
pub(super) struct BatchReaders {
    stats: Arc<StatementStats>,
    /// Done when the scan's metrics are known to the statement's counters.
    counted: Once,
}

impl BatchReaders {
    /// Readers for one scan.
    pub(super) fn new(stats: Arc<StatementStats>) -> Self {
        Self { stats, counted: Once::new() }
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
        self.counted.call_once(|| self.stats.scan(metrics));
        Ok(Box::new(batch.0.reader(&self.stats.io)))
    }
}

/// The batch file behind a [`PartitionedFile`].
#[derive(Debug, Clone)]
pub(super) struct AttachedBatch(pub(super) Arc<BatchFile>);

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
