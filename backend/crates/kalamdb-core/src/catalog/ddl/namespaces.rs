//! CREATE, ALTER and DROP NAMESPACE.

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{NamespaceId, TableRef};
use kalamdb_sql::NamespaceOption;
use serde_json::{Map, Value};

use super::{DdlContext, Planned, refuse_reserved, views};
use crate::catalog::{Catalog, Draft, Namespace};

pub(super) fn create(
    catalog: &Catalog,
    context: &DdlContext,
    name: &str,
    if_not_exists: bool,
    options: &[NamespaceOption],
) -> Result<Planned> {
    let id = NamespaceId::new(name)?;
    refuse_reserved(&id)?;
    if catalog.namespace(&id).is_some() {
        let message = format!("namespace '{id}' already exists");
        return if if_not_exists { Ok(Planned::nothing(message)) } else { Err(Error::already_exists(message)) };
    }
    let mut kept = Map::new();
    set_options(&mut kept, options);
    let mut draft = Draft::new(catalog);
    draft.put_namespace(Namespace { id: id.clone(), options: kept, created_at_ms: context.now_ms });
    Ok(draft.finish(format!("Namespace '{id}' created")).into())
}

pub(super) fn alter(catalog: &Catalog, name: &str, options: &[NamespaceOption]) -> Result<Planned> {
    let id = NamespaceId::new(name)?;
    refuse_reserved(&id)?;
    let mut namespace = Namespace::clone(catalog.require_namespace(&id)?);
    set_options(&mut namespace.options, options);
    let mut draft = Draft::new(catalog);
    draft.put_namespace(namespace);
    Ok(draft.finish(format!("Namespace '{id}' altered")).into())
}

/// NULL takes an option away.
fn set_options(kept: &mut Map<String, Value>, options: &[NamespaceOption]) {
    for (key, value) in options {
        if value.is_null() {
            kept.shift_remove(key);
        } else {
            kept.insert(key.clone(), value.clone());
        }
    }
}

pub(super) fn drop(catalog: &Catalog, name: &str, if_exists: bool, cascade: bool) -> Result<Planned> {
    let id = NamespaceId::new(name)?;
    refuse_reserved(&id)?;
    if catalog.namespace(&id).is_none() {
        let message = format!("namespace '{id}' does not exist");
        return if if_exists { Ok(Planned::nothing(message)) } else { Err(Error::not_found(message)) };
    }
    let tables: Vec<TableRef> = catalog.tables_in(&id).map(|table| table.name.clone()).collect();
    let own_views: Vec<TableRef> = catalog.views_in(&id).map(|view| view.name.clone()).collect();
    let is_empty = tables.is_empty() && own_views.is_empty();
    if !cascade && !is_empty {
        return Err(Error::invalid_input(format!(
            "cannot drop namespace '{id}': it holds {} table(s) and {} view(s); drop them first, or use CASCADE",
            tables.len(),
            own_views.len()
        )));
    }
    let mut gone = tables.clone();
    gone.extend(own_views);
    let all_views = views::with_dependents(catalog, &gone);
    let mut draft = Draft::new(catalog);
    tables.iter().for_each(|table| draft.drop_table(table));
    all_views.iter().for_each(|view| draft.delete_view(view));
    draft.delete_namespace(&id);
    Ok(draft.finish(format!("Namespace '{id}' dropped")).into())
}
