//! The statements: what the parser hands to the engine.
//!
//! Names are folded already (unquoted ones to lower case, quoted ones as written) but not validated and not
//! resolved: that needs a default namespace and a catalog. Everything that SQL text could say and these types
//! cannot hold was refused by the parser, so that carrying out all fields of a statement is carrying out all of it.

use std::fmt;

use kalamdb_commons::Result;
use kalamdb_commons::ids::TableRef;
use kalamdb_commons::limits::UserLimit;
use kalamdb_commons::schema::{AccessLevel, Role, TableKind};
use kalamdb_commons::types::ColumnType;
use sqlparser::ast::{Expr, Query, SelectItem};

use crate::options::TableOptionSet;

/// One statement of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What to do.
    pub statement: Statement,
    /// The statement's own SQL text, without the `;`. Passwords are replaced by `'***'`.
    pub text: String,
    /// The highest `$n` that it uses; 0 for none.
    pub params: usize,
    /// AS USER: on whose behalf it runs.
    pub as_user: Option<Subject>,
    /// The tables that it reads by ALL USERS OF. In the tree their names end in
    /// [`ALL_USERS_MARK`](crate::ALL_USERS_MARK).
    pub all_users: Vec<TableName>,
}

/// The user that AS USER names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By name.
    Name(String),
    /// By the parameter of this number.
    Param(usize),
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, set operations, with or without WITH. Goes to DataFusion's planner unchanged.
    Query(Box<Query>),
    /// EXPLAIN of a query or of a data-changing statement.
    Explain {
        /// Run it, and show what it did.
        analyze: bool,
        /// Show every plan.
        verbose: bool,
        /// A [`Self::Query`], [`Self::Insert`], [`Self::Update`] or [`Self::Delete`].
        statement: Box<Statement>,
    },
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// CREATE NAMESPACE (or SCHEMA).
    CreateNamespace {
        /// Its name.
        name: String,
        /// Nothing happens if it exists.
        if_not_exists: bool,
        /// `WITH (key = value, ...)`: kept with the namespace and shown in `system.namespaces`.
        options: Vec<NamespaceOption>,
    },
    /// DROP NAMESPACE (or SCHEMA).
    DropNamespace {
        /// Its name.
        name: String,
        /// Nothing happens if it is absent.
        if_exists: bool,
        /// Its tables and views go with it; without it a namespace that has any is not dropped.
        cascade: bool,
    },
    /// ALTER NAMESPACE ... SET (key = value, ...).
    AlterNamespace {
        /// Its name.
        name: String,
        /// The options to add or replace; a NULL value removes one.
        options: Vec<NamespaceOption>,
    },
    /// CREATE TABLE.
    CreateTable(CreateTable),
    /// ALTER TABLE: all of the operations, in order, or none.
    AlterTable {
        /// The table.
        table: TableName,
        /// Nothing happens if it is absent.
        if_exists: bool,
        /// At least one.
        operations: Vec<AlterOperation>,
    },
    /// DROP TABLE: all of them or none.
    DropTable {
        /// At least one.
        tables: Vec<TableName>,
        /// Absent ones are passed over.
        if_exists: bool,
    },
    /// TRUNCATE: all of them or none.
    Truncate {
        /// At least one.
        tables: Vec<TableName>,
    },
    /// CREATE INDEX.
    CreateIndex(CreateIndex),
    /// DROP INDEX.
    DropIndex {
        /// Its name, and its namespace if it was said.
        name: TableName,
        /// Nothing happens if it is absent.
        if_exists: bool,
    },
    /// CREATE VIEW.
    CreateView(CreateView),
    /// DROP VIEW: all of them or none.
    DropView {
        /// At least one.
        views: Vec<TableName>,
        /// Absent ones are passed over.
        if_exists: bool,
    },
    /// USE: the default namespace of what follows in the request.
    Use {
        /// The namespace.
        namespace: String,
    },
    /// SHOW.
    Show(Show),
    /// DESCRIBE, DESC.
    Describe {
        /// The table or view.
        table: TableName,
    },
    /// STORAGE FLUSH, FLUSH.
    Flush(Flush),
    /// STORAGE COMPACT.
    Compact(Compact),
    /// STORAGE EVICT MANIFESTS, STORAGE REMOVE ORPHANS.
    Tidy(Tidy),
    /// EXPORT USER DATA.
    ExportUser(ExportUser),
    /// BACKUP DATABASE.
    Backup(Backup),
    /// RESTORE DATABASE.
    Restore(Restore),
    /// CHECK TABLE.
    CheckTable(CheckTable),
    /// CREATE USER.
    CreateUser(CreateUser),
    /// ALTER USER.
    AlterUser {
        /// The user.
        name: String,
        /// What changes.
        change: UserChange,
    },
    /// DROP USER.
    DropUser {
        /// The user.
        name: String,
        /// Nothing happens if the user is absent.
        if_exists: bool,
    },
    /// ERASE USER.
    EraseUser {
        /// The user.
        name: String,
    },
    /// CREATE STORAGE.
    CreateStorage(CreateStorage),
    /// ALTER STORAGE ... SET.
    AlterStorage {
        /// The storage.
        id: String,
        /// What changes; the bucket, the prefix and the directory do not.
        options: StorageOptionSet,
    },
    /// DROP STORAGE.
    DropStorage {
        /// The storage.
        id: String,
        /// Nothing happens if it is absent.
        if_exists: bool,
    },
    /// STORAGE CHECK: whether a storage can be used.
    CheckStorage {
        /// The storage.
        id: String,
        /// Try large files and lost races too.
        extended: bool,
    },
    /// VERIFY AUDIT.
    VerifyAudit,
    /// SUBSCRIBE TO: how to connect for a live query.
    Subscribe {
        /// The live query.
        sql: String,
    },
    /// KILL LIVE QUERY.
    KillLive {
        /// Its id in `system.live`.
        live: String,
    },
    /// KILL JOB.
    KillJob {
        /// The job, such as `FL-7f3a...`.
        job: String,
    },
}

/// A table's, view's or index's name as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The namespace, if it was said.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl TableName {
    /// The full, validated name, with `default` for a namespace that was not said.
    pub fn resolve(&self, default: &str) -> Result<TableRef> {
        TableRef::new(self.namespace.as_deref().unwrap_or(default), &self.name)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}.")?;
        }
        f.write_str(&self.name)
    }
}

/// INSERT.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Into which table.
    pub table: TableName,
    /// The columns that the source fills, without duplicates; `None` means the user's columns in order.
    pub columns: Option<Vec<String>>,
    /// What to insert.
    pub source: InsertSource,
    /// What to do where a key exists already; `None` fails the statement.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Option<Vec<SelectItem>>,
}

/// Where the rows of an INSERT come from.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertSource {
    /// Rows of expressions without columns, all of the same length, which is that of the column list if there is
    /// one. [`expr::is_default`](crate::expr::is_default) recognises the word DEFAULT.
    Values(Vec<Vec<Expr>>),
    /// The answer of a query.
    Query(Box<Query>),
    /// One row of defaults.
    DefaultValues,
}

/// ON CONFLICT.
#[derive(Debug, Clone, PartialEq)]
pub struct OnConflict {
    /// The columns of the key, in any order. `None` means any key, and comes with [`ConflictAction::DoNothing`] only.
    pub target: Option<Vec<String>>,
    /// What to do with the row.
    pub action: ConflictAction,
}

/// What to do with a row whose key exists.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one per statement")]
pub enum ConflictAction {
    /// Leave it out.
    DoNothing,
    /// Update the existing row. Expressions see it by the table's name or bare columns, and the new one as `excluded`.
    DoUpdate {
        /// SET, each column once.
        assignments: Vec<(String, Expr)>,
        /// WHERE; rows that do not pass are left as they are.
        filter: Option<Expr>,
    },
}

/// UPDATE.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Of which table.
    pub table: TableName,
    /// The name of the table in expressions; if there is one, the table's own cannot be used.
    pub alias: Option<String>,
    /// SET, each column once. [`expr::is_default`](crate::expr::is_default) recognises the word DEFAULT.
    pub assignments: Vec<(String, Expr)>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Option<Vec<SelectItem>>,
}

/// DELETE.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// From which table.
    pub table: TableName,
    /// The name of the table in expressions; if there is one, the table's own cannot be used.
    pub alias: Option<String>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Option<Vec<SelectItem>>,
}

/// An option of a namespace.
pub type NamespaceOption = (String, serde_json::Value);

/// CREATE TABLE.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// The kind, from the keyword or the option TYPE.
    pub kind: Option<TableKind>,
    /// Nothing happens if a table of the name exists.
    pub if_not_exists: bool,
    /// Its name.
    pub name: TableName,
    /// Its columns, names without duplicates. Empty only with `as_query`.
    pub columns: Vec<ColumnDef>,
    /// The primary key's columns, from either spelling; each is NOT NULL in `columns`.
    pub primary_key: Option<KeyDef>,
    /// UNIQUE of columns and of the table.
    pub uniques: Vec<KeyDef>,
    /// CHECK of columns and of the table, and the length of `VARCHAR(n)`.
    pub checks: Vec<CheckDef>,
    /// Options.
    pub options: TableOptionSet,
    /// AS.
    pub as_query: Option<Box<Query>>,
}

/// A column of CREATE TABLE or ADD COLUMN.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The SQL text of its default, without columns, parameters and subqueries.
    pub default: Option<String>,
    /// Whether it is UNIQUE by itself; in [`CreateTable`] it is in `uniques` as well.
    pub unique: bool,
    /// Whether it is the primary key by itself; in [`CreateTable`] it is in `primary_key` as well.
    pub primary_key: bool,
    /// Its checks; in [`CreateTable`] they are in `checks` as well.
    pub checks: Vec<CheckDef>,
}

/// A primary key or UNIQUE constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDef {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its columns, without duplicates.
    pub columns: Vec<String>,
}

/// A CHECK constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDef {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its SQL text, over columns by name, without parameters and subqueries.
    pub expression: String,
}

/// One operation of ALTER TABLE.
#[derive(Debug, Clone, PartialEq)]
pub enum AlterOperation {
    /// ADD COLUMN.
    AddColumn {
        /// The column; `primary_key` is false.
        column: ColumnDef,
        /// Nothing happens if a column of the name exists.
        if_not_exists: bool,
    },
    /// DROP COLUMN.
    DropColumn {
        /// Its name.
        name: String,
        /// Nothing happens if it is absent.
        if_exists: bool,
    },
    /// RENAME COLUMN.
    RenameColumn {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// MODIFY COLUMN, ALTER COLUMN: what is `None` stays.
    ModifyColumn {
        /// Its name.
        name: String,
        /// The new type.
        column_type: Option<ColumnType>,
        /// Whether NULL is allowed from now on.
        nullable: Option<bool>,
        /// `Some(None)` drops the default; otherwise its SQL text.
        default: Option<Option<String>>,
    },
    /// SET ACCESS LEVEL.
    SetAccessLevel(AccessLevel),
    /// SET (option = value, ...). The kind is never among them.
    SetOptions(TableOptionSet),
}

/// CREATE INDEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// Its name: `<table>_<columns>_idx` if none was given. It lies in the table's namespace.
    pub name: String,
    /// On which table.
    pub table: TableName,
    /// The columns, without duplicates.
    pub columns: Vec<String>,
    /// Nothing happens if an index of the name exists.
    pub if_not_exists: bool,
}

/// CREATE VIEW.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// Its name.
    pub name: TableName,
    /// Replace a view of the name.
    pub or_replace: bool,
    /// Nothing happens if a view of the name exists.
    pub if_not_exists: bool,
    /// The names of its columns; empty for the query's.
    pub columns: Vec<String>,
    /// The query, which has no parameters.
    pub query: Box<Query>,
    /// The query's SQL text.
    pub query_text: String,
}

/// SHOW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// `SHOW TABLES [IN ns]`.
    Tables {
        /// Of which namespace; of the default one if `None`.
        namespace: Option<String>,
    },
    /// `SHOW NAMESPACES`.
    Namespaces,
    /// `SHOW STORAGES`.
    Storages,
    /// `SHOW COLUMNS FROM t`.
    Columns {
        /// The table or view.
        table: TableName,
    },
    /// `SHOW ALL`: the settings.
    All,
    /// `SHOW MANIFEST [FOR [TABLE] t]`.
    Manifest {
        /// Of which table; of every one if `None`.
        table: Option<TableName>,
    },
    /// `SHOW MANIFEST CACHE`.
    ManifestCache,
    /// `SHOW STATS FOR TABLE t`.
    StatsForTable {
        /// The table.
        table: TableName,
    },
}

/// STORAGE FLUSH, FLUSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    /// What to flush.
    pub target: StorageTarget,
    /// Answer when done.
    pub wait: bool,
}

/// STORAGE COMPACT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compact {
    /// What to compact.
    pub target: StorageTarget,
    /// Answer when done.
    pub wait: bool,
}

/// What the server does by itself from time to time, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tidy {
    /// What is to be tidied.
    pub chore: Chore,
    /// Answer when done.
    pub wait: bool,
}

/// EXPORT USER DATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportUser {
    /// Whose.
    pub name: String,
    /// The directory, or the storage and a path in it.
    pub to: String,
}

/// BACKUP DATABASE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The namespace.
    pub namespace: String,
    /// The directory, or the storage and a path in it.
    pub to: String,
    /// Answer when done.
    pub wait: bool,
}

/// What can be tidied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Manifests that nobody uses leave memory and the manifest cache.
    EvictManifests,
    /// Files that no manifest names are deleted.
    RemoveOrphans,
}

/// RESTORE DATABASE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The namespace that is made or filled.
    pub namespace: String,
    /// The directory, or the storage and a path in it.
    pub from: String,
    /// Answer when done.
    pub wait: bool,
}

/// CHECK TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTable {
    /// The table.
    pub table: TableName,
    /// Whether to repair what can be repaired without losing anything.
    pub repair: bool,
}

/// What a statement about storage means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageTarget {
    /// One table.
    Table(TableName),
    /// Every table.
    All,
    /// Every table of a namespace.
    Namespace(String),
}

/// CREATE USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// The user.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// The role; `user` if none was said.
    pub role: Role,
    /// The e-mail address.
    pub email: Option<String>,
    /// Nothing happens if the user exists.
    pub if_not_exists: bool,
}

/// ALTER USER ... SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// PASSWORD.
    Password(Secret),
    /// ROLE.
    Role(Role),
    /// EMAIL.
    Email(String),
    /// LIMIT: zero for none, `None` for that of the settings.
    Limit(UserLimit, Option<u64>),
}

/// CREATE STORAGE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStorage {
    /// Its id.
    pub id: String,
    /// What it is.
    pub kind: StorageType,
    /// Everything else; fits the type.
    pub options: StorageOptionSet,
    /// Nothing happens if it exists.
    pub if_not_exists: bool,
}

/// What a storage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageType {
    /// A directory of the machine.
    Filesystem,
    /// A bucket of S3, or of a store that speaks its language.
    S3,
}

impl StorageType {
    /// As statements write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::S3 => "s3",
        }
    }
}

/// The options of a storage that a statement says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StorageOptionSet {
    /// NAME.
    pub name: Option<String>,
    /// PATH.
    pub path: Option<String>,
    /// BUCKET.
    pub bucket: Option<String>,
    /// PREFIX.
    pub prefix: Option<String>,
    /// REGION.
    pub region: Option<String>,
    /// ENDPOINT.
    pub endpoint: Option<String>,
    /// ALLOW_HTTP.
    pub allow_http: Option<bool>,
    /// CREDENTIALS: a JSON object.
    pub credentials: Option<Secret>,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
