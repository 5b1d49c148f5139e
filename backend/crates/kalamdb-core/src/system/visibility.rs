//! Who sees which object. What somebody may not see is answered like what does not exist.

use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::{AccessLevel, Role, Table, TableKind};

use crate::catalog::ddl::{query_of, tables_of_query};
use crate::catalog::{Catalog, View};

/// How deep views may read views before one is taken for unreadable.
const DEPTH_MAX: usize = 32;

/// The least role that reads a table: everybody has a partition in USER and STREAM tables.
pub fn reads_from(table: &Table) -> Role {
    match (table.kind, table.options.access_level) {
        (TableKind::User | TableKind::Stream, _) | (TableKind::Shared, AccessLevel::Public) => Role::User,
        (TableKind::Shared, AccessLevel::Private) => Role::Service,
        (TableKind::Shared, AccessLevel::Restricted) => Role::Dba,
    }
}

/// The least role that writes a table.
pub fn writes_from(table: &Table) -> Role {
    match (table.kind, table.options.access_level) {
        (TableKind::User | TableKind::Stream, _) => Role::User,
        (TableKind::Shared, AccessLevel::Public | AccessLevel::Private) => Role::Service,
        (TableKind::Shared, AccessLevel::Restricted) => Role::Dba,
    }
}

/// Whether a role sees a table.
pub fn sees_table(role: Role, table: &Table) -> bool {
    role >= reads_from(table)
}

/// Whether a role sees a view: if it sees everything that the view reads.
pub fn sees_view(catalog: &Catalog, role: Role, view: &View) -> bool {
    role >= Role::Dba || sees_view_within(catalog, role, view, DEPTH_MAX)
}

fn sees_view_within(catalog: &Catalog, role: Role, view: &View, depth: usize) -> bool {
    let Ok(query) = query_of(view) else { return false };
    tables_of_query(&query, &view.resolve_in).iter().all(|name| match (catalog.table(name), catalog.view(name)) {
        (Some(table), _) => sees_table(role, table),
        (None, Some(inner)) => depth > 0 && sees_view_within(catalog, role, inner, depth - 1),
        // A common table expression, or a table of the server's, which guards itself.
        (None, None) => true,
    })
}

/// Whether a role sees a namespace: if it sees anything in it.
pub fn sees_namespace(catalog: &Catalog, role: Role, namespace: &NamespaceId) -> bool {
    role >= Role::Dba
        || catalog.tables_in(namespace).any(|table| sees_table(role, table))
        || catalog.views_in(namespace).any(|view| sees_view(catalog, role, view))
}
