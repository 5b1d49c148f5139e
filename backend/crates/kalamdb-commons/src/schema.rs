//! Tables: their columns over time, constraints and options.
//!
//! A schema is versioned. Hot rows and batch files remember the version that they were written with, and are
//! read through it: a column of today is found in an old row by its [`ColumnId`], which is never reused, so a
//! column that was dropped and added again under the same name never shows old values. A column that a version
//! did not have yet reads as [`Column::missing`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{ColumnId, Incarnation, SchemaVersion, StorageId, TableId, TableRef, UserId};
use crate::system_columns::SystemColumns;
use crate::types::ColumnType;

/// Which kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// One isolated partition per user.
    User,
    /// One partition for everybody.
    Shared,
    /// Per user, short-lived, hot only.
    Stream,
}

impl TableKind {
    /// As SQL and the system tables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Shared => "shared",
            Self::Stream => "stream",
        }
    }

    /// Whether rows have a `_deleted` column and a cold tier.
    pub fn has_history(self) -> bool {
        self != Self::Stream
    }
}

/// Who may use a SHARED table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLevel {
    /// Every account reads, `service` and above write.
    Public,
    /// `service` and above.
    #[default]
    Private,
    /// `dba` and above.
    Restricted,
}

impl AccessLevel {
    /// As SQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Restricted => "restricted",
        }
    }
}

/// What an account may do, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Own partitions, and SHARED tables by access level.
    User,
    /// Also AS USER, and all SHARED tables but restricted ones.
    Service,
    /// Also DDL, accounts, storages, jobs.
    Dba,
    /// Everything.
    System,
}

impl Role {
    /// As SQL and tokens write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Dba => "dba",
            Self::System => "system",
        }
    }

    /// Reads a role; `admin` is another name for `dba`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "user" => Self::User,
            "service" => Self::Service,
            "dba" | "admin" => Self::Dba,
            "system" => Self::System,
            _ => {
                return Err(Error::invalid_input(format!(
                    "unknown role '{text}'; allowed are user, service, dba (or admin) and system"
                )));
            }
        })
    }
}

/// An account with the role that it has now: who is authenticated, or on whose behalf a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub user: UserId,
    /// With which role.
    pub role: Role,
}

/// What a column gets when an INSERT leaves it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    /// An SQL expression without columns, evaluated per statement (`NOW()`, `CURRENT_USER()`) or per row
    /// (`UUID_V7()`, `ULID()`, `SNOWFLAKE_ID()`). `AUTO_INCREMENT` is stored as `SNOWFLAKE_ID()`.
    Expression(String),
}

/// A column of a user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its identity. Parquet field ids are this number.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// What an INSERT gives it when it is left out; NULL if there is none.
    #[serde(default)]
    pub default: Option<ColumnDefault>,
    /// The SQL literal that rows older than the column read as: the constant default that ADD COLUMN had.
    /// NULL if `None`.
    #[serde(default)]
    pub missing: Option<String>,
}

/// UNIQUE or PRIMARY KEY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// Its number within the table, never reused: it names the key's entries in the hot tier.
    pub id: u32,
    /// Its name, for messages and DROP INDEX.
    pub name: String,
    /// The columns, in order.
    pub columns: Vec<ColumnId>,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// A secondary index: its columns get Bloom filters in batch files written from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name, unique within the namespace.
    pub name: String,
    /// The columns.
    pub columns: Vec<ColumnId>,
}

/// CHECK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, for messages.
    pub name: String,
    /// The SQL expression, over columns by name. NULL passes.
    pub expression: String,
}

/// When a table is flushed without being asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushPolicy {
    /// A partition with this many hot rows is flushed.
    pub rows: Option<u64>,
    /// A partition whose oldest hot row is this many seconds old is flushed.
    pub interval_seconds: Option<u64>,
}

/// How batch files are compressed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// LZ4: the fastest to read.
    #[default]
    Lz4,
    /// Zstandard level 3: the smallest.
    Zstd,
}

/// The options of a table, validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOptions {
    /// Where the cold tier lies.
    pub storage: StorageId,
    /// When to flush; the server's default policy if both parts are `None`.
    pub flush: FlushPolicy,
    /// How long STREAM rows live, in seconds.
    pub ttl_seconds: Option<u64>,
    /// Who may use a SHARED table.
    pub access_level: AccessLevel,
    /// How long deletions are kept, in hours.
    pub deleted_retention_hours: u64,
    /// Columns with Bloom filters besides `_id`, keys and indexes.
    pub bloom_filter_columns: Vec<ColumnId>,
    /// Columns without Bloom filters, though a key or an index has them.
    pub bloom_filter_off: Vec<ColumnId>,
    /// Whether `_id` is one of them.
    pub bloom_filter_off_id: bool,
    /// The target false-positive rate of Bloom filters.
    pub bloom_filter_fpp: f64,
    /// How batch files are compressed.
    pub compression: Compression,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            storage: StorageId::new("local").unwrap_or_else(|_| unreachable!("a valid name")),
            flush: FlushPolicy::default(),
            ttl_seconds: None,
            access_level: AccessLevel::default(),
            deleted_retention_hours: 7 * 24,
            bloom_filter_columns: Vec::new(),
            bloom_filter_off: Vec::new(),
            bloom_filter_off_id: false,
            bloom_filter_fpp: 0.01,
            compression: Compression::default(),
        }
    }
}

/// The columns of one schema version.
pub type Columns = Arc<[Column]>;

/// A table as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its identity from CREATE to DROP.
    pub id: TableId,
    /// The current life of its contents.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: TableRef,
    /// Its kind.
    pub kind: TableKind,
    /// The current schema version: the last in `versions`.
    pub version: SchemaVersion,
    /// The columns of every version, oldest first, the current one included.
    pub versions: BTreeMap<SchemaVersion, Columns>,
    /// The next column id to give.
    pub next_column: ColumnId,
    /// Keys, the primary one first.
    pub keys: Vec<UniqueKey>,
    /// The next key id to give.
    pub next_key: u32,
    /// Checks.
    pub checks: Vec<Check>,
    /// Indexes.
    pub indexes: Vec<Index>,
    /// Options.
    pub options: TableOptions,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

impl Table {
    /// The columns of the current version.
    pub fn columns(&self) -> &Columns {
        self.columns_at(self.version).unwrap_or_else(|| unreachable!("the current version is stored"))
    }

    /// The columns of a version, if there was one.
    pub fn columns_at(&self, version: SchemaVersion) -> Option<&Columns> {
        self.versions.get(&version)
    }

    /// A current column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns().iter().find(|column| &*column.name == name)
    }

    /// A current column by id.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns().iter().find(|column| column.id == id)
    }

    /// The primary key, if one was declared.
    pub fn primary_key(&self) -> Option<&UniqueKey> {
        self.keys.iter().find(|key| key.primary)
    }

    /// The schema that `SELECT *` shows: `_id`, the user's columns, `_updated`, and `_deleted` unless it is a
    /// STREAM table.
    pub fn visible_schema(&self) -> Schema {
        let mut fields = vec![SystemColumns::id_field()];
        fields.extend(self.columns().iter().map(|column| column.column_type.field(&column.name, column.nullable)));
        fields.push(SystemColumns::updated_field());
        if self.kind.has_history() {
            fields.push(SystemColumns::deleted_field());
        }
        Schema::new(fields)
    }

    /// The schema of the user's columns alone, current version.
    pub fn user_schema(&self) -> Schema {
        user_schema(self.columns())
    }
}

/// The Arrow schema of a version's user columns, in order.
pub fn user_schema(columns: &[Column]) -> Schema {
    Schema::new(
        columns.iter().map(|column| column.column_type.field(&column.name, column.nullable)).collect::<Vec<Field>>(),
    )
}
