//! Result streams: bounded in time, cancelled by being dropped, and holding what they read from.

use arrow::array::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::{Error, Result};

use super::{StatementScope, plan_error};

/// Runs a plan. The stream keeps the scope's moment open until it is dropped, and ends with an error when the
/// statement has run, or has held its moment, longer than the settings allow.
pub(crate) async fn run(scope: &StatementScope, plan: &LogicalPlan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let planner = scope.engine.planner();
    let physical = planner.physical(plan).await?;
    let stream = execute_stream(physical, planner.task().clone()).map_err(|error| plan_error(error, "running"))?;
    let deadline = Deadline { started: Stopwatch::start(), scope: scope.clone() };
    let batches = stream.map(move |batch| {
        deadline.check()?;
        batch.map_err(|error| plan_error(error, "running the query"))
    });
    Ok(batches.boxed())
}

/// When a statement must be over.
struct Deadline {
    started: Stopwatch,
    scope: StatementScope,
}

impl Deadline {
    /// Whether there is time left.
    fn check(&self) -> Result<()> {
        let limits = &self.scope.engine.settings().limits;
        if self.started.elapsed().as_secs() >= limits.statement_timeout_seconds {
            return Err(Error::timeout(format!(
                "the statement ran longer than {} s (limits.statement_timeout_seconds)",
                limits.statement_timeout_seconds
            )));
        }
        if self.scope.point.age().as_secs() >= limits.snapshot_age_max_seconds {
            return Err(Error::timeout(format!(
                "the statement held its snapshot longer than {} s (limits.snapshot_age_max_seconds)",
                limits.snapshot_age_max_seconds
            )));
        }
        Ok(())
    }
}
