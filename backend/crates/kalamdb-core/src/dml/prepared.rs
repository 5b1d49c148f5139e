//! A statement's writes, ready to be committed, and the unique keys that must still be free then.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use kalamdb_commons::ids::{ColumnId, RowId};
use kalamdb_commons::schema::{Table, UniqueKey};
use kalamdb_commons::{Error, Result};
use kalamdb_store::rows::key_bytes;

use super::writes::WriteSet;
use crate::commit::locks::LockName;
use crate::commit::{KeyValue, PlannedWith};
use crate::partition::Partition;
use crate::partition::lookup::{KeyQuestion, PartitionRead};

/// Values of one unique key that rows of one partition claim.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) table: Arc<Table>,
    pub(crate) partition: Arc<Partition>,
    pub(crate) key: UniqueKey,
    /// The claiming rows.
    pub(crate) rows: Vec<RowId>,
    /// The key's columns, parallel to `rows`.
    pub(crate) values: Vec<ArrayRef>,
    /// The canonical bytes, parallel to `rows`.
    pub(crate) bytes: Vec<Option<Vec<u8>>>,
}

/// A statement's writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    pub(crate) writes: WriteSet,
    pub(crate) claims: Vec<Claims>,
}

impl Claims {
    /// The key values of rows.
    pub(crate) fn new(
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        key: &UniqueKey,
        user_rows: &RecordBatch,
        rows: &[RowId],
    ) -> Result<Self> {
        let values = key_columns(table, &key.columns, user_rows)?;
        let refs: Vec<&ArrayRef> = values.iter().collect();
        let bytes = (0..rows.len()).map(|row| key_bytes(&refs, row).map_err(Error::from)).collect::<Result<_>>()?;
        Ok(Self {
            table: table.clone(),
            partition: partition.clone(),
            key: key.clone(),
            rows: rows.to_vec(),
            values,
            bytes,
        })
    }

    /// The key value of a row, if it has one.
    pub(crate) fn value(&self, at: usize) -> Option<KeyValue> {
        self.bytes[at].as_ref().map(|bytes| KeyValue { key: self.key.id, bytes: bytes.clone() })
    }

    /// The claims of some of the rows.
    pub(crate) fn only(mut self, keep: impl Fn(usize) -> bool) -> Result<Self> {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|at| keep(*at)).collect();
        if kept.len() == self.rows.len() {
            return Ok(self);
        }
        let indices = UInt64Array::from_iter_values(kept.iter().map(|at| *at as u64));
        let taken = self.values.iter().map(|values| arrow::compute::take(values, &indices, None));
        self.values = taken.collect::<Result<_, _>>().map_err(crate::query::arrow_error)?;
        self.rows = kept.iter().map(|at| self.rows[*at]).collect();
        self.bytes = kept.iter().map(|at| self.bytes[*at].take()).collect();
        Ok(self)
    }

    /// What the committed and pending rows say: who holds each claimed value.
    pub(crate) async fn holders(&self, read: &PartitionRead) -> Result<Vec<Option<RowId>>> {
        let columns = &self.key.columns;
        let question =
            KeyQuestion { table: &self.table, key: self.key.id, columns, values: &self.values, bytes: &self.bytes };
        let holders = read.key_holders(&question).await?;
        Ok(holders.into_iter().map(|holder| holder.map(|holder| holder.row)).collect())
    }

    /// The locks on the claimed values.
    pub(crate) fn locks(&self) -> impl Iterator<Item = LockName> {
        let id = self.partition.id();
        self.bytes.iter().flatten().map(|bytes| LockName::Key(id.clone(), self.key.id, bytes.clone()))
    }

    /// The error of a value that another row holds.
    fn duplicate(&self, at: usize) -> Error {
        let name = |id: &ColumnId| self.table.column_by_id(*id).map_or("?", |column| &*column.name).to_owned();
        let names: Vec<String> = self.key.columns.iter().map(name).collect();
        let shown = |values: &ArrayRef| {
            arrow::util::display::array_value_to_string(values, at).unwrap_or_else(|_| "?".to_owned())
        };
        let shown: Vec<String> = self.values.iter().map(shown).collect();
        Error::execution(format!(
            "duplicate key value violates the unique constraint '{}' of {}: ({}) = ({}) already exists",
            self.key.name,
            self.table.name,
            names.join(", "),
            shown.join(", ")
        ))
    }

    /// Whether the row's last version in these writes still holds the value.
    fn still_claims(&self, at: usize, prepared: &Prepared) -> bool {
        let Some(value) = self.value(at) else { return false };
        let change = prepared.writes.of(self.partition.id()).and_then(|writes| writes.row(self.rows[at]));
        change.is_some_and(|change| change.keys.contains(&value))
    }

    /// Refuses a value that another row holds in `read`, whose pending writes are `prepared`'s own.
    pub(crate) async fn check(&self, read: &PartitionRead, prepared: &Prepared) -> Result<()> {
        // The pending writes would answer for every value that they claim: who holds it otherwise is asked.
        let committed = PartitionRead { pending: None, ..read.clone() };
        let own = prepared.writes.of(self.partition.id());
        for (at, holder) in self.holders(&committed).await?.into_iter().enumerate() {
            let Some(holder) = holder.filter(|holder| *holder != self.rows[at]) else { continue };
            let Some(value) = self.value(at) else { continue };
            // The holder may itself let go of the value in the same writes.
            let let_go = own.and_then(|writes| writes.row(holder)).is_some_and(|change| !change.keys.contains(&value));
            if !let_go && self.still_claims(at, prepared) {
                return Err(self.duplicate(at));
            }
        }
        Ok(())
    }
}

/// The columns of a key out of the user's columns.
fn key_columns(table: &Table, columns: &[ColumnId], user_rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let column = |id: &ColumnId| {
        let at = table.columns().iter().position(|column| column.id == *id);
        at.map(|at| user_rows.column(at).clone()).ok_or_else(|| Error::internal("a key without its column"))
    };
    columns.iter().map(column).collect()
}

/// The schema that a statement is planned with.
pub(crate) fn planned_with(table: &Table) -> PlannedWith {
    PlannedWith { incarnation: table.incarnation, version: table.version }
}

impl Prepared {
    /// The locks that hold the claims true from their check to the commit.
    pub(crate) fn key_locks(&self) -> Vec<LockName> {
        self.claims.iter().flat_map(Claims::locks).collect()
    }

    /// The rows that are replaced.
    pub(crate) fn row_locks(&self) -> Vec<LockName> {
        let replaced = self.writes.partitions().flat_map(|(partition, writes)| {
            let replaced = writes.rows().filter(|change| change.replaces.is_some());
            replaced.map(|change| LockName::Row(partition.id().clone(), change.row))
        });
        replaced.collect()
    }

    /// Refuses two rows of the statement that claim one value.
    pub(crate) fn check_among_themselves(&self) -> Result<()> {
        for claims in &self.claims {
            let Some(writes) = self.writes.of(claims.partition.id()) else { continue };
            for at in 0..claims.rows.len() {
                let Some(value) = claims.value(at) else { continue };
                let holder = writes.holder(&value).flatten();
                if holder.is_some_and(|holder| holder != claims.rows[at]) && claims.still_claims(at, self) {
                    return Err(claims.duplicate(at));
                }
            }
        }
        Ok(())
    }
}
