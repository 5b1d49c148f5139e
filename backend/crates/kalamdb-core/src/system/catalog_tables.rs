//! `system.users`, `namespaces`, `tables`, `schemas` and `columns`.

use std::sync::Arc;

use kalamdb_commons::error::Result;
use kalamdb_commons::ids::{ColumnId, SchemaVersion};
use kalamdb_commons::schema::{Column, ColumnDefault, Table, TableKind, TableOptions};
use kalamdb_commons::system_columns::{ID, SystemColumns};
use kalamdb_commons::types::ColumnType::{BigInt, Boolean, Int, Json, Text, Timestamp};
use serde_json::{Value, json};

use super::SystemView;
use super::sheet::{Cell, Columns, Row};
use crate::access::{sees_namespace, sees_table, sees_view};
use crate::catalog::View;

pub(super) const USERS: Columns = &[
    ("user_id", Text),
    ("role", Text),
    ("email", Text),
    ("auth_type", Text),
    ("created_at", Timestamp),
    ("updated_at", Timestamp),
    ("deleted_at", Timestamp),
];

pub(super) fn users(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.catalog.users().map(|user| {
        vec![
            user.id.as_str().into(),
            user.role.as_str().into(),
            user.email.clone().into(),
            user.auth_type.as_str().into(),
            Cell::Time(user.created_at_ms),
            Cell::Time(user.updated_at_ms),
            user.deleted_at_ms.map_or(Cell::Null, Cell::Time),
        ]
    });
    Ok(rows.collect())
}

pub(super) const NAMESPACES: Columns =
    &[("namespace_id", Text), ("name", Text), ("options", Json), ("table_count", BigInt), ("created_at", Timestamp)];

pub(super) fn namespaces(view: &SystemView) -> Result<Vec<Row>> {
    let role = view.actor.role;
    let seen = view.catalog.namespaces().filter(|namespace| sees_namespace(&view.catalog, role, &namespace.id));
    let rows = seen.map(|namespace| {
        let tables = view.catalog.tables_in(&namespace.id).filter(|table| sees_table(role, table)).count();
        vec![
            namespace.id.as_str().into(),
            namespace.id.as_str().into(),
            Value::Object(namespace.options.clone()).to_string().into(),
            Cell::Int(tables as i64),
            Cell::Time(namespace.created_at_ms),
        ]
    });
    Ok(rows.collect())
}

pub(super) const TABLES: Columns = &[
    ("table_name", Text),
    ("namespace_id", Text),
    ("table_type", Text),
    ("schema_version", Int),
    ("is_latest", Boolean),
    ("options", Json),
    ("columns", Json),
    ("access_level", Text),
    ("table_id", BigInt),
    ("indexes", Json),
    ("checks", Json),
    ("created_at", Timestamp),
];

pub(super) fn tables(view: &SystemView) -> Result<Vec<Row>> {
    let tables = seen_tables(view).map(|table| table_row(table, table.version));
    let views = seen_views(view).map(|view| {
        let columns: Vec<Value> = view
            .columns
            .iter()
            .map(|column| json!({ "name": &*column.name, "data_type": column.column_type.to_string(), "nullable": column.nullable }))
            .collect();
        vec![
            view.name.table.as_str().into(),
            view.name.namespace.as_str().into(),
            "view".into(),
            Cell::Int(1),
            true.into(),
            json!({ "query": view.query_text }).to_string().into(),
            Value::Array(columns).to_string().into(),
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Null,
            Cell::Time(view.created_at_ms),
        ]
    });
    Ok(tables.chain(views).collect())
}

pub(super) fn schemas(view: &SystemView) -> Result<Vec<Row>> {
    let versions =
        |table: &Arc<Table>| -> Vec<Row> { table.versions.keys().map(|version| table_row(table, *version)).collect() };
    Ok(seen_tables(view).flat_map(versions).collect())
}

fn table_row(table: &Table, version: SchemaVersion) -> Row {
    let columns = table.columns_at(version).map_or(&[][..], |columns| &**columns);
    vec![
        table.name.table.as_str().into(),
        table.name.namespace.as_str().into(),
        table.kind.as_str().into(),
        Cell::Int(i64::from(version.0)),
        (version == table.version).into(),
        options_json(table).to_string().into(),
        columns.iter().map(|column| column_json(table, column)).collect::<Value>().to_string().into(),
        (table.kind == TableKind::Shared).then(|| table.options.access_level.as_str()).into(),
        Cell::Int(i64::from(table.id.0)),
        table
            .indexes
            .iter()
            .map(|index| json!({ "name": index.name, "columns": names(table, &index.columns) }))
            .collect::<Value>()
            .to_string()
            .into(),
        table
            .checks
            .iter()
            .map(|check| json!({ "name": check.name, "expression": check.expression }))
            .collect::<Value>()
            .to_string()
            .into(),
        Cell::Time(table.created_at_ms),
    ]
}

/// The options under the names that CREATE TABLE gives them, as far as they mean something for the kind.
fn options_json(table: &Table) -> Value {
    let TableOptions {
        storage,
        flush,
        ttl_seconds,
        access_level,
        deleted_retention_hours,
        bloom_filter_columns,
        bloom_filter_off,
        bloom_filter_off_id,
        bloom_filter_fpp,
        compression,
    } = &table.options;
    if table.kind == TableKind::Stream {
        return json!({ "TYPE": "STREAM", "TTL_SECONDS": ttl_seconds });
    }
    let off = bloom_filter_off_id.then(|| ID.to_owned()).into_iter().chain(names(table, bloom_filter_off));
    let mut options = json!({
        "TYPE": table.kind.as_str().to_ascii_uppercase(),
        "STORAGE_ID": storage.as_str(),
        "DELETED_RETENTION_HOURS": deleted_retention_hours,
        "BLOOM_FILTER_COLUMNS": names(table, bloom_filter_columns).join(","),
        "BLOOM_FILTER_OFF": off.collect::<Vec<_>>().join(","),
        "BLOOM_FILTER_FPP": bloom_filter_fpp,
        "COMPRESSION": compression,
    });
    let rows = flush.rows.map(|rows| format!("rows:{rows}"));
    let interval = flush.interval_seconds.map(|seconds| format!("interval:{seconds}"));
    let policy: Vec<String> = rows.into_iter().chain(interval).collect();
    if !policy.is_empty() {
        options["FLUSH_POLICY"] = policy.join(",").into();
    }
    if table.kind == TableKind::Shared {
        options["ACCESS_LEVEL"] = access_level.as_str().into();
    }
    options
}

fn column_json(table: &Table, column: &Column) -> Value {
    json!({
        "id": column.id,
        "name": &*column.name,
        "data_type": column.column_type.to_string(),
        "nullable": column.nullable,
        "default": default_text(column),
        "primary_key": is_primary(table, column.id),
        "unique": is_unique(table, column.id),
    })
}

fn names(table: &Table, columns: &[ColumnId]) -> Vec<String> {
    columns.iter().filter_map(|id| table.column_by_id(*id)).map(|column| column.name.to_string()).collect()
}

pub(super) const COLUMNS: Columns = &[
    ("namespace_id", Text),
    ("table_name", Text),
    ("column_name", Text),
    ("column_id", Int),
    ("data_type", Text),
    ("nullable", Boolean),
    ("default_value", Text),
    ("is_primary_key", Boolean),
    ("ordinal", Int),
];

pub(super) fn columns(view: &SystemView) -> Result<Vec<Row>> {
    let of_tables = seen_tables(view).map(|table| (&table.name, columns_of_table(table)));
    let of_views = seen_views(view).map(|view| (&view.name, columns_of_view(view)));
    let mut rows = Vec::new();
    for (name, columns) in of_tables.chain(of_views) {
        for (column, ordinal) in columns.into_iter().zip(1..) {
            rows.push(vec![
                name.namespace.as_str().into(),
                name.table.as_str().into(),
                column.name.into(),
                column.id.map(|id| i64::from(id.0)).into(),
                column.data_type.into(),
                column.nullable.into(),
                column.default.into(),
                column.primary_key.into(),
                Cell::Int(ordinal),
            ]);
        }
    }
    Ok(rows)
}

/// A column as SELECT * shows it.
pub(super) struct ShownColumn {
    pub(super) name: String,
    /// Absent for columns of the server's and of views.
    pub(super) id: Option<ColumnId>,
    pub(super) data_type: String,
    pub(super) column_type: Option<kalamdb_commons::types::ColumnType>,
    pub(super) nullable: bool,
    pub(super) default: Option<String>,
    pub(super) primary_key: bool,
    pub(super) unique: bool,
    /// Written by the server alone.
    pub(super) generated: bool,
}

/// The columns of a table in the order of SELECT *, those of the server's included.
pub(super) fn columns_of_table(table: &Table) -> Vec<ShownColumn> {
    let schema = table.visible_schema();
    let fields = schema.fields().iter();
    fields
        .map(|field| {
            let column = table.column(field.name()).filter(|_| !SystemColumns::is_system(field.name()));
            let column_type = kalamdb_commons::types::ColumnType::of_field(field);
            ShownColumn {
                name: field.name().clone(),
                id: column.map(|column| column.id),
                data_type: column_type.map(|of| of.to_string()).unwrap_or_default(),
                column_type,
                nullable: field.is_nullable(),
                default: column.and_then(default_text),
                primary_key: column.is_some_and(|column| is_primary(table, column.id)),
                unique: column.is_some_and(|column| is_unique(table, column.id)),
                generated: column.is_none(),
            }
        })
        .collect()
}

/// The columns of a view.
pub(super) fn columns_of_view(view: &View) -> Vec<ShownColumn> {
    let columns = view.columns.iter();
    columns
        .map(|column| ShownColumn {
            name: column.name.to_string(),
            id: None,
            data_type: column.column_type.to_string(),
            column_type: Some(column.column_type),
            nullable: column.nullable,
            default: None,
            primary_key: false,
            unique: false,
            generated: false,
        })
        .collect()
}

fn default_text(column: &Column) -> Option<String> {
    column.default.as_ref().map(|ColumnDefault::Expression(text)| text.clone())
}

fn is_primary(table: &Table, column: ColumnId) -> bool {
    table.primary_key().is_some_and(|key| key.columns.contains(&column))
}

/// Whether the column alone is a key.
fn is_unique(table: &Table, column: ColumnId) -> bool {
    table.keys.iter().any(|key| key.columns == [column])
}

pub(super) fn seen_tables(view: &SystemView) -> impl Iterator<Item = &Arc<Table>> {
    view.catalog.tables().filter(|table| sees_table(view.actor.role, table))
}

pub(super) fn seen_views(view: &SystemView) -> impl Iterator<Item = &Arc<View>> {
    view.catalog.views().filter(|shown| sees_view(&view.catalog, view.actor.role, shown))
}
