//! The entities of the catalog besides tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use kalamdb_commons::ids::{CommitTime, Incarnation, NamespaceId, TableRef, UserId};
use kalamdb_commons::limits::UserLimit;
use kalamdb_commons::schema::{Role, Table};
use kalamdb_commons::types::ColumnType;
use serde::{Deserialize, Serialize};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub id: NamespaceId,
    /// What `WITH (...)` and ALTER NAMESPACE set, as it was given.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
}

/// A view: a query with a name, planned anew wherever it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub name: TableRef,
    /// The query's SQL text.
    pub query_text: String,
    /// The namespace of unqualified names in the query: the default one when the view was created.
    pub resolve_in: NamespaceId,
    /// The columns, as the query gave them when the view was created, under the view's own names.
    pub columns: Vec<ViewColumn>,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewColumn {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it may be NULL.
    #[serde(default = "yes")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

/// How a user proves who they are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthType {
    /// With a password.
    #[default]
    Password,
}

impl AuthType {
    /// As the system tables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
        }
    }
}

/// An account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub id: UserId,
    /// What it may do.
    pub role: Role,
    /// Its e-mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// How it logs in.
    #[serde(default)]
    pub auth_type: AuthType,
    /// The Argon2id hash of its password, in PHC form.
    pub password_hash: String,
    /// Whether the password was made by the first start and nobody has used it yet.
    #[serde(default)]
    pub provisional: bool,
    /// Tokens carry it. It begins with the catalog's version, so that no account has one that an earlier account of
    /// the name had, and grows when the password or role changes and when the user is dropped, and ends every token
    /// that was given before.
    #[serde(default)]
    pub generation: u64,
    /// The limits of its own; zero is none. For others the settings' apply.
    #[serde(default)]
    pub limits: BTreeMap<UserLimit, u64>,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
    /// When it was changed last, ms since 1970.
    pub updated_at_ms: i64,
    /// When it was dropped, ms since 1970. A dropped user cannot log in; the name stays taken, so that nobody else
    /// gets the rows that are still stored under it.
    #[serde(default)]
    pub deleted_at_ms: Option<i64>,
    /// The life under which the empty manifests are published that end the user's partitions; drawn when the purge
    /// begins.
    #[serde(default)]
    pub purge_life: Option<Incarnation>,
    /// Whether it is being erased: it is due at once, and nothing of it may be left in any file.
    #[serde(default)]
    pub erase: bool,
    /// The last commit before it was created: up to there its partitions were those of an earlier account of the name.
    #[serde(default)]
    pub later_than: CommitTime,
}

impl User {
    /// Whether it was not dropped.
    pub fn is_active(&self) -> bool {
        self.deleted_at_ms.is_none()
    }
}

impl std::fmt::Debug for User {
    /// Without the password hash.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("generation", &self.generation)
            .field("deleted_at_ms", &self.deleted_at_ms)
            .finish_non_exhaustive()
    }
}

pub use kalamdb_commons::storage::StorageDefinition;

/// The contents of a table that DROP or TRUNCATE ended. They are invisible from the edit on, and stay recorded
/// until their removal is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// The table as it was.
    pub table: Arc<Table>,
    /// The life that ended: `table.incarnation`.
    pub incarnation: Incarnation,
    /// The life under which the empty manifests are published that end the old one: after TRUNCATE the table's new
    /// one, after DROP one that no table has. It is greater than `incarnation`, and less than that of any table
    /// that is created later under the name.
    pub successor: Incarnation,
}
