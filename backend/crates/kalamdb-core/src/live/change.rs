//! A change as subscribers get it, made once and shared by all of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::FieldRef;
use bytes::Bytes;
use kalamdb_commons::Result;
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::system_columns::{SEQ, SystemColumns};
pub use kalamdb_store::keys::ChangeKind;

use super::log::ChangePage;
use super::plan::{LiveQuery, Shape, matches_at};
use crate::query::{Planner, arrow_error};

/// How many forms of a change can be kept: one per wire format.
pub const FORMATS: usize = 2;

/// The subscribers' form of the versions of a page.
#[derive(Debug)]
pub(crate) struct ShapedPage {
    rows: RecordBatch,
    /// Which of `rows` a version is; `None` if that is its own number.
    places: Option<Vec<usize>>,
    /// Of all versions.
    keys: RecordBatch,
    bytes: usize,
}

impl ShapedPage {
    /// All versions. An error also if the projection fails on one that no filter lets through.
    pub(crate) fn new(planner: &Planner, shape: &Shape, versions: &RecordBatch) -> Result<Self> {
        let rows = shape.rows(planner, versions)?;
        Self::with(planner, shape, versions, rows, None)
    }

    /// Those that a client may see: as in a SELECT, the projection sees no others.
    pub(crate) fn only(
        planner: &Planner,
        shape: &Shape,
        versions: &RecordBatch,
        is_shown: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let shown: BooleanArray = (0..versions.num_rows()).map(|row| Some(is_shown(row))).collect();
        let places = shown.values().iter().scan(0, |next, is_shown| {
            let place = *next;
            *next += usize::from(is_shown);
            Some(place)
        });
        let places = places.collect();
        let rows = shape.rows(planner, &filter_record_batch(versions, &shown).map_err(arrow_error)?)?;
        Self::with(planner, shape, versions, rows, Some(places))
    }

    fn with(
        planner: &Planner,
        shape: &Shape,
        versions: &RecordBatch,
        rows: RecordBatch,
        places: Option<Vec<usize>>,
    ) -> Result<Self> {
        let keys = shape.keys(planner, versions)?;
        let bytes = rows.get_array_memory_size() + keys.get_array_memory_size();
        Ok(Self { rows, places, keys, bytes })
    }

    /// Which of its rows a version is that is shown.
    fn place(&self, version: usize) -> usize {
        self.places.as_ref().map_or(version, |places| places[version])
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
        Some((&self.page.rows, self.page.place(new)))
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
                let (old, new) = (self.page.place(old), self.page.place(new));
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
            (ChangeKind::Update, Some(old)) => cell(&self.page.rows, seq_of(&self.page.rows), self.page.place(old)),
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
    /// `None` for a projection that fails on some version: what of it is shown is made for each filter.
    shaped: HashMap<usize, Option<Arc<ShapedPage>>>,
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
    let mut own: Option<Arc<ShapedPage>> = None;
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
        let whole = || ShapedPage::new(planner, &query.shape, &page.versions).ok().map(Arc::new);
        let shared = cache.shaped.entry(shape).or_insert_with(whole).clone();
        let is_shared = shared.is_some();
        let shaped = match shared.or_else(|| own.clone()) {
            Some(shaped) => shaped,
            None => {
                let is_shown = |version: usize| matches_at(matches, version);
                own.insert(Arc::new(ShapedPage::only(planner, &query.shape, &page.versions, is_shown)?)).clone()
            }
        };
        let named = change.old.or(change.new).unwrap_or_default();
        let made = LiveChange::new(kind, change.at, shaped, Versions { new: change.new, old: change.old, named });
        if is_shared {
            cache.changes.insert((shape, at, number), made.clone());
        }
        found.push(made);
    }
    Ok(found)
}
