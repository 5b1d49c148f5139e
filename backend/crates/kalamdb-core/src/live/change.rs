//! A change as subscribers get it, made once and shared by all of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::FieldRef;
use bytes::Bytes;
use kalamdb_commons::Result;
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::system_columns::{SEQ, SystemColumns};
pub use kalamdb_store::keys::ChangeKind;

use super::log::ChangePage;
use super::plan::{LiveQuery, Shape, matches_at};
use crate::query::Planner;

/// How many forms of a change can be kept: one per wire format.
pub const FORMATS: usize = 2;

/// The subscribers' form of all versions of a page.
#[derive(Debug)]
pub(crate) struct ShapedPage {
    rows: RecordBatch,
    keys: RecordBatch,
    bytes: usize,
}

impl ShapedPage {
    pub(crate) fn new(planner: &Planner, shape: &Shape, versions: &RecordBatch) -> Result<Self> {
        let (rows, keys) = (shape.rows(planner, versions)?, shape.keys(planner, versions)?);
        let bytes = rows.get_array_memory_size() + keys.get_array_memory_size();
        Ok(Self { rows, keys, bytes })
    }
}

/// What happened to a row, in the eyes of a filter.
#[derive(Debug)]
pub struct LiveChange {
    kind: ChangeKind,
    at: CommitTime,
    page: Arc<ShapedPage>,
    new: Option<usize>,
    old: Option<usize>,
    /// The version whose keys name the row to the client.
    named: usize,
    encoded: [OnceLock<Bytes>; FORMATS],
}

/// A value of a row.
#[derive(Debug, Clone)]
pub struct LiveCell {
    /// Its column.
    pub field: FieldRef,
    /// The values of the column.
    pub values: ArrayRef,
    /// Which of them.
    pub row: usize,
}

/// The versions of a change, as indexes into a page; where the old one is not known, the key is that of `named`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Versions {
    pub(crate) new: Option<usize>,
    pub(crate) old: Option<usize>,
    pub(crate) named: usize,
}

impl LiveChange {
    pub(crate) fn new(kind: ChangeKind, at: CommitTime, page: Arc<ShapedPage>, versions: Versions) -> Arc<Self> {
        let Versions { new, old, named } = versions;
        Arc::new(Self { kind, at, page, new, old, named, encoded: Default::default() })
    }

    /// The bytes that it keeps in memory, those of others on its page included.
    pub(crate) fn bytes(&self) -> usize {
        self.page.bytes
    }

    /// What happened.
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The commit time: the cursor after this change.
    pub fn seq(&self) -> i64 {
        self.at.0
    }

    /// The row as it became, in the selected columns; `None` for a deletion.
    pub fn row(&self) -> Option<(&RecordBatch, usize)> {
        let new = self.new.filter(|_| self.kind != ChangeKind::Delete)?;
        Some((&self.page.rows, new))
    }

    /// The keys of the row that was, the exact version, and the columns that changed; `None` for an insert.
    pub fn old_values(&self) -> Option<Vec<LiveCell>> {
        if self.kind == ChangeKind::Insert {
            return None;
        }
        let mut cells = cells(&self.page.keys, self.named);
        let changed: Vec<LiveCell> = match (self.kind, self.old, self.new) {
            (ChangeKind::Update, Some(old), Some(new)) => {
                let rows = &self.page.rows;
                let differs = |at: &usize| *at != seq_of(rows) && differ(rows.column(*at), old, new);
                let changed = (0..rows.num_columns()).filter(differs);
                changed.map(|at| cell(rows, at, old)).collect()
            }
            _ => Vec::new(),
        };
        for more in changed {
            if cells.iter().all(|cell| cell.field.name() != more.field.name()) {
                cells.push(more);
            }
        }
        cells.push(match (self.kind, self.old) {
            (ChangeKind::Update, Some(old)) => cell(&self.page.rows, seq_of(&self.page.rows), old),
            _ => LiveCell {
                field: Arc::new(SystemColumns::seq_field()),
                values: Arc::new(Int64Array::from(vec![self.at.0])),
                row: 0,
            },
        });
        Some(cells)
    }

    /// The change in a format of the caller's, made by the first who asks. `format` is below [`FORMATS`].
    pub fn encoded(&self, format: usize, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.encoded[format].get_or_init(encode).clone()
    }
}

fn cells(batch: &RecordBatch, row: usize) -> Vec<LiveCell> {
    (0..batch.num_columns()).map(|at| cell(batch, at, row)).collect()
}

fn cell(batch: &RecordBatch, column: usize, row: usize) -> LiveCell {
    let field = batch.schema_ref().fields()[column].clone();
    LiveCell { field, values: batch.column(column).clone(), row }
}

/// Where the exact version stands: every shape has it.
fn seq_of(rows: &RecordBatch) -> usize {
    rows.schema_ref().index_of(SEQ).unwrap_or(rows.num_columns())
}

fn differ(values: &ArrayRef, old: usize, new: usize) -> bool {
    let (old, new) = (values.slice(old, 1), values.slice(new, 1));
    old.to_data() != new.to_data()
}

/// What a page means to filters, made once for all that ask the same.
#[derive(Debug, Default)]
pub(crate) struct PageCache {
    shaped: HashMap<usize, Arc<ShapedPage>>,
    changes: HashMap<(usize, usize, u8), Arc<LiveChange>>,
}

/// What a page means to a query, in commit order.
pub(crate) fn changes_for(
    planner: &Planner,
    query: &LiveQuery,
    page: &ChangePage,
    cache: &mut PageCache,
) -> Result<Vec<Arc<LiveChange>>> {
    let matches = query.matches(planner, &page.versions)?;
    let matches = matches.as_ref();
    let mut found = Vec::new();
    for (at, change) in page.changes.iter().enumerate() {
        let was = change.old.is_some_and(|old| matches_at(matches, old));
        let is = change.new.is_some_and(|new| matches_at(matches, new));
        let (kind, number) = match (was, is) {
            (false, false) => continue,
            (false, true) => (ChangeKind::Insert, 0),
            (true, true) => (ChangeKind::Update, 1),
            (true, false) => (ChangeKind::Delete, 2),
        };
        let shape = Arc::as_ptr(&query.shape) as usize;
        if let Some(known) = cache.changes.get(&(shape, at, number)) {
            found.push(known.clone());
            continue;
        }
        let shaped = match cache.shaped.get(&shape) {
            Some(shaped) => shaped.clone(),
            None => {
                let shaped = Arc::new(ShapedPage::new(planner, &query.shape, &page.versions)?);
                cache.shaped.insert(shape, shaped.clone());
                shaped
            }
        };
        let named = change.old.or(change.new).unwrap_or_default();
        let made = LiveChange::new(kind, change.at, shaped, Versions { new: change.new, old: change.old, named });
        cache.changes.insert((shape, at, number), made.clone());
        found.push(made);
    }
    Ok(found)
}
