//! Rights applied to what exists: which right a statement, a table or a view needs, and who sees which object.
//!
//! What a right is and who has it is `kalamdb_auth::policy`. Everything that asks goes through here or there: nothing
//! else compares roles. What somebody may not see is answered like what does not exist.

use kalamdb_auth::policy::{self, Right, Rows, Verdict, decide};
use kalamdb_commons::Result;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::{Role, Table, TableKind};
use kalamdb_sql::{Show, Statement, UserChange};

use crate::catalog::ddl::{query_of, tables_of_query};
use crate::catalog::{Catalog, View};

/// How deep views may read views before one is taken for unreadable.
const DEPTH_MAX: usize = 32;

/// What a statement wants of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its rows.
    Read,
    /// INSERT, UPDATE, DELETE.
    Write,
}

/// The right that a statement needs whatever it names; `None` if only the tables that it names decide.
pub fn right_of(statement: &Statement) -> Option<Right> {
    use Statement as S;
    match statement {
        S::Query(_) | S::Explain { .. } | S::Insert(_) | S::Update(_) | S::Delete(_) => None,
        S::Begin | S::Commit | S::Rollback | S::Use { .. } | S::Describe { .. } => None,
        // Of what one may read, and of one's own live queries.
        S::Subscribe { .. } | S::KillLive { .. } => None,
        S::Show(Show::Tables { .. } | Show::Namespaces | Show::Columns { .. }) => None,
        // Of one's own partitions.
        S::Show(Show::Manifest { .. } | Show::ManifestCache) => None,
        S::Show(Show::Storages | Show::All | Show::StatsForTable { .. }) => Some(Right::Server),
        S::Flush(_) | S::Compact(_) | S::Tidy(_) => Some(Right::Storage),
        S::CheckTable(_) | S::CheckStorage { .. } => Some(Right::Storage),
        S::CreateStorage(_) | S::AlterStorage { .. } | S::DropStorage { .. } => Some(Right::Storage),
        S::Backup(_) | S::Restore(_) | S::ExportUser(_) => Some(Right::Storage),
        S::KillJob { .. } => Some(Right::Jobs),
        S::VerifyAudit => Some(Right::Audit),
        S::CreateUser(create) => Some(Right::Account(create.role)),
        S::AlterUser { change: UserChange::Role(role), .. } => Some(Right::Account(*role)),
        S::AlterUser { .. } | S::DropUser { .. } | S::EraseUser { .. } => Some(Right::Account(Role::User)),
        S::CreateNamespace { .. } | S::DropNamespace { .. } | S::AlterNamespace { .. } => Some(Right::Schema),
        S::CreateTable(_) | S::AlterTable { .. } | S::DropTable { .. } | S::Truncate { .. } => Some(Right::Schema),
        S::CreateIndex(_) | S::DropIndex { .. } | S::CreateView(_) | S::DropView { .. } => Some(Right::Schema),
    }
}

/// Whether a statement is audited whoever runs it: it changes accounts, schemas, storages or jobs, or writes to a
/// storage what is no table's.
pub fn is_audited(statement: &Statement) -> bool {
    use Statement as S;
    match statement {
        // They change nothing that anybody can see.
        S::Flush(_) | S::Compact(_) | S::Tidy(_) => false,
        S::CheckTable(check) => check.repair,
        _ => !matches!(right_of(statement), None | Some(Right::Server | Right::Audit)),
    }
}

/// Passes a role that may carry out a statement, as far as the statement alone decides it.
///
/// # Errors
/// `PermissionDenied`, whether what the statement names exists or not.
pub fn require_statement(role: Role, statement: &Statement) -> Result<()> {
    right_of(statement).map_or(Ok(()), |right| policy::require(role, right))
}

/// The right that using a table needs.
pub fn right_on(table: &Table, access: Access) -> Right {
    let rows = match table.kind {
        TableKind::User | TableKind::Stream => Rows::Own,
        TableKind::Shared => Rows::Shared(table.options.access_level),
    };
    match access {
        Access::Read => Right::Read(rows),
        Access::Write => Right::Write(rows),
    }
}

/// Whether a role sees a table.
pub fn sees_table(role: Role, table: &Table) -> bool {
    decide(role, right_on(table, Access::Read)) == Verdict::Allowed
}

/// Whether a role sees everything there is.
pub fn sees_everything(role: Role) -> bool {
    decide(role, Right::Server) == Verdict::Allowed
}

/// Whether a role sees a view: if it sees everything that the view reads.
pub fn sees_view(catalog: &Catalog, role: Role, view: &View) -> bool {
    sees_everything(role) || sees_view_within(catalog, role, view, DEPTH_MAX)
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
    sees_everything(role)
        || catalog.tables_in(namespace).any(|table| sees_table(role, table))
        || catalog.views_in(namespace).any(|view| sees_view(catalog, role, view))
}
