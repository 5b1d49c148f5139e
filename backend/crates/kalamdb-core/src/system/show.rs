//! SHOW and DESCRIBE.

use arrow::array::RecordBatch;
use kalamdb_auth::policy::{self, Right};
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{NamespaceId, TableRef};
use kalamdb_commons::manifest::Manifest;
use kalamdb_commons::types::ColumnType::{BigInt, Boolean, Int, Text, Timestamp};
use kalamdb_sql::{Show, TableName};

use super::catalog_tables::{ShownColumn, columns_of_table, columns_of_view, seen_tables, seen_views};
use super::information_schema::columns_of_system;
use super::sheet::{self, Cell, Columns, Row};
use super::{Needs, SystemView, catalog_tables, server_tables, tables};
use crate::access::{sees_namespace, sees_table, sees_view};
use crate::catalog::ddl::resolve;

/// What of the view a SHOW reads, so that the engine fills nothing else.
pub fn needs(show: &Show) -> Needs {
    match show {
        Show::Storages => Needs::Storages,
        Show::Manifest { .. } | Show::StatsForTable { .. } => Needs::Manifests,
        Show::ManifestCache => Needs::ManifestCache,
        Show::Tables { .. } | Show::Namespaces | Show::Columns { .. } | Show::All => Needs::Nothing,
    }
}

/// The answer to a SHOW. `current` is the namespace of names without one.
pub fn show(view: &SystemView, show: &Show, current: Option<&NamespaceId>) -> Result<RecordBatch> {
    match show {
        Show::Tables { namespace } => show_tables(view, namespace.as_deref(), current),
        Show::Namespaces => show_namespaces(view),
        Show::Columns { table } => describe(view, &resolve(table, current)?),
        Show::Storages => {
            policy::require(view.actor.role, Right::Server)?;
            sheet::batch(server_tables::STORAGES, server_tables::storages(view)?)
        }
        Show::All => {
            policy::require(view.actor.role, Right::Server)?;
            sheet::batch(server_tables::SETTINGS, server_tables::settings(view)?)
        }
        Show::Manifest { table } => show_manifest(view, table.as_ref(), current),
        Show::ManifestCache => sheet::batch(server_tables::MANIFEST_CACHE, server_tables::manifest_cache(view)?),
        Show::StatsForTable { table } => show_stats(view, &resolve(table, current)?),
    }
}

const SHOWN_TABLES: Columns = &[("namespace_id", Text), ("table_name", Text), ("table_type", Text)];

fn show_tables(view: &SystemView, named: Option<&str>, current: Option<&NamespaceId>) -> Result<RecordBatch> {
    let wanted = match named {
        Some(name) => Some(NamespaceId::new(name)?),
        None => current.cloned(),
    };
    let is_wanted = |namespace: &str| wanted.as_ref().is_none_or(|wanted| wanted.as_str() == namespace);
    let row = |namespace: &str, table: &str, what: &str| -> Row { vec![namespace.into(), table.into(), what.into()] };
    let mut rows: Vec<Row> = seen_tables(view)
        .filter(|table| is_wanted(table.name.namespace.as_str()))
        .map(|table| row(table.name.namespace.as_str(), table.name.table.as_str(), table.kind.as_str()))
        .collect();
    rows.extend(
        seen_views(view)
            .filter(|shown| is_wanted(shown.name.namespace.as_str()))
            .map(|shown| row(shown.name.namespace.as_str(), shown.name.table.as_str(), "view")),
    );
    if let Some(wanted) = &wanted {
        let own = tables().iter().filter(|own| own.namespace == wanted.as_str());
        if own.clone().next().is_none() {
            require_seen_namespace(view, wanted)?;
        }
        rows.extend(
            own.filter(|own| own.readable_by(view.actor.role)).map(|own| row(own.namespace, own.name, "system")),
        );
    }
    sheet::batch(SHOWN_TABLES, rows)
}

fn require_seen_namespace(view: &SystemView, namespace: &NamespaceId) -> Result<()> {
    let seen = view.catalog.namespace(namespace).is_some() && sees_namespace(&view.catalog, view.actor.role, namespace);
    if seen { Ok(()) } else { Err(Error::not_found(format!("namespace '{namespace}' does not exist"))) }
}

const CHECKED: Columns = &[("scope", Text), ("file", Text), ("finding", Text), ("repaired", Boolean)];

/// A row of the answer to CHECK TABLE.
#[derive(Debug)]
pub(crate) struct CheckedRow {
    /// The partition's scope.
    pub(crate) scope: String,
    /// The file in question.
    pub(crate) file: Option<String>,
    /// What was found.
    pub(crate) finding: String,
    /// Whether it was repaired; `None` if nothing was wrong.
    pub(crate) repaired: Option<bool>,
}

/// The answer to CHECK TABLE.
pub(crate) fn checked(rows: Vec<CheckedRow>) -> Result<RecordBatch> {
    let cells = |row: CheckedRow| vec![row.scope.into(), row.file.into(), row.finding.into(), row.repaired.into()];
    sheet::batch(CHECKED, rows.into_iter().map(cells).collect())
}

const RECEIPT: Columns = &[("object", Text), ("removed", Text), ("count", BigInt)];

/// The answer to ERASE USER: of what, what, and how many were removed.
pub(crate) fn receipt(removed: Vec<(String, &'static str, u64)>) -> Result<RecordBatch> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let cells = |(object, what, removed): (String, &str, u64)| vec![object.into(), what.into(), count(removed).into()];
    sheet::batch(RECEIPT, removed.into_iter().map(cells).collect())
}

const SHOWN_NAMESPACES: Columns = &[("namespace_id", Text), ("table_count", BigInt), ("created_at", Timestamp)];

fn show_namespaces(view: &SystemView) -> Result<RecordBatch> {
    let rows = catalog_tables::namespaces(view)?;
    let shown = rows.into_iter().map(|row| {
        let mut cells = row.into_iter();
        let id = cells.next().unwrap_or(Cell::Null);
        std::iter::once(id).chain(cells.skip(2)).collect()
    });
    sheet::batch(SHOWN_NAMESPACES, shown.collect())
}

fn show_manifest(view: &SystemView, table: Option<&TableName>, current: Option<&NamespaceId>) -> Result<RecordBatch> {
    let wanted = table.map(|table| resolve(table, current)).transpose()?;
    if let Some(name) = &wanted {
        let seen = view.catalog.table(name).filter(|table| sees_table(view.actor.role, table));
        seen.ok_or_else(|| Error::not_found(format!("table '{name}' does not exist")))?;
    }
    let mut shown = view.clone();
    shown.manifests.retain(|(name, _, _)| wanted.as_ref().is_none_or(|wanted| wanted == name));
    sheet::batch(server_tables::MANIFEST, server_tables::manifest(&shown)?)
}

/// Figures over all partitions of a table.
fn show_stats(view: &SystemView, name: &TableRef) -> Result<RecordBatch> {
    policy::require(view.actor.role, Right::Server)?;
    let table = view.catalog.require_table(name)?;
    let mut cold = ColdFigures::default();
    for (_, _, text) in view.manifests.iter().filter(|(of, _, _)| of == name) {
        let manifest: Manifest = serde_json::from_str(text)
            .map_err(|error| Error::corrupt(format!("a manifest of '{name}' cannot be read")).with_source(error))?;
        cold.add(&manifest);
    }
    let mut rows = vec![metric("table_type", table.kind.as_str()), metric("schema_version", table.version.to_string())];
    rows.extend(view.table_stats.iter().map(|(name, value)| metric(name, value.as_str())));
    rows.extend(cold.rows());
    sheet::batch(server_tables::STATS, rows)
}

fn metric(name: &str, value: impl Into<Cell>) -> Row {
    vec![name.into(), value.into()]
}

#[derive(Default)]
struct ColdFigures {
    partitions: u64,
    batches: u64,
    rows: u64,
    deletions: u64,
    superseding: u64,
    bytes: u64,
}

impl ColdFigures {
    fn add(&mut self, manifest: &Manifest) {
        self.partitions += 1;
        for batch in manifest.active() {
            self.batches += 1;
            self.rows += batch.row_count;
            self.deletions += batch.tombstone_count;
            self.superseding += batch.superseding_count;
            self.bytes += batch.byte_size;
        }
    }

    fn rows(&self) -> [Row; 6] {
        [
            metric("cold_partitions", self.partitions.to_string()),
            metric("cold_batches", self.batches.to_string()),
            metric("cold_rows", self.rows.to_string()),
            metric("cold_deletions", self.deletions.to_string()),
            metric("cold_superseding_rows", self.superseding.to_string()),
            metric("cold_bytes", self.bytes.to_string()),
        ]
    }
}

const DESCRIBED: Columns = &[
    ("column_name", Text),
    ("data_type", Text),
    ("nullable", Boolean),
    ("default_value", Text),
    ("is_primary_key", Boolean),
    ("is_unique", Boolean),
    ("is_generated", Boolean),
    ("ordinal", Int),
];

/// The columns of a table or view, as SELECT * shows them.
pub fn describe(view: &SystemView, name: &TableRef) -> Result<RecordBatch> {
    let rows = described(view, name)?.into_iter().zip(1..).map(|(column, ordinal)| {
        vec![
            column.name.into(),
            column.data_type.into(),
            column.nullable.into(),
            column.default.into(),
            column.primary_key.into(),
            column.unique.into(),
            column.generated.into(),
            Cell::Int(ordinal),
        ]
    });
    sheet::batch(DESCRIBED, rows.collect())
}

fn described(view: &SystemView, name: &TableRef) -> Result<Vec<ShownColumn>> {
    let role = view.actor.role;
    if let Some(table) = view.catalog.table(name).filter(|table| sees_table(role, table)) {
        return Ok(columns_of_table(table));
    }
    if let Some(shown) = view.catalog.view(name).filter(|shown| sees_view(&view.catalog, role, shown)) {
        return Ok(columns_of_view(shown));
    }
    if let Some(own) = super::table(name).filter(|own| own.readable_by(role)) {
        return Ok(columns_of_system(own));
    }
    Err(Error::not_found(format!("table '{name}' does not exist")))
}
