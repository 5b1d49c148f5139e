//! CREATE, DROP and TRUNCATE TABLE.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::Schema;
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{ColumnId, SchemaVersion, TableRef, column_name};
use kalamdb_commons::schema::{Check, Column, ColumnDefault, Table, TableKind, TableOptions, UniqueKey};
use kalamdb_commons::system_columns::{ID, SystemColumns};
use kalamdb_commons::types::ColumnType;
use kalamdb_sql::{CheckDef, CreateTable, KeyDef, TableName, TableOptionSet};

use super::indexes::{column_ids, name_is_taken};
use super::views::{listed, refuse_read};
use super::{COLUMNS_MAX, DdlContext, Planned, expressions, refuse_reserved, require_writable};
use crate::catalog::{Catalog, Draft, ExpressionRole, NewExpression};

/// The most keys of a table: each costs a lookup per inserted row.
const KEYS_MAX: usize = 16;

/// A column to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The SQL text of its default.
    pub default: Option<String>,
}

/// The columns that CREATE TABLE ... AS gives a table, from its query's schema: all nullable, as in PostgreSQL. The
/// caller has taken out system columns that came by a star.
pub fn columns_of_schema(schema: &Schema) -> Result<Vec<NewColumn>> {
    let nullable = |column| NewColumn { nullable: true, ..column };
    Ok(nullable_columns(schema)?.into_iter().map(nullable).collect())
}

/// The columns of a query's schema, with its nullability.
pub(super) fn nullable_columns(schema: &Schema) -> Result<Vec<NewColumn>> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let column_type = ColumnType::of_field(field).ok_or_else(|| {
                Error::invalid_input(format!(
                    "column '{}' of the query has type {}, which no column can have; cast it",
                    field.name(),
                    field.data_type()
                ))
            })?;
            Ok(NewColumn { name: field.name().clone(), column_type, nullable: field.is_nullable(), default: None })
        })
        .collect()
}

/// What already has the name of a table or view: `table` or `view`.
pub(super) fn name_taken_by(catalog: &Catalog, name: &TableRef) -> Option<&'static str> {
    match (catalog.table(name), catalog.view(name)) {
        (Some(_), _) => Some("table"),
        (None, Some(_)) => Some("view"),
        (None, None) => None,
    }
}

pub(super) fn create(catalog: &Catalog, context: &DdlContext, create: &CreateTable) -> Result<Planned> {
    let name = context.resolve(&create.name)?;
    require_writable(catalog, &name.namespace)?;
    if let Some(what) = name_taken_by(catalog, &name) {
        let message = format!("{what} '{name}' already exists");
        return if create.if_not_exists && what == "table" {
            Ok(Planned::nothing(message))
        } else {
            Err(Error::already_exists(message))
        };
    }
    let kind = create.kind.unwrap_or(TableKind::Shared);
    let mut draft = Draft::new(catalog);
    let columns = new_columns(context, create)?;
    let mut table = Table {
        id: draft.draw_table_id(),
        incarnation: draft.draw_incarnation(),
        kind,
        version: SchemaVersion(1),
        next_column: ColumnId(columns.len() as u32 + 1),
        versions: BTreeMap::from([(SchemaVersion(1), columns.into())]),
        keys: Vec::new(),
        next_key: 1,
        checks: Vec::new(),
        indexes: Vec::new(),
        options: TableOptions::default(),
        created_at_ms: context.now_ms,
        name,
    };
    set_options(&mut table, &create.options, context)?;
    if kind == TableKind::Stream && table.options.ttl_seconds.is_none() {
        return Err(Error::invalid_input(format!(
            "STREAM table '{}' needs a time to live: TTL <seconds>, or WITH (TTL_SECONDS = <seconds>)",
            table.name
        )));
    }
    for (key, primary) in
        create.primary_key.iter().map(|key| (key, true)).chain(create.uniques.iter().map(|key| (key, false)))
    {
        add_key(catalog, &mut table, key, primary)?;
    }
    for check in &create.checks {
        add_check(&mut table, check)?;
    }
    let message = format!("Table '{}' created", table.name);
    let table = draft.put_table(table);
    draft.expressions.extend(expressions_of(&table));
    Ok(draft.finish(message).into())
}

/// The columns as the statement, or its query, gives them.
fn new_columns(context: &DdlContext, create: &CreateTable) -> Result<Vec<Column>> {
    let mut columns: Vec<NewColumn> = create
        .columns
        .iter()
        .map(|def| NewColumn {
            name: def.name.clone(),
            column_type: def.column_type,
            nullable: def.nullable,
            default: def.default.clone(),
        })
        .collect();
    if create.as_query.is_some() {
        let schema =
            context.query_schema.as_ref().ok_or_else(|| Error::internal("the table's query was not planned"))?;
        let from_query = columns_of_schema(schema)?;
        if columns.is_empty() {
            columns = from_query;
        } else if columns.len() != from_query.len() {
            return Err(Error::invalid_input(format!(
                "CREATE TABLE names {} columns, but its query has {}",
                columns.len(),
                from_query.len()
            )));
        }
    }
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        return Err(Error::invalid_input(format!(
            "a table has 1 to {COLUMNS_MAX} columns of its own; this one would have {}",
            columns.len()
        )));
    }
    let mut seen = BTreeSet::new();
    columns
        .into_iter()
        .zip(1..)
        .map(|(column, id)| {
            let made = make_column(ColumnId(id), column)?;
            if !seen.insert(Arc::clone(&made.name)) {
                return Err(Error::invalid_input(format!("column '{}' comes twice", made.name)));
            }
            Ok(made)
        })
        .collect()
}

pub(super) fn make_column(id: ColumnId, column: NewColumn) -> Result<Column> {
    SystemColumns::refuse_name(&column.name)?;
    Ok(Column {
        id,
        name: column_name(&column.name)?,
        column_type: column.column_type,
        nullable: column.nullable,
        default: column.default.map(ColumnDefault::Expression),
        missing: None,
    })
}

/// Applies the options of a statement, if they fit the kind, name a storage that exists and columns that do.
pub(super) fn set_options(table: &mut Table, set: &TableOptionSet, context: &DdlContext) -> Result<()> {
    set.check(table.kind)?;
    if let Some(storage) = set.storage.as_ref().filter(|storage| !context.storages.contains(storage)) {
        let known: Vec<&str> = context.storages.iter().map(|storage| storage.as_str()).collect();
        return Err(Error::invalid_input(format!(
            "STORAGE_ID: there is no storage '{storage}'; there are {}",
            known.join(", ")
        )));
    }
    set.apply(&mut table.options);
    if let Some(names) = &set.bloom_filter_columns {
        table.options.bloom_filter_columns = column_ids(table, names, "option BLOOM_FILTER_COLUMNS")?;
    }
    if let Some(names) = &set.bloom_filter_off {
        let (ids, names): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| name == ID);
        table.options.bloom_filter_off = column_ids(table, &names, "option BLOOM_FILTER_OFF")?;
        table.options.bloom_filter_off_id = !ids.is_empty();
    }
    Ok(())
}

/// Adds a key. The columns of a primary key become NOT NULL.
pub(super) fn add_key(catalog: &Catalog, table: &mut Table, key: &KeyDef, primary: bool) -> Result<()> {
    let what = if primary { "PRIMARY KEY" } else { "UNIQUE" };
    let columns = column_ids(table, &key.columns, what)?;
    for column in columns.iter().filter_map(|id| table.column_by_id(*id)) {
        if !column.column_type.can_be_key() {
            return Err(Error::invalid_input(format!(
                "column '{}' has type {}, which cannot be part of a {what}",
                column.name, column.column_type
            )));
        }
    }
    if table.keys.len() >= KEYS_MAX {
        return Err(Error::invalid_input(format!("a table can have at most {KEYS_MAX} keys")));
    }
    let name = match &key.name {
        Some(name) => {
            kalamdb_commons::ids::TableName::new(name).map_err(|error| error.context("the constraint"))?;
            if key_name_is_taken(catalog, table, name) {
                return Err(Error::already_exists(format!("constraint '{name}' already exists")));
            }
            name.clone()
        }
        None => free_name(&key_stem(table, &key.columns, primary), |name| key_name_is_taken(catalog, table, name)),
    };
    if primary {
        let current: Vec<Column> = table
            .columns()
            .iter()
            .map(|column| Column { nullable: column.nullable && !columns.contains(&column.id), ..column.clone() })
            .collect();
        table.versions.insert(table.version, current.into());
    }
    let key = UniqueKey { id: table.next_key, name, columns, primary };
    table.next_key += 1;
    let at = if primary { 0 } else { table.keys.len() };
    table.keys.insert(at, key);
    Ok(())
}

fn key_name_is_taken(catalog: &Catalog, table: &Table, name: &str) -> bool {
    table.keys.iter().any(|key| key.name == name) || name_is_taken(catalog, &table.name.namespace, name)
}

/// The name that PostgreSQL would give.
fn key_stem(table: &Table, columns: &[String], primary: bool) -> String {
    if primary {
        return format!("{}_pkey", table.name.table);
    }
    format!("{}_{}_key", table.name.table, columns.join("_"))
}

/// Adds a CHECK, which may name the user's columns only: the server's are not known before the commit.
pub(super) fn add_check(table: &mut Table, check: &CheckDef) -> Result<Check> {
    let taken = |name: &str| table.checks.iter().any(|existing| existing.name == name);
    let name = match &check.name {
        Some(name) if taken(name) => {
            return Err(Error::already_exists(format!("check constraint '{name}' already exists")));
        }
        Some(name) => {
            kalamdb_commons::ids::TableName::new(name).map_err(|error| error.context("the constraint"))?;
            name.clone()
        }
        None => {
            let columns = expressions::identifiers(&check.expression)?;
            let stem = match columns.iter().next() {
                Some(column) if columns.len() == 1 => format!("{}_{column}_check", table.name.table),
                _ => format!("{}_check", table.name.table),
            };
            free_name(&stem, taken)
        }
    };
    for column in expressions::identifiers(&check.expression)? {
        SystemColumns::refuse_write(&column).map_err(|error| error.context(format!("check constraint '{name}'")))?;
    }
    let what = format!("check constraint '{name}'");
    expressions::require_columns(&check.expression, |column| table.column(column).is_some(), &what)?;
    let made = Check { name, expression: check.expression.clone() };
    table.checks.push(made.clone());
    Ok(made)
}

/// `stem`, or the first of `stem1`, `stem2`, ... that is free.
fn free_name(stem: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (1..).map(|n| format!("{stem}{n}"));
    std::iter::once(stem.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// Every expression of a table.
pub(super) fn expressions_of(table: &Arc<Table>) -> Vec<NewExpression> {
    let defaults = table.columns().iter().filter_map(|column| {
        let ColumnDefault::Expression(text) = column.default.as_ref()?;
        Some((ExpressionRole::Default(column.id), text.clone()))
    });
    let checks = table.checks.iter().map(|check| (ExpressionRole::Check(check.name.clone()), check.expression.clone()));
    defaults.chain(checks).map(|(role, text)| NewExpression { table: Arc::clone(table), role, text }).collect()
}

pub(super) fn drop(catalog: &Catalog, context: &DdlContext, names: &[TableName], if_exists: bool) -> Result<Planned> {
    let mut gone = Vec::new();
    for name in names {
        let name = context.resolve(name)?;
        refuse_reserved(&name.namespace)?;
        if catalog.table(&name).is_some() {
            if !gone.contains(&name) {
                gone.push(name);
            }
        } else if catalog.view(&name).is_some() {
            return Err(Error::invalid_input(format!("'{name}' is a view, not a table: use DROP VIEW")));
        } else if !if_exists {
            return Err(Error::not_found(format!("table '{name}' does not exist")));
        }
    }
    if gone.is_empty() {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        return Ok(Planned::nothing(format!("table {} does not exist", names.join(", "))));
    }
    refuse_read(catalog, &gone)?;
    let mut draft = Draft::new(catalog);
    gone.iter().for_each(|table| draft.drop_table(table));
    Ok(draft.finish(format!("Table {} dropped", listed(&gone))).into())
}

pub(super) fn truncate(catalog: &Catalog, context: &DdlContext, names: &[TableName]) -> Result<Planned> {
    let mut emptied = Vec::new();
    for name in names {
        let name = context.resolve(name)?;
        refuse_reserved(&name.namespace)?;
        if catalog.view(&name).is_some() {
            return Err(Error::invalid_input(format!("'{name}' is a view and cannot be truncated")));
        }
        catalog.require_table(&name)?;
        if !emptied.contains(&name) {
            emptied.push(name);
        }
    }
    let mut draft = Draft::new(catalog);
    for table in emptied.iter().filter_map(|name| catalog.table(name)) {
        draft.truncate_table(table);
    }
    Ok(draft.finish(format!("Table {} truncated", listed(&emptied))).into())
}
