//! `system.audit_log`: the entries of the log, read page by page.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::TableSource;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_store::Snapshot;

use crate::audit::chain::{Pages, Stored};
use crate::query::plan_error;
use crate::system::audit_entries;

/// The entries that a snapshot has.
#[derive(Debug)]
struct AuditStream {
    snapshot: Arc<dyn Snapshot>,
    schema: SchemaRef,
}

/// The table as a snapshot has it, with the schema of the system table.
pub(crate) fn audit_log(snapshot: Arc<dyn Snapshot>, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
    let stream = Arc::new(AuditStream { snapshot, schema: schema.clone() });
    let table = StreamingTable::try_new(schema, vec![stream]).map_err(|error| plan_error(error, "the audit log"))?;
    Ok(provider_as_source(Arc::new(table)))
}

async fn next_batch(snapshot: &dyn Snapshot, pages: &mut Pages) -> Result<Option<RecordBatch>> {
    let Some(records) = pages.next(snapshot).await? else { return Ok(None) };
    let stored: Vec<Stored> = records.iter().map(|(key, value)| Stored::decode(key, value)).collect::<Result<_>>()?;
    audit_entries(&stored).map(Some)
}

impl PartitionStream for AuditStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.snapshot.clone();
        let batches = futures::stream::try_unfold(Pages::new(), move |mut pages| {
            let snapshot = snapshot.clone();
            async move {
                let batch = next_batch(snapshot.as_ref(), &mut pages).await;
                batch
                    .map(|batch| batch.map(|batch| (batch, pages)))
                    .map_err(|error: Error| DataFusionError::External(error.into()))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
