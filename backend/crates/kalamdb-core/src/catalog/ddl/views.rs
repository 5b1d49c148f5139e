//! CREATE and DROP VIEW, and who depends on whom.
//!
//! A view may read tables and other views. What a view reads cannot be dropped or renamed under it; with
//! DROP NAMESPACE ... CASCADE the views go too.

use std::collections::BTreeSet;
use std::sync::Arc;

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{NamespaceId, TableRef};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_sql::{CreateView, Statement, TableName, ast::Query};

use super::expressions::{may_use_column, rename_namespace, tables_of_query};
use super::tables::{name_taken_by, nullable_columns};
use super::{COLUMNS_MAX, DdlContext, Planned, refuse_reserved, require_writable};
use crate::catalog::{Catalog, Draft, View, ViewColumn};

/// The query of a stored view.
pub fn query_of(view: &View) -> Result<Box<Query>> {
    // It was within the limits when it was created.
    let limits = LimitSettings { sql_bytes_max: usize::MAX, ..LimitSettings::default() };
    match kalamdb_sql::parse(&view.query_text, &limits)?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::corrupt(format!("the stored text of view '{}' is not a query", view.name))),
    }
}

/// A view of one namespace as it is in another: what it read there it reads here.
pub(crate) fn moved_view(view: &View, from: &NamespaceId, to: &NamespaceId) -> Result<View> {
    let mut query = query_of(view)?;
    rename_namespace(&mut query, from, to);
    let moved = |namespace: &NamespaceId| if namespace == from { to.clone() } else { namespace.clone() };
    Ok(View {
        name: TableRef { namespace: moved(&view.name.namespace), table: view.name.table.clone() },
        query_text: query.to_string(),
        resolve_in: moved(&view.resolve_in),
        ..view.clone()
    })
}

pub(super) fn create(catalog: &Catalog, context: &DdlContext, create: &CreateView) -> Result<Planned> {
    let name = context.resolve(&create.name)?;
    require_writable(catalog, &name.namespace)?;
    let replaced = catalog.view(&name);
    match (name_taken_by(catalog, &name), replaced) {
        (Some(_), Some(_)) if create.or_replace => {}
        (Some(what), Some(_)) if create.if_not_exists => {
            return Ok(Planned::nothing(format!("{what} '{name}' already exists")));
        }
        (Some(what), _) => return Err(Error::already_exists(format!("{what} '{name}' already exists"))),
        (None, _) => {}
    }
    let resolve_in = context.current_namespace.clone().unwrap_or_else(|| name.namespace.clone());
    refuse_cycle(catalog, &name, &create.query, &resolve_in)?;
    let view = View {
        columns: columns(context, &create.columns)?,
        query_text: create.query_text.clone(),
        resolve_in,
        created_at_ms: context.now_ms,
        name: name.clone(),
    };
    if let Some(replaced) = replaced {
        keep_columns(catalog, replaced, &view)?;
    }
    let mut draft = Draft::new(catalog);
    draft.put_view(view);
    Ok(draft.finish(format!("View '{name}' {}", if replaced.is_some() { "replaced" } else { "created" })).into())
}

/// The query's columns under the view's names.
fn columns(context: &DdlContext, names: &[String]) -> Result<Vec<ViewColumn>> {
    let schema = context.query_schema.as_ref().ok_or_else(|| Error::internal("the view's query was not planned"))?;
    if names.len() > schema.fields().len() {
        return Err(Error::invalid_input(format!(
            "CREATE VIEW names {} columns, but its query has {}",
            names.len(),
            schema.fields().len()
        )));
    }
    if schema.fields().len() > COLUMNS_MAX {
        return Err(Error::invalid_input(format!("a view can have at most {COLUMNS_MAX} columns")));
    }
    let mut seen = BTreeSet::new();
    nullable_columns(schema)?
        .into_iter()
        .enumerate()
        .map(|(at, column)| {
            let name = names.get(at).map_or(&*column.name, String::as_str);
            let name = kalamdb_commons::ids::column_name(name)?;
            if !seen.insert(Arc::clone(&name)) {
                return Err(Error::invalid_input(format!(
                    "column '{name}' comes twice in the view; name the view's columns apart"
                )));
            }
            Ok(ViewColumn { name, column_type: column.column_type, nullable: column.nullable })
        })
        .collect()
}

/// A view that others read keeps the columns that they may use, as in PostgreSQL.
fn keep_columns(catalog: &Catalog, old: &View, new: &View) -> Result<()> {
    let readers = readers_of(catalog, &old.name);
    let kept = old.columns.iter().zip(&new.columns).all(|(a, b)| a.name == b.name && a.column_type == b.column_type);
    if readers.is_empty() || (kept && new.columns.len() >= old.columns.len()) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "cannot replace view '{}' by one with other columns: {} depends on it",
        old.name,
        listed(&readers)
    )))
}

/// A view that reads itself, directly or through others, could not be planned.
fn refuse_cycle(catalog: &Catalog, name: &TableRef, query: &Query, resolve_in: &NamespaceId) -> Result<()> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<TableRef> = tables_of_query(query, resolve_in).into_iter().collect();
    while let Some(read) = next.pop() {
        if read == *name {
            return Err(Error::invalid_input(format!("view '{name}' cannot read itself")));
        }
        if let Some(view) = catalog.view(&read)
            && reached.insert(read)
        {
            next.extend(tables_of_query(&*query_of(view)?, &view.resolve_in));
        }
    }
    Ok(())
}

pub(super) fn drop(catalog: &Catalog, context: &DdlContext, names: &[TableName], if_exists: bool) -> Result<Planned> {
    let mut gone = Vec::new();
    for name in names {
        let name = context.resolve(name)?;
        refuse_reserved(&name.namespace)?;
        if catalog.view(&name).is_some() {
            gone.push(name);
        } else if catalog.table(&name).is_some() {
            return Err(Error::invalid_input(format!("'{name}' is a table, not a view: use DROP TABLE")));
        } else if !if_exists {
            return Err(Error::not_found(format!("view '{name}' does not exist")));
        }
    }
    if gone.is_empty() {
        return Ok(Planned::nothing("no such view"));
    }
    refuse_read(catalog, &gone)?;
    let mut draft = Draft::new(catalog);
    gone.iter().for_each(|view| draft.delete_view(view));
    Ok(draft.finish(format!("View {} dropped", listed(&gone))).into())
}

/// Refuses to drop what a remaining view reads.
pub(super) fn refuse_read(catalog: &Catalog, gone: &[TableRef]) -> Result<()> {
    for name in gone {
        let readers: Vec<TableRef> =
            readers_of(catalog, name).into_iter().filter(|reader| !gone.contains(reader)).collect();
        if !readers.is_empty() {
            return Err(Error::invalid_input(format!(
                "cannot drop '{name}': view {} depends on it; drop the view first",
                listed(&readers)
            )));
        }
    }
    Ok(())
}

/// Refuses to take away a column that a view may use: one that its query names, or could mean by a star.
pub(super) fn refuse_used_column(catalog: &Catalog, table: &TableRef, column: &str, doing: &str) -> Result<()> {
    for reader in readers_of(catalog, table) {
        let Some(view) = catalog.view(&reader) else { continue };
        if may_use_column(&*query_of(view)?, column) {
            return Err(Error::invalid_input(format!(
                "cannot {doing} column '{column}' of table '{table}': view '{reader}' may use it; drop the view first"
            )));
        }
    }
    Ok(())
}

/// The views that read a table or view directly. A view whose text cannot be read is not among them: it cannot be
/// used either.
pub(super) fn readers_of(catalog: &Catalog, name: &TableRef) -> Vec<TableRef> {
    let reads =
        |view: &View| query_of(view).is_ok_and(|query| tables_of_query(&query, &view.resolve_in).contains(name));
    catalog.views().filter(|view| reads(view)).map(|view| view.name.clone()).collect()
}

/// The views among `gone`, and those that read any of it, directly or through others.
pub(super) fn with_dependents(catalog: &Catalog, gone: &[TableRef]) -> BTreeSet<TableRef> {
    let mut views: BTreeSet<TableRef> = gone.iter().filter(|name| catalog.view(name).is_some()).cloned().collect();
    let mut next = gone.to_vec();
    while let Some(name) = next.pop() {
        next.extend(readers_of(catalog, &name).into_iter().filter(|reader| views.insert(reader.clone())));
    }
    views
}

/// Names in quotes, for messages.
pub(super) fn listed(names: &[TableRef]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
