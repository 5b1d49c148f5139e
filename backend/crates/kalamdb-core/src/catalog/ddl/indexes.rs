//! CREATE and DROP INDEX: the columns get Bloom filters in the batch files that are written from then on.

use std::collections::BTreeSet;
use std::sync::Arc;

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{ColumnId, NamespaceId};
use kalamdb_commons::schema::{Index, Table};
use kalamdb_sql::{CreateIndex, TableName};

use super::{DdlContext, Planned, refuse_reserved};
use crate::catalog::{Catalog, Draft};

pub(super) fn create(catalog: &Catalog, context: &DdlContext, create: &CreateIndex) -> Result<Planned> {
    let name = context.resolve(&create.table)?;
    refuse_reserved(&name.namespace)?;
    let mut table = Table::clone(catalog.require_table(&name)?);
    kalamdb_commons::ids::TableName::new(&create.name).map_err(|error| error.context("the index"))?;
    if name_is_taken(catalog, &name.namespace, &create.name) {
        let message = format!("index '{}' already exists", create.name);
        let same_kind = catalog.index(&name.namespace, &create.name).is_some();
        return if create.if_not_exists && same_kind {
            Ok(Planned::nothing(message))
        } else {
            Err(Error::already_exists(message))
        };
    }
    let columns = column_ids(&table, &create.columns, "index")?;
    table.indexes.push(Index { name: create.name.clone(), columns });
    let mut draft = Draft::new(catalog);
    draft.put_table(table);
    Ok(draft.finish(format!("Index '{}' created on '{name}'", create.name)).into())
}

pub(super) fn drop(catalog: &Catalog, context: &DdlContext, name: &TableName, if_exists: bool) -> Result<Planned> {
    let name = context.resolve(name)?;
    refuse_reserved(&name.namespace)?;
    let index = name.table.as_str();
    if let Some(table) = key_owner(catalog, &name.namespace, index) {
        return Err(Error::invalid_input(format!(
            "'{index}' is a key of table '{}' and not an index: keys last as long as their table",
            table.name
        )));
    }
    let Some((table, _)) = catalog.index(&name.namespace, index) else {
        let message = format!("index '{name}' does not exist");
        return if if_exists { Ok(Planned::nothing(message)) } else { Err(Error::not_found(message)) };
    };
    let mut table = Table::clone(table);
    table.indexes.retain(|existing| existing.name != index);
    let mut draft = Draft::new(catalog);
    draft.put_table(table);
    Ok(draft.finish(format!("Index '{name}' dropped")).into())
}

/// Whether an index or key of the namespace has the name.
pub(super) fn name_is_taken(catalog: &Catalog, namespace: &NamespaceId, name: &str) -> bool {
    catalog.index(namespace, name).is_some() || key_owner(catalog, namespace, name).is_some()
}

fn key_owner<'a>(catalog: &'a Catalog, namespace: &'a NamespaceId, name: &str) -> Option<&'a Arc<Table>> {
    catalog.tables_in(namespace).find(|table| table.keys.iter().any(|key| key.name == name))
}

/// The ids of named columns, each of which must exist and come once.
pub(super) fn column_ids(table: &Table, names: &[String], what: &str) -> Result<Vec<ColumnId>> {
    let mut seen = BTreeSet::new();
    names
        .iter()
        .map(|name| {
            let column = table.column(name).ok_or_else(|| {
                Error::invalid_input(format!(
                    "column '{name}' named in the {what} does not exist in table '{}'; its columns are {}",
                    table.name,
                    column_names(table)
                ))
            })?;
            if !seen.insert(column.id) {
                return Err(Error::invalid_input(format!("column '{name}' comes twice in the {what}")));
            }
            Ok(column.id)
        })
        .collect()
}

fn column_names(table: &Table) -> String {
    table.columns().iter().map(|column| &*column.name).collect::<Vec<_>>().join(", ")
}
