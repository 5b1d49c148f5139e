//! What a subscription gets before it follows the change log: the rows as they are at a moment, by rising version, or,
//! for a cursor that is older than the log, what became of every row since.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::StreamExt;
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::system_columns::{BORN, DELETED, SEQ};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::Query;

use super::change::{ChangeKind, LiveChange, ShapedPage, Versions};
use super::feeder::{Feeder, Turn, pinned};
use super::plan::{self, LiveQuery, Source, matches_at};
use super::subscription::Status;
use super::{BatchControl, LiveCode, LiveError, LiveEvent, LiveOptions};
use crate::partition::Partition;
use crate::partition::log_pins::LogPin;
use crate::query::prepare::marked;
use crate::query::{StatementScope, arrow_error, plan_error};
use crate::tables::Exposure;

/// Bytes of rows in a batch; a row that has more goes alone.
const BATCH_BYTES: usize = 4 << 20;
/// How long a client may take to ask for more before what was sorted for it is let go, and sorted again when it asks.
const HELD_FOR: Duration = Duration::from_secs(2);
/// How long the first rows may take before a subscription is acknowledged without them.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_secs(2);

/// Sends the rows at the scope's moment, batch by batch as the client asks.
pub(crate) async fn send(
    feeder: &Feeder,
    scope: StatementScope,
    (query, source): (&LiveQuery, &Source),
    options: &LiveOptions,
) -> Result<(), LiveError> {
    let settings = feeder.hub.settings();
    let size = options.batch_rows.unwrap_or(settings.batch_rows).clamp(1, settings.batch_rows_max);
    let resync = options.from.is_some();
    // Who has to begin anew needs every row.
    let last_rows = options.last_rows.filter(|_| !resync);
    // The client hears that it is subscribed, and of how many rows, unless finding them takes too long.
    let finding = feeder.acknowledge_after(ACKNOWLEDGED_AFTER, query);
    let mut turn = in_time(&scope, feeder.long_turn()).await??;
    let mut batches =
        read_in_time(&scope, Batches::open(&scope, &rows_query(source, last_rows, None)?, size)).await??;
    let (mut batch, total) = read_in_time(&scope, counted(&scope, source, last_rows, &mut batches)).await??;
    drop(finding);
    feeder.acknowledge(query, total, true, None);
    if resync {
        feeder.put(LiveEvent::ResyncRequired);
    }
    let empty = RecordBatch::new_empty(plan::reads(&query.table).1);
    let (mut number, mut sent, mut last_seq): (u64, usize, Option<i64>) = (0, 0, None);
    loop {
        let read = batch.as_ref().unwrap_or(&empty);
        last_seq = last_version(read)?.or(last_seq);
        sent += read.num_rows();
        let rows = query.shape.rows(scope.engine.planner(), read).map_err(|error| LiveError::conversion(&error))?;
        let has_more = !batches.is_over();
        if !has_more {
            // Whoever got no row can go on from the moment itself.
            last_seq = last_seq.or(Some(scope.point.through().0));
            feeder.loaded();
        }
        feeder.put(LiveEvent::Batch { rows, control: BatchControl { number, has_more, last_seq } });
        if !has_more {
            return Ok(());
        }
        drop(turn);
        let held = feeder.hub.held().try_acquire();
        let is_slow = held.is_err() || tokio::time::timeout(HELD_FOR, feeder.subscription.wished()).await.is_err();
        if is_slow {
            batches.let_go();
            feeder.subscription.set_status(Status::Waiting);
            in_time(&scope, feeder.subscription.wished()).await?;
            feeder.subscription.set_status(Status::Loading);
        }
        turn = in_time(&scope, feeder.long_turn()).await??;
        drop(held);
        if is_slow {
            let left = last_rows.map(|last| last.saturating_sub(sent));
            let again = rows_query(source, left, last_seq)?;
            batches = read_in_time(&scope, Batches::open(&scope, &again, size)).await?.map_err(no_batch)?;
        }
        batch = read_in_time(&scope, batches.next()).await?.map_err(no_batch)?;
        number += 1;
    }
}

fn no_batch(error: Error) -> LiveError {
    LiveError::new(LiveCode::BatchFetchFailed, error)
}

/// The first batch, and how many rows there are.
async fn counted(
    scope: &StatementScope,
    source: &Source,
    last_rows: Option<usize>,
    batches: &mut Batches,
) -> Result<(Option<RecordBatch>, u64)> {
    let batch = batches.next().await?;
    let total = match (batches.is_over(), last_rows) {
        (true, _) => batch.as_ref().map_or(0, RecordBatch::num_rows) as u64,
        (false, Some(last)) => count(scope, source).await?.min(last as u64),
        (false, None) => count(scope, source).await?,
    };
    Ok((batch, total))
}

/// Waits as long as the moment may be held: what it reads from is kept meanwhile.
async fn in_time<T>(scope: &StatementScope, work: impl Future<Output = T>) -> Result<T, LiveError> {
    let seconds = scope.engine.settings().limits.snapshot_age_max_seconds;
    let too_late = || {
        let message = format!("loading took longer than {seconds} s (limits.snapshot_age_max_seconds)");
        LiveError::new(LiveCode::BatchFetchFailed, Error::timeout(message))
    };
    let left = Duration::from_secs(seconds).saturating_sub(scope.point.age());
    // IMPORTANT: a wait of no time at all still takes what is ready.
    if left.is_zero() {
        return Err(too_late());
    }
    tokio::time::timeout(left, work).await.map_err(|_| too_late())
}

/// Reads no longer than a statement may.
async fn read_in_time<T>(scope: &StatementScope, reading: impl Future<Output = T>) -> Result<T, LiveError> {
    let seconds = scope.engine.settings().limits.statement_timeout_seconds;
    let read = tokio::time::timeout(Duration::from_secs(seconds), in_time(scope, reading)).await;
    read.unwrap_or_else(|_| {
        let message = format!("a batch took longer than {seconds} s (limits.statement_timeout_seconds)");
        Err(LiveError::new(LiveCode::BatchFetchFailed, Error::timeout(message)))
    })
}

fn last_version(read: &RecordBatch) -> Result<Option<i64>> {
    let column = read.column_by_name(SEQ).ok_or_else(|| Error::internal("rows without their version"))?;
    let versions = column.as_primitive::<Int64Type>();
    Ok(versions.values().last().copied())
}

/// `SELECT *, version FROM t WHERE f` by rising version, after one that has been sent; only the newest few if `last` says
/// so.
fn rows_query(source: &Source, last: Option<usize>, after: Option<i64>) -> Result<Query> {
    let rest = after.map_or_else(String::new, |after| format!(" WHERE {SEQ} > {after}"));
    let all = format!("SELECT *, {SEQ} FROM t{rest} ORDER BY {SEQ}");
    let template = match last {
        None => all,
        Some(last) => format!("SELECT * FROM ({all} DESC LIMIT {last}) ORDER BY {SEQ}"),
    };
    plan::fill(&template, source.from.clone(), source.filter.clone())
}

async fn count(scope: &StatementScope, source: &Source) -> Result<u64> {
    let counting = plan::fill("SELECT count(*) FROM t", source.from.clone(), source.filter.clone())?;
    let planner = scope.engine.planner();
    let batches = planner.collect(&planner.plan(scope, counting).await?).await?;
    let count = batches.first().filter(|batch| batch.num_rows() > 0);
    let count = count.map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

/// A result in batches of a size, one of them ahead, so that the last is known to be the last.
struct Batches {
    /// `None` once it has been let go.
    stream: Option<SendableRecordBatchStream>,
    held: Vec<RecordBatch>,
    rows: usize,
    size: usize,
    ended: bool,
}

impl Batches {
    async fn open(scope: &StatementScope, query: &Query, size: usize) -> Result<Self> {
        let planner = scope.engine.planner();
        let plan = planner.plan(scope, query.clone()).await?;
        Self::run(scope, &plan, size).await
    }

    async fn run(scope: &StatementScope, plan: &datafusion::logical_expr::LogicalPlan, size: usize) -> Result<Self> {
        let planner = scope.engine.planner();
        let physical = planner.physical(plan).await?;
        let stream =
            execute_stream(physical, planner.task().clone()).map_err(|error| plan_error(error, "a live query"))?;
        Ok(Self { stream: Some(stream), held: Vec::new(), rows: 0, size, ended: false })
    }

    /// Gives up what is sorted, and the rows that are ahead. Nothing may be asked of it any more.
    fn let_go(&mut self) {
        self.stream = None;
        self.held.clear();
    }

    /// Whether every row has been given.
    fn is_over(&self) -> bool {
        self.ended && self.rows == 0
    }

    fn bytes(&self) -> usize {
        let of = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
        self.held.iter().flat_map(RecordBatch::columns).map(of).sum()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        // One more than is given, to know whether there is more.
        while !self.ended && self.rows <= self.size && (self.rows < 2 || self.bytes() < BATCH_BYTES) {
            let Some(stream) = &mut self.stream else { return Err(Error::internal("a result that was let go")) };
            match stream.next().await {
                None => self.ended = true,
                Some(batch) => {
                    let batch = batch.map_err(|error| plan_error(error, "a live query"))?;
                    self.rows += batch.num_rows();
                    self.held.push(batch);
                }
            }
        }
        let fitting = (BATCH_BYTES * self.rows / self.bytes().max(1)).max(1);
        let Some(first) = self.held.first() else { return Ok(None) };
        let all = arrow::compute::concat_batches(&first.schema(), &self.held).map_err(arrow_error)?;
        let given = all.num_rows().min(self.size).min(fitting);
        let rest = all.slice(given, all.num_rows() - given);
        self.rows = rest.num_rows();
        self.held = if self.rows == 0 { Vec::new() } else { vec![rest] };
        Ok(Some(all.slice(0, given)))
    }
}

/// A client that comes back with a cursor.
pub(crate) struct Resume<'a> {
    pub(crate) feeder: &'a Feeder,
    pub(crate) scope: &'a StatementScope,
    pub(crate) query: &'a Arc<LiveQuery>,
    pub(crate) source: &'a Source,
    pub(crate) partition: &'a Arc<Partition>,
}

impl Resume<'_> {
    /// Sends what came after the cursor as far as the log does not have it, and returns the place in the log from which
    /// to go on; `None` if that cannot be told, and a full snapshot must follow.
    pub(crate) async fn from(&self, cursor: CommitTime, turn: Turn<'_>) -> Result<Option<LogPin>, LiveError> {
        let through = self.scope.point.through();
        if cursor > through || cursor < self.began() || self.feeder.hub.lost().holds(cursor) {
            return Ok(None);
        }
        if let Some(pin) = self.partition.pin_log(cursor) {
            self.begin(cursor);
            return Ok(Some(pin));
        }
        if !plan::keeps_history(&self.query.table) {
            return Ok(None);
        }
        drop(turn);
        let _finding = self.feeder.acknowledge_after(ACKNOWLEDGED_AFTER, self.query);
        let turn = in_time(self.scope, self.feeder.long_turn()).await??;
        let finding = self.partition.view_for(&self.scope.point, self.scope.engine.cold());
        let (view, _) = read_in_time(self.scope, finding).await??;
        let complete_from = view.loaded().map_or(CommitTime::ZERO, |loaded| loaded.manifest.deletions_complete_from);
        // Deletions at and after that time are all there; those of interest come after the cursor.
        if complete_from.0 > cursor.0.saturating_add(1) {
            return Ok(None);
        }
        let pin = pinned(self.partition, through)?;
        self.begin(cursor);
        self.send_newest_versions(cursor, turn).await?;
        Ok(Some(pin))
    }

    /// Since when the partition is what it is: this life of the table, and of the account, for a purge removes rows
    /// without a word, and the name may be given again.
    fn began(&self) -> CommitTime {
        let of_table = self.scope.engine.partitions().births().of(self.query.table.incarnation);
        let account = self.partition.id().scope.user().and_then(|user| self.scope.catalog().user(user));
        let of_account = account.map_or(CommitTime::ZERO, |account| CommitTime(account.later_than.0.saturating_add(1)));
        of_table.max(of_account)
    }

    fn begin(&self, cursor: CommitTime) {
        self.feeder.acknowledge(self.query, 0, true, None);
        let rows = RecordBatch::new_empty(self.query.shape.schema.clone());
        self.feeder.put(LiveEvent::Batch {
            rows,
            control: BatchControl { number: 0, has_more: false, last_seq: Some(cursor.0) },
        });
        self.feeder.loaded();
    }

    /// Every row of either tier whose newest version is above the cursor, in commit order.
    async fn send_newest_versions<'t>(&'t self, cursor: CommitTime, mut turn: Turn<'t>) -> Result<(), LiveError> {
        let exposure = Exposure { seq: true, born: true, deleted_rows: true };
        let from = plan::relation_named(&self.source.from, |name| marked(name, exposure));
        let template = format!("SELECT * FROM t WHERE {SEQ} > {cursor} ORDER BY {SEQ}");
        let query = plan::fill(&template, from, None)?;
        let plan = self.scope.engine.planner().plan_marked(self.scope, query).await?;
        let size = self.feeder.hub.settings().batch_rows;
        let mut batches = Batches::run(self.scope, &plan, size).await?;
        while let Some(batch) = read_in_time(self.scope, batches.next()).await?? {
            let changes = self.newest_versions(&batch, cursor).map_err(|error| LiveError::conversion(&error))?;
            if !changes.is_empty() {
                self.feeder.put(LiveEvent::Changes(changes.into()));
                drop(turn);
                turn = in_time(self.scope, self.feeder.long_turn()).await??;
            }
        }
        drop(turn);
        Ok(())
    }

    fn newest_versions(&self, batch: &RecordBatch, cursor: CommitTime) -> Result<Vec<Arc<LiveChange>>> {
        let planner = self.scope.engine.planner();
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| Error::internal("a system column is absent"));
        let deleted = column(DELETED)?.as_boolean();
        let born = column(BORN)?.as_primitive::<Int64Type>();
        let version = column(SEQ)?.as_primitive::<Int64Type>();
        let (_, reads) = plan::reads(&self.query.table);
        let read: Vec<_> = reads.fields().iter().map(|field| column(field.name()).cloned()).collect::<Result<_>>()?;
        let read = RecordBatch::try_new(reads, read).map_err(arrow_error)?;
        let matches = self.query.matches(planner, &read)?;
        let is_shown = |row: usize| matches_at(matches.as_ref(), row) && !(deleted.is_valid(row) && deleted.value(row));
        let shaped = ShapedPage::new(planner, &self.query.shape, &read)
            .or_else(|_| ShapedPage::only(planner, &self.query.shape, &read, is_shown))?;
        let shaped = Arc::new(shaped);
        let mut changes = Vec::new();
        for row in 0..read.num_rows() {
            let is = is_shown(row);
            let kind = match (born.value(row) > cursor.0, is) {
                (true, true) => ChangeKind::Insert,
                (false, true) => ChangeKind::Update,
                (false, false) => ChangeKind::Delete,
                (true, false) => continue,
            };
            let versions = Versions { new: is.then_some(row), old: None, named: row };
            changes.push(LiveChange::new(kind, CommitTime(version.value(row)), shaped.clone(), versions));
        }
        Ok(changes)
    }
}
