//! Many sorted batches into one, with bounded memory.
//!
//! The inputs are read side by side, each a piece of some thousand rows at a time, and rows go to the output in the
//! order of their ids. Of several versions of a row the one of the latest interval stays. A deletion is left out if it
//! was kept long enough and its row was born within the merged interval: then no earlier file holds an older version.
//! Rows that versions outside of the inputs replace stay, dead as they are: who reads at an older moment needs them, and
//! so does the rule that every superseding row has an older version in a file.
//!
//! **What is left depends on nothing but the inputs** (and on how long deletions were kept). So any set of files whose
//! intervals cover history without overlap is that history, whichever of them a rebuild finds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, interleave_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use kalamdb_commons::ids::{CommitTime, SchemaVersion};
use kalamdb_commons::schema::{Column, Table};
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{BatchColumn, BatchWriter, IoCounters, batch_schema};
use roaring::RoaringBitmap;

use crate::partition::view::ColdBatch;
use crate::query::{arrow_error, plan_error};
use crate::tables::hot::Missing;

/// What all pieces that are held at a time may take, about.
const PIECES_BYTES: u64 = 64 << 20;
/// A piece has at least so many rows, or reading a page again and again would cost too much.
const PIECE_ROWS_MIN: u64 = 512;
/// And at most so many.
const PIECE_ROWS_MAX: u64 = 65_536;
/// How many times larger rows are in memory than in a file, about.
const DECODED_FACTOR: u64 = 4;
/// Rows that are handed to the writer at a time.
const BLOCK_ROWS: usize = 8_192;

/// What a merge is to do.
pub(super) struct Merge<'a> {
    pub(super) table: &'a Table,
    /// The schema version of the output.
    pub(super) version: SchemaVersion,
    /// What columns read as that an input lacks.
    pub(super) missing: &'a Missing,
    /// Where the merged interval begins.
    pub(super) from: CommitTime,
    /// Deletions from before this moment need not be kept.
    pub(super) kept_since: CommitTime,
    pub(super) io: &'a Arc<IoCounters>,
}

/// What a merge left out, and what it knows of the output.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Positions in the output of rows that batches outside of the inputs replace.
    pub(super) superseded: RoaringBitmap,
    /// Superseded rows that were left out.
    pub(super) superseded_removed: u64,
    /// Deletions that were left out.
    pub(super) deletions_removed: u64,
    /// The time of the last of them.
    pub(super) forgotten: Option<CommitTime>,
    /// Rows of the output.
    pub(super) rows: u64,
}

impl Merge<'_> {
    /// Merges batches, which are in the order of their intervals, into a file. `pace` is called for each block of rows
    /// with the rows and bytes that it has; its error ends the merge.
    pub(super) async fn run(
        &self,
        batches: &[ColdBatch],
        writer: &mut BatchWriter,
        mut pace: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<Merged> {
        let mut output = Output::default();
        let mut inputs = Vec::with_capacity(batches.len());
        let mut heads = BinaryHeap::with_capacity(batches.len());
        for (place, batch) in batches.iter().enumerate() {
            let mut input = Input::new(self, batch, batches.len())?;
            if input.refill(self, &mut output).await? {
                heads.push(Reverse((input.head().id, place)));
            }
            inputs.push(input);
        }
        while let Some(Reverse((id, first))) = heads.pop() {
            let mut newest = first;
            while let Some(Reverse((same, later))) = heads.peek().copied().filter(|Reverse((next, _))| *next == id) {
                heads.pop();
                self.replaces(&inputs[later], same)?;
                output.merged.superseded_removed += 1;
                advance(self, &mut inputs, newest, &mut heads, &mut output).await?;
                newest = later;
            }
            self.put(&inputs[newest], &mut output);
            advance(self, &mut inputs, newest, &mut heads, &mut output).await?;
            if output.is_full(inputs.len()) {
                write(writer, &mut inputs, &mut output, &mut pace).await?;
            }
        }
        write(writer, &mut inputs, &mut output, &mut pace).await?;
        Ok(output.merged)
    }

    /// Two versions of a row must be one that was replaced and the one that replaces it.
    fn replaces(&self, later: &Input, id: i64) -> Result<()> {
        if later.head().born <= later.batch.entry.from {
            return Ok(());
        }
        let path = &later.batch.entry.path;
        Err(Error::corrupt(format!("{path} holds row {id}, which an earlier batch holds too, as if it were new")))
    }

    /// Takes the newest version of a row into the output, unless it is a deletion that nobody needs any more.
    fn put(&self, input: &Input, output: &mut Output) {
        let head = input.head();
        if head.deleted && head.born > self.from && head.updated < self.kept_since {
            output.merged.deletions_removed += 1;
            output.merged.forgotten = output.merged.forgotten.max(Some(head.updated));
            return;
        }
        if input.batch.superseded.contains(head.position) {
            // A file has at most as many rows as positions can name.
            output.merged.superseded.insert(output.merged.rows as u32);
        }
        output.picks.push((input.slot, input.at));
        output.merged.rows += 1;
    }
}

/// Moves an input to its next row.
async fn advance(
    merge: &Merge<'_>,
    inputs: &mut [Input],
    place: usize,
    heads: &mut BinaryHeap<Reverse<(i64, usize)>>,
    output: &mut Output,
) -> Result<()> {
    let input = &mut inputs[place];
    input.at += 1;
    if input.at < input.piece.ids.len() || input.refill(merge, output).await? {
        heads.push(Reverse((input.head().id, place)));
    }
    Ok(())
}

/// Hands the rows that were picked to the writer, and keeps of the pieces those that are still being read.
async fn write(
    writer: &mut BatchWriter,
    inputs: &mut [Input],
    output: &mut Output,
    pace: &mut impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    if !output.picks.is_empty() {
        let pieces: Vec<&RecordBatch> = output.pieces.iter().collect();
        let rows = interleave_record_batch(&pieces, &output.picks).map_err(arrow_error)?;
        writer.write(&rows).await?;
        pace(rows.num_rows() as u64, rows.get_array_memory_size() as u64)?;
        output.picks.clear();
    }
    output.pieces.clear();
    for input in inputs.iter_mut().filter(|input| input.at < input.piece.ids.len()) {
        input.slot = output.pieces.len();
        output.pieces.push(input.piece.rows.clone());
    }
    Ok(())
}

/// Rows on their way to the writer.
#[derive(Default)]
struct Output {
    merged: Merged,
    pieces: Vec<RecordBatch>,
    /// Which rows of which pieces, in the order of the output.
    picks: Vec<(usize, usize)>,
}

impl Output {
    /// Pieces that are read to their end wait for the block, so there may be as many of them again.
    fn is_full(&self, inputs: usize) -> bool {
        self.picks.len() >= BLOCK_ROWS || self.pieces.len() > 2 * inputs + 8
    }
}

/// Rows of an input that are in memory, in the columns of the output.
struct Piece {
    rows: RecordBatch,
    ids: arrow::buffer::ScalarBuffer<i64>,
    updated: arrow::buffer::ScalarBuffer<i64>,
    born: arrow::buffer::ScalarBuffer<i64>,
    deleted: BooleanArray,
    /// The position of the first of them in the file.
    first: u32,
}

/// The row that an input stands at.
struct Head {
    id: i64,
    updated: CommitTime,
    born: CommitTime,
    deleted: bool,
    position: u32,
}

/// A batch that is being read from its first row to its last.
struct Input {
    batch: ColdBatch,
    conversion: Conversion,
    piece_rows: u32,
    /// The position of the next piece.
    next: u32,
    piece: Piece,
    at: usize,
    /// Where the piece lies among those of the output.
    slot: usize,
}

impl Input {
    fn new(merge: &Merge<'_>, batch: &ColdBatch, inputs: usize) -> Result<Self> {
        let entry = &batch.entry;
        let row_bytes = (entry.byte_size / entry.row_count.max(1)).max(16) * DECODED_FACTOR;
        let rows = PIECES_BYTES / inputs.max(1) as u64 / row_bytes;
        let conversion = Conversion::new(merge, entry.schema_version)?;
        Ok(Self {
            batch: batch.clone(),
            piece: Piece::new(RecordBatch::new_empty(conversion.schema.clone()), 0),
            conversion,
            // Within the bounds, so it fits.
            piece_rows: rows.clamp(PIECE_ROWS_MIN, PIECE_ROWS_MAX) as u32,
            next: 0,
            at: 0,
            slot: 0,
        })
    }

    fn head(&self) -> Head {
        let (piece, at) = (&self.piece, self.at);
        Head {
            id: piece.ids[at],
            updated: CommitTime(piece.updated[at]),
            born: CommitTime(piece.born[at]),
            deleted: piece.deleted.value(at),
            position: piece.first + at as u32,
        }
    }

    /// Reads the next piece; false if there is none.
    async fn refill(&mut self, merge: &Merge<'_>, output: &mut Output) -> Result<bool> {
        let rows = u32::try_from(self.batch.entry.row_count)
            .map_err(|_| Error::corrupt(format!("{} has too many rows", self.batch.entry.path)))?;
        if self.next >= rows {
            return Ok(false);
        }
        let range = self.next..rows.min(self.next.saturating_add(self.piece_rows));
        self.piece = self.read(merge, range.clone()).await?;
        self.next = range.end;
        self.at = 0;
        self.slot = output.pieces.len();
        output.pieces.push(self.piece.rows.clone());
        Ok(true)
    }

    async fn read(&self, merge: &Merge<'_>, range: Range<u32>) -> Result<Piece> {
        let first = range.start;
        let stored = self.batch.file.rows_between(range, &self.conversion.wanted, merge.io).await?;
        Ok(Piece::new(self.conversion.apply(&stored)?, first))
    }
}

impl Piece {
    fn new(rows: RecordBatch, first: u32) -> Self {
        let from_end = |back: usize| rows.column(rows.num_columns() - back);
        Self {
            ids: rows.column(0).as_primitive::<Int64Type>().values().clone(),
            updated: from_end(3).as_primitive::<TimestampNanosecondType>().values().clone(),
            deleted: from_end(2).as_boolean().clone(),
            born: from_end(1).as_primitive::<Int64Type>().values().clone(),
            rows,
            first,
        }
    }
}

/// How the columns of one schema version become those of another.
struct Conversion {
    schema: SchemaRef,
    /// What is read of the file.
    wanted: Vec<BatchColumn>,
    /// Each column of the output.
    outputs: Vec<Source>,
}

/// Where a column of the output comes from.
enum Source {
    /// From what is read.
    Stored { at: usize, cast: Option<DataType> },
    /// The file's version did not have the column yet.
    Constant(ScalarValue),
}

impl Conversion {
    fn new(merge: &Merge<'_>, stored: SchemaVersion) -> Result<Self> {
        let unknown = |version| Error::corrupt(format!("{} has no schema version {version}", merge.table.name));
        let then = merge.table.columns_at(stored).ok_or_else(|| unknown(stored))?;
        let now = merge.table.columns_at(merge.version).ok_or_else(|| unknown(merge.version))?;
        let (mut wanted, mut outputs) = (Vec::new(), Vec::new());
        let mut store = |column, cast| {
            wanted.push(column);
            Source::Stored { at: wanted.len() - 1, cast }
        };
        outputs.push(store(BatchColumn::Id, None));
        for column in now.iter() {
            outputs.push(match then.iter().find(|old| old.id == column.id) {
                Some(old) => {
                    let to = column.column_type.arrow();
                    store(BatchColumn::Column(column.id), (old.column_type.arrow() != to).then_some(to))
                }
                None => Source::Constant(missing_value(column, merge.missing)?),
            });
        }
        for column in [BatchColumn::Updated, BatchColumn::Deleted, BatchColumn::Born] {
            outputs.push(store(column, None));
        }
        Ok(Self { schema: batch_schema(now), wanted, outputs })
    }

    fn apply(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        // What does not convert belongs to rows that are dead: live ones were verified when the type was changed.
        let lenient = CastOptions { safe: true, ..CastOptions::default() };
        let column = |source: &Source| -> Result<ArrayRef> {
            match source {
                Source::Stored { at, cast: None } => Ok(stored.column(*at).clone()),
                Source::Stored { at, cast: Some(to) } => {
                    cast_with_options(stored.column(*at), to, &lenient).map_err(arrow_error)
                }
                Source::Constant(value) => value
                    .to_array_of_size(stored.num_rows())
                    .map_err(|error| plan_error(error, "the value of a column that old rows lack")),
            }
        };
        let columns = self.outputs.iter().map(column).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)
    }
}

fn missing_value(column: &Column, missing: &Missing) -> Result<ScalarValue> {
    let value = match missing.get(&column.id) {
        Some(value) => ScalarValue::try_from_array(value, 0),
        None => ScalarValue::try_from(&column.column_type.arrow()),
    };
    value.map_err(|error| plan_error(error, "the value of a column that old rows lack"))
}
