//! `system.audit_log` and the answer to VERIFY AUDIT. Only shown: nothing that SQL can say changes the log.

use arrow::array::RecordBatch;
use kalamdb_commons::error::Result;
use kalamdb_commons::types::ColumnType::{BigInt, Text, Timestamp};

use super::sheet::{self, Cell, Columns, Row};
use crate::audit::chain::Stored;
use crate::audit::verify::Report;

pub(super) const AUDIT_LOG: Columns = &[
    ("entry_id", BigInt),
    ("created_at", Timestamp),
    ("actor", Text),
    ("subject", Text),
    ("role", Text),
    ("kind", Text),
    ("object", Text),
    ("outcome", Text),
    ("reason", Text),
    ("row_count", BigInt),
    ("times", BigInt),
    ("request_id", Text),
    ("address", Text),
    ("seal", Text),
];

/// The rows of stored entries.
pub(crate) fn audit_entries(stored: &[Stored]) -> Result<RecordBatch> {
    let rows: Vec<Row> = stored.iter().map(row).collect::<Result<_>>()?;
    sheet::batch(AUDIT_LOG, rows)
}

fn row(stored: &Stored) -> Result<Row> {
    let entry = stored.entry()?;
    Ok(vec![
        whole(stored.number),
        Cell::Time(entry.at_us / 1_000),
        entry.actor.as_str().into(),
        entry.subject.into(),
        entry.role.as_str().into(),
        entry.kind.into(),
        entry.object.into(),
        entry.outcome.as_str().into(),
        entry.reason.into(),
        entry.rows.map_or(Cell::Null, whole),
        whole(entry.times),
        entry.request_id.into(),
        entry.address.into(),
        stored.seal.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    ])
}

fn whole(number: u64) -> Cell {
    i64::try_from(number).map_or(Cell::Null, Cell::Int)
}

const VERIFIED: Columns =
    &[("status", Text), ("entries", BigInt), ("first_entry", BigInt), ("last_entry", BigInt), ("problem", Text)];

/// One row if the log is whole, else one for each problem.
pub(crate) fn verified(report: &Report) -> Result<RecordBatch> {
    let row = |status: &str, problem: Cell| -> Row {
        let number = |number: Option<u64>| number.map_or(Cell::Null, whole);
        vec![status.into(), whole(report.entries), number(report.first), number(report.last), problem]
    };
    let rows = match report.problems.as_slice() {
        [] => vec![row("ok", Cell::Null)],
        problems => problems.iter().map(|problem| row("damaged", problem.as_str().into())).collect(),
    };
    sheet::batch(VERIFIED, rows)
}
