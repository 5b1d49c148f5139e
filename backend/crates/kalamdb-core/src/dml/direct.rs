//! The direct path: statements that name a key are answered by lookups, without planning a query.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::Int64Type;
use kalamdb_commons::ids::{ColumnId, RowId};
use kalamdb_commons::schema::{Column, Table};
use kalamdb_commons::system_columns::{ID, SystemColumns};
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::BatchColumn;
use kalamdb_sql::ast::{DataType, Expr, TimezoneInfo};
use kalamdb_store::rows::convert::convert;
use kalamdb_store::rows::{self, Projected, RowDecoder, key_bytes};

use super::literals::column_of_literals;
use crate::partition::lookup::{Holder, KeyQuestion, PartitionRead, Version};
use crate::partition::view::Place;
use crate::query::{StatementScope, arrow_error, one_batch};
use crate::stats::StatementStats;
use crate::tables::{Exposure, Missing, exposed};

/// A key that a WHERE names with a value for each of its columns.
#[derive(Debug)]
pub(crate) enum NamedKey {
    /// `_id`; `None` if it is compared with NULL.
    Id(Option<RowId>),
    /// A unique key.
    Unique {
        /// The key's number.
        key: u32,
        /// Its columns.
        columns: Vec<ColumnId>,
        /// Their values, one of each.
        values: Vec<ArrayRef>,
        /// The WHERE says nothing else, and its columns are of types whose key bytes are equal exactly where the values
        /// compare as equal: the row that is found need not be tested.
        decides: bool,
    },
}

impl NamedKey {
    /// Whether the row that is found is certain to pass the WHERE.
    pub(crate) fn decides(&self) -> bool {
        matches!(self, Self::Unique { decides: true, .. })
    }
}

/// The key that a WHERE names, if all of it is equalities with constants and they cover one. The rest of the
/// equalities is still to be tested on the row that the key finds.
pub(crate) fn named_key(table: &Table, filter: &Expr) -> Result<Option<NamedKey>> {
    let Some(equalities) = kalamdb_sql::expr::as_key_equality(filter) else { return Ok(None) };
    if let Some((_, value)) = equalities.iter().find(|(name, _)| name == ID) {
        let id = Column {
            id: ColumnId(0),
            name: ID.into(),
            column_type: ColumnType::BigInt,
            nullable: true,
            default: None,
            missing: None,
        };
        let Some(values) = literal(value, &id) else { return Ok(None) };
        let row = values.as_primitive::<Int64Type>().iter().next().flatten();
        return Ok(Some(NamedKey::Id(row.map(RowId))));
    }
    for key in &table.keys {
        let value_of = |id: &ColumnId| {
            let column = table.column_by_id(*id)?;
            let (_, value) = equalities.iter().find(|(name, _)| *name == *column.name)?;
            literal(value, column)
        };
        let values: Option<Vec<ArrayRef>> = key.columns.iter().map(value_of).collect();
        if let Some(values) = values {
            let exact = |id: &ColumnId| {
                use ColumnType as T;
                let column_type = table.column_by_id(*id).map(|column| column.column_type);
                matches!(column_type, Some(T::SmallInt | T::Int | T::BigInt | T::Text))
            };
            let decides = equalities.len() == key.columns.len() && key.columns.iter().all(exact);
            return Ok(Some(NamedKey::Unique { key: key.id, columns: key.columns.clone(), values, decides }));
        }
    }
    Ok(None)
}

/// A literal as a value of a column, if it is one exactly: a comparison with anything else is for the planner, which
/// knows how to compare across types.
pub(crate) fn literal(value: &Expr, column: &Column) -> Option<ArrayRef> {
    if let Expr::Nested(inner) = value {
        return literal(inner, column);
    }
    if let Expr::TypedString(typed) = value {
        let same = match typed.data_type {
            DataType::Date => column.column_type == ColumnType::Date,
            DataType::Timestamp(None, TimezoneInfo::None) => column.column_type == ColumnType::Timestamp,
            _ => false,
        };
        return if same { column_of_literals(std::iter::once(value), column)?.ok() } else { None };
    }
    let array = column_of_literals(std::iter::once(value), column)?.ok()?;
    let text = value.to_string();
    let fraction = text.contains(['.', 'e', 'E']) && column.column_type.arrow().is_integer();
    let number_as_text = column.column_type == ColumnType::Text && !text.starts_with(['\'', 'E', 'e', 'N', 'n', '$']);
    (!fraction && !number_as_text).then_some(array)
}

/// Columns of a table as they are read: what they are, and how they come out.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// In order.
    pub(crate) columns: Vec<Projected>,
    /// Parallel to them.
    pub(crate) schema: SchemaRef,
}

impl Wanted {
    /// The exposed columns of a table.
    pub(crate) fn exposed(table: &Table, exposure: Exposure) -> Self {
        let (columns, schema) = exposed(table, exposure);
        Self { columns, schema }
    }
}

/// The rows that a key names: none or one.
pub(crate) async fn rows(
    scope: &StatementScope,
    table: &Arc<Table>,
    read: &PartitionRead,
    key: &NamedKey,
    wanted: &Wanted,
) -> Result<RecordBatch> {
    let row = match key {
        NamedKey::Id(row) => *row,
        NamedKey::Unique { key, columns, values, .. } => {
            let refs: Vec<&ArrayRef> = values.iter().collect();
            let bytes = [key_bytes(&refs, 0)?];
            let question = KeyQuestion { table, key: *key, columns, values, bytes: &bytes };
            match read.key_holders(&question).await?.pop().flatten() {
                Some(Holder { row, place: Some(place) }) => {
                    let found = [(row, Version::Cold { place, deleted: false })];
                    return fetch(scope, table, read, &found, wanted).await;
                }
                holder => holder.map(|holder| holder.row),
            }
        }
    };
    let found = match row {
        Some(row) => read.version(row).await?.map(|version| (row, version)),
        None => None,
    };
    fetch(scope, table, read, &found.into_iter().collect::<Vec<_>>(), wanted).await
}

/// The values of some versions, deletions left out.
pub(crate) async fn fetch(
    scope: &StatementScope,
    table: &Arc<Table>,
    read: &PartitionRead,
    versions: &[(RowId, Version)],
    wanted: &Wanted,
) -> Result<RecordBatch> {
    let Wanted { columns: projection, schema } = wanted;
    let missing = scope.engine.planner().missing(table)?;
    let mut parts = Vec::new();
    let mut decoder = RowDecoder::new(table, projection.clone(), &missing, 1)?;
    for (row, version) in versions {
        match version {
            Version::Hot { value } => {
                StatementStats::add(&scope.stats.hot_rows_read, 1);
                let header = rows::header(value)?;
                if !header.deleted {
                    let mut value = value.to_vec();
                    if header.updated.0 == 0 {
                        // Pending: the times are not assigned yet.
                        rows::patch(&mut value, read.provisional(), read.provisional())?;
                    }
                    decoder.push(*row, &value)?;
                }
            }
            Version::Cold { deleted: true, .. } => {}
            Version::Cold { place, .. } => {
                StatementStats::add(&scope.stats.cold_rows_read, 1);
                let values = cold_row(table, read, *place, projection, &missing).await?;
                parts.push(RecordBatch::try_new(schema.clone(), values).map_err(arrow_error)?);
            }
        }
    }
    if parts.is_empty() || !decoder.is_empty() {
        parts.push(RecordBatch::try_new(schema.clone(), decoder.finish()?.columns().to_vec()).map_err(arrow_error)?);
    }
    one_batch(schema, &parts)
}

/// One row of a batch file, in the columns of today.
pub(crate) async fn cold_row(
    table: &Table,
    read: &PartitionRead,
    place: Place,
    projection: &[Projected],
    missing: &Missing,
) -> Result<Vec<ArrayRef>> {
    let batch = &read.view.batches()[place.batch];
    let then = table
        .columns_at(batch.entry.schema_version)
        .ok_or_else(|| Error::corrupt(format!("{} has an unknown schema version", batch.file.path())))?;
    let in_file = |field: &Projected| match field {
        Projected::Id => Some(BatchColumn::Id),
        Projected::Updated | Projected::Seq => Some(BatchColumn::Updated),
        Projected::Deleted => Some(BatchColumn::Deleted),
        Projected::Born => Some(BatchColumn::Born),
        Projected::Column(id) => then.iter().any(|column| column.id == *id).then_some(BatchColumn::Column(*id)),
    };
    let mut wanted: Vec<BatchColumn> = Vec::with_capacity(projection.len());
    for column in projection.iter().filter_map(in_file) {
        if !wanted.contains(&column) {
            wanted.push(column);
        }
    }
    let rows = batch.file.rows_at(&[place.position], &wanted, read.io()).await?;
    let stored = |field: &Projected| {
        let column = in_file(field)?;
        wanted.iter().position(|wanted| *wanted == column).map(|at| rows.column(at))
    };
    let value = |field: &Projected| match (field, stored(field)) {
        (Projected::Seq, Some(stored)) => {
            arrow::compute::cast(stored, SystemColumns::seq_field().data_type()).map_err(arrow_error)
        }
        (Projected::Column(id), stored) => current_value(table, then, *id, stored, missing),
        (_, Some(stored)) => Ok(stored.clone()),
        (_, None) => Err(Error::internal("a system column that a batch file lacks")),
    };
    projection.iter().map(value).collect()
}

/// A stored value of a column as a value of the column of today.
fn current_value(
    table: &Table,
    then: &[Column],
    id: ColumnId,
    stored: Option<&ArrayRef>,
    missing: &Missing,
) -> Result<ArrayRef> {
    let now = table.column_by_id(id).ok_or_else(|| Error::internal("a projected column that is gone"))?;
    let Some(stored) = stored else {
        let absent = || new_null_array(&now.column_type.arrow(), 1);
        return Ok(missing.get(&id).cloned().unwrap_or_else(absent));
    };
    let was = then.iter().find(|column| column.id == id).map_or(now.column_type, |column| column.column_type);
    if was == now.column_type {
        return Ok(stored.clone());
    }
    Ok(convert(&now.name, stored, was, now.column_type)?)
}
