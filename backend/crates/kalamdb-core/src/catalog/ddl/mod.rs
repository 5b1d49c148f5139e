//! The rules of DDL: from a statement and the catalog to an edit, without I/O.
//!
//! Every statement is checked whole before anything is put in the edit; what depends on data, or on an expression
//! that only the planner understands, is handed on as [`DataCheck`](super::DataCheck) and
//! [`NewExpression`](super::NewExpression). Rights are the engine's: DDL needs `dba`. The one right that is
//! decided here is who may touch whose account, because it depends on the accounts.

mod alter;
mod expressions;
mod indexes;
mod namespaces;
mod tables;
mod users;
mod views;

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{CommitTime, NamespaceId, StorageId, TableRef};
use kalamdb_commons::schema::Actor;
use kalamdb_commons::types::SchemaRef;
use kalamdb_sql::{Statement, TableName};

use super::{Catalog, CatalogEdit};
pub use expressions::{identifiers, tables_of_query};
pub use tables::{NewColumn, columns_of_schema};
pub use users::checked_email;
pub(crate) use users::{SERVER, checked_id};
pub(crate) use views::moved_view;
pub use views::query_of;

/// Namespaces that are always there and hold what the server shows of itself.
pub const RESERVED_NAMESPACES: [&str; 2] = ["system", "information_schema"];

/// The most columns in a table.
pub const COLUMNS_MAX: usize = 1_000;

/// What a rule may depend on besides the catalog and the statement.
#[derive(Debug, Clone)]
pub struct DdlContext {
    /// Now, ms since 1970.
    pub now_ms: i64,
    /// The last commit.
    pub through: CommitTime,
    /// The namespace of names without one; `None` if the request has none.
    pub current_namespace: Option<NamespaceId>,
    /// Who runs the statement.
    pub actor: Actor,
    /// The storages that tables may name.
    pub storages: Vec<StorageId>,
    /// The Argon2id hash of the statement's password: needed for CREATE USER and SET PASSWORD.
    pub password_hash: Option<String>,
    /// The schema of the statement's query, as the planner gives it: needed for CREATE VIEW and
    /// CREATE TABLE ... AS.
    pub query_schema: Option<SchemaRef>,
}

impl DdlContext {
    /// The full name of a table, view or index.
    pub fn resolve(&self, name: &TableName) -> Result<TableRef> {
        resolve(name, self.current_namespace.as_ref())
    }
}

/// The full, validated name of a table, view or index; `current` for a namespace that was not said.
pub fn resolve(name: &TableName, current: Option<&NamespaceId>) -> Result<TableRef> {
    match (&name.namespace, current) {
        (Some(namespace), _) => TableRef::new(namespace, &name.name),
        (None, Some(current)) => TableRef::new(current.as_str(), &name.name),
        (None, None) => Err(Error::invalid_input(format!(
            "'{0}' needs a namespace: write <namespace>.{0}, or say USE <namespace> first",
            name.name
        ))),
    }
}

/// What a statement comes to.
#[derive(Debug)]
pub enum Planned {
    /// An edit to verify, commit and swap in.
    Edit(Box<CatalogEdit>),
    /// Nothing to do: IF EXISTS and IF NOT EXISTS. The message says why.
    Nothing {
        /// What the answer says.
        message: String,
    },
}

impl Planned {
    fn nothing(message: impl Into<String>) -> Self {
        Self::Nothing { message: message.into() }
    }
}

impl From<CatalogEdit> for Planned {
    fn from(edit: CatalogEdit) -> Self {
        Self::Edit(Box::new(edit))
    }
}

/// Whether the statement changes the catalog.
pub fn is_ddl(statement: &Statement) -> bool {
    use Statement::*;
    matches!(
        statement,
        CreateNamespace { .. }
            | DropNamespace { .. }
            | AlterNamespace { .. }
            | CreateTable(_)
            | AlterTable { .. }
            | DropTable { .. }
            | Truncate { .. }
            | CreateIndex(_)
            | DropIndex { .. }
            | CreateView(_)
            | DropView { .. }
            | CreateUser(_)
            | AlterUser { .. }
            | DropUser { .. }
    ) || is_about_storage(statement)
}

/// Whether it makes, changes or drops a storage: what such a statement means depends on the storage as well, so the
/// engine plans it.
pub fn is_about_storage(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateStorage(_) | Statement::AlterStorage { .. } | Statement::DropStorage { .. })
}

/// Applies the rules of a DDL statement.
pub fn plan(catalog: &Catalog, statement: &Statement, context: &DdlContext) -> Result<Planned> {
    match statement {
        Statement::CreateNamespace { name, if_not_exists, options } => {
            namespaces::create(catalog, context, name, *if_not_exists, options)
        }
        Statement::DropNamespace { name, if_exists, cascade } => namespaces::drop(catalog, name, *if_exists, *cascade),
        Statement::AlterNamespace { name, options } => namespaces::alter(catalog, name, options),
        Statement::CreateTable(create) => tables::create(catalog, context, create),
        Statement::AlterTable { table, if_exists, operations } => {
            alter::alter(catalog, context, table, *if_exists, operations)
        }
        Statement::DropTable { tables, if_exists } => tables::drop(catalog, context, tables, *if_exists),
        Statement::Truncate { tables } => tables::truncate(catalog, context, tables),
        Statement::CreateIndex(create) => indexes::create(catalog, context, create),
        Statement::DropIndex { name, if_exists } => indexes::drop(catalog, context, name, *if_exists),
        Statement::CreateView(create) => views::create(catalog, context, create),
        Statement::DropView { views, if_exists } => views::drop(catalog, context, views, *if_exists),
        Statement::CreateUser(create) => users::create(catalog, context, create),
        Statement::AlterUser { name, change } => users::alter(catalog, context, name, change),
        Statement::DropUser { name, if_exists } => users::drop(catalog, context, name, *if_exists),
        _ => Err(Error::internal("this statement does not change the catalog")),
    }
}

/// Refuses a namespace that belongs to the server.
pub(crate) fn refuse_reserved(namespace: &NamespaceId) -> Result<()> {
    if RESERVED_NAMESPACES.contains(&namespace.as_str()) {
        return Err(Error::invalid_input(format!(
            "namespace '{namespace}' belongs to the server and cannot be changed"
        )));
    }
    Ok(())
}

/// The namespace in which something is to be made: it exists, and is not the server's.
fn require_writable(catalog: &Catalog, namespace: &NamespaceId) -> Result<()> {
    refuse_reserved(namespace)?;
    catalog.require_namespace(namespace).map(|_| ())
}

#[cfg(test)]
mod tests;
