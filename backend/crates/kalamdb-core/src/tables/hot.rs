//! Reading hot rows for DataFusion: page by page from the snapshot, straight into Arrow, projected columns only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::ids::ColumnId;
use kalamdb_commons::schema::Table;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_store::keys;
use kalamdb_store::rows::{self, Projected, RowDecoder};

use crate::partition::lookup::PartitionRead;
use crate::partition::{SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};
use crate::stats::StatementStats;

/// The values of columns that older rows lack, one-element arrays.
pub(crate) type Missing = Arc<HashMap<ColumnId, ArrayRef>>;

/// A scan of a partition's hot rows.
#[derive(Debug)]
pub(super) struct HotScan {
    table: Arc<Table>,
    read: PartitionRead,
    projection: Vec<Projected>,
    missing: Missing,
    with_deleted: bool,
    schema: SchemaRef,
    stats: Arc<StatementStats>,
}

impl HotScan {
    pub(super) fn new(
        table: Arc<Table>,
        read: PartitionRead,
        projection: Vec<Projected>,
        missing: Missing,
        with_deleted: bool,
        stats: Arc<StatementStats>,
    ) -> Result<Self> {
        let schema = RowDecoder::new(&table, projection.clone(), &missing, 0)?.schema().clone();
        Ok(Self { table, read, projection, missing, with_deleted, schema, stats })
    }

    /// The rows of the first page, and where the next begins; all rows if there is none.
    pub(super) async fn first(&self) -> Result<(Vec<RecordBatch>, Option<Bytes>)> {
        let (batch, next) = self.page(self.start()).await?;
        let pending = if next.is_none() { self.pending_rows()? } else { None };
        Ok((batch.into_iter().chain(pending).collect(), next))
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn start(&self) -> Bytes {
        keys::current_prefix(self.read.partition.keys())
    }

    /// One page of rows, and where the next begins.
    async fn page(&self, start: Bytes) -> Result<(Option<RecordBatch>, Option<Bytes>)> {
        let end = keys::prefix_end(&self.start());
        let page = self.read.point.snapshot().scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
        let mut decoder = RowDecoder::new(&self.table, self.projection.clone(), &self.missing, page.entries.len())?;
        let gone = self.read.gone_through();
        for (key, value) in &page.entries {
            let header = rows::header(value)?;
            if header.updated <= gone || (header.deleted && !self.with_deleted) {
                continue;
            }
            let row = keys::row_id_of(key)?;
            if self.read.pending.as_ref().is_some_and(|pending| pending.row(row).is_some()) {
                continue;
            }
            decoder.push(row, value)?;
        }
        let batch = if decoder.is_empty() { None } else { Some(decoder.finish()?) };
        StatementStats::add(&self.stats.hot_rows_read, batch.as_ref().map_or(0, |batch| batch.num_rows() as u64));
        Ok((batch, page.next))
    }

    /// The rows of the next page that has any, and where the one after begins; with the last page come the rows that
    /// are pending.
    async fn next_batches(&self, mut start: Bytes) -> Result<(Vec<RecordBatch>, Option<Bytes>)> {
        loop {
            match self.page(start).await? {
                (batch, None) => return Ok((batch.into_iter().chain(self.pending_rows()?).collect(), None)),
                (Some(batch), next) => return Ok((vec![batch], next)),
                (None, Some(next)) => start = next,
            }
        }
    }

    /// The rows that the reader's own transaction has written.
    fn pending_rows(&self) -> Result<Option<RecordBatch>> {
        let Some(pending) = &self.read.pending else { return Ok(None) };
        let mut decoder = RowDecoder::new(&self.table, self.projection.clone(), &self.missing, 0)?;
        for change in pending.rows().filter(|change| !change.deletes || self.with_deleted) {
            let mut value = change.value.clone();
            let provisional = self.read.provisional();
            rows::patch(&mut value, provisional, change.replaces.map_or(provisional, |seen| seen.born))?;
            decoder.push(change.row, &value)?;
        }
        if decoder.is_empty() { Ok(None) } else { Ok(Some(decoder.finish()?)) }
    }
}

/// The stream form of a [`HotScan`] whose first page has been read.
#[derive(Debug)]
pub(super) struct HotStream {
    pub(super) scan: Arc<HotScan>,
    pub(super) first: Vec<RecordBatch>,
    /// Where the second page begins.
    pub(super) next: Bytes,
}

impl PartitionStream for HotStream {
    fn schema(&self) -> &SchemaRef {
        &self.scan.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let scan = self.scan.clone();
        let schema = scan.schema.clone();
        let first = futures::stream::iter([Ok(self.first.clone())]);
        let pages = futures::stream::try_unfold(Some(self.next.clone()), move |next| {
            let scan = scan.clone();
            async move {
                match next {
                    Some(start) => scan.next_batches(start).await.map(Some),
                    None => Ok(None),
                }
            }
        });
        let batches = first
            .chain(pages)
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .map_err(|error: Error| DataFusionError::External(error.into()));
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}
