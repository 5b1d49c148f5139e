//! Typed names and numbers.
//!
//! Names are validated where they enter ([`NamespaceId::new`] and its kin), so that everything behind holds
//! only valid ones. They may hold any letters of any script; what makes a name safe as a path component is
//! [`escape_component`], which is injective and never yields `.`, `..` or a separator.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The most bytes in the name of a namespace, table or column.
pub const NAME_BYTES_MAX: usize = 64;
/// The most bytes in a user id.
pub const USER_ID_BYTES_MAX: usize = 255;

fn checked(what: &str, name: &str, bytes_max: usize) -> Result<Arc<str>> {
    if name.is_empty() {
        return Err(Error::invalid_input(format!("the {what} is empty; it must have 1 to {bytes_max} bytes")));
    }
    if name.len() > bytes_max {
        let shown: String = name.chars().take(24).collect();
        return Err(Error::invalid_input(format!(
            "the {what} '{shown}...' has {} bytes; at most {bytes_max} are allowed",
            name.len()
        )));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control()) {
        return Err(Error::invalid_input(format!(
            "the {what} {name:?} holds the control character {bad:?}; control characters are not allowed"
        )));
    }
    Ok(name.into())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $max:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates and wraps a name: not empty, not too long, no control characters.
            pub fn new(name: &str) -> Result<Self> {
                checked($what, name, $max).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A namespace: `app` in `app.messages`.
    NamespaceId, "namespace name", NAME_BYTES_MAX;
    /// A table's name within its namespace.
    TableName, "table name", NAME_BYTES_MAX;
    /// A user.
    UserId, "user id", USER_ID_BYTES_MAX;
    /// A storage: where a table's cold tier lies.
    StorageId, "storage id", NAME_BYTES_MAX;
    /// A job, such as `FL-7f3a...`.
    JobId, "job id", NAME_BYTES_MAX;
}

/// Validates the name of a column. System column names are refused by
/// [`SystemColumns`](crate::system_columns::SystemColumns), not here.
pub fn column_name(name: &str) -> Result<Arc<str>> {
    checked("column name", name, NAME_BYTES_MAX)
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// A table, from CREATE to DROP. Never reused; a table created again under the name has another.
    TableId(u32);
    /// One life of a table's contents. CREATE and TRUNCATE draw a new one from one counter for the whole
    /// server, so it is never reused, names the table's hot keys, and grows along a directory's manifests.
    Incarnation(u32);
    /// A column within its table. Never reused within the table.
    ColumnId(u32);
    /// A version of a table's schema, from 1.
    SchemaVersion(u32);
    /// `_id`: the identity of a row across all its versions.
    RowId(i64);
    /// `_updated`: nanoseconds since 1970, version, commit sequence and resume cursor in one. Zero is before
    /// every commit.
    CommitTime(i64);
}

impl CommitTime {
    /// Before every commit.
    pub const ZERO: Self = Self(0);
    /// After every commit.
    pub const MAX: Self = Self(i64::MAX);
}

/// Whose rows: one user's, or everybody's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The one partition of a SHARED table.
    Shared,
    /// A user's partition of a USER or STREAM table.
    User(UserId),
}

impl Scope {
    /// The directory of the partition below its table: `shared`, or `user_` and the escaped user id.
    pub fn directory(&self) -> String {
        match self {
            Self::Shared => "shared".to_owned(),
            Self::User(user) => format!("user_{}", escape_component(user.as_str())),
        }
    }

    /// The user, if it is a user's.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Shared => None,
            Self::User(user) => Some(user),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

/// A table's full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRef {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its name there.
    pub table: TableName,
}

impl TableRef {
    /// Validates both parts.
    pub fn new(namespace: &str, table: &str) -> Result<Self> {
        Ok(Self { namespace: NamespaceId::new(namespace)?, table: TableName::new(table)? })
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.table)
    }
}

/// A partition: the unit of commit order, watermark, manifest and flush. The incarnation stands for the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    /// Which life of which table.
    pub incarnation: Incarnation,
    /// Whose rows.
    pub scope: Scope,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}/{}", self.incarnation, self.scope)
    }
}

/// Where a partition's batch files and manifest lie, relative to its storage: always
/// `<namespace>/<table>/<scope>`, each component escaped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionPath(String);

impl PartitionPath {
    /// The path of a table's partition.
    pub fn new(table: &TableRef, scope: &Scope) -> Self {
        Self(format!(
            "{}/{}/{}",
            escape_component(table.namespace.as_str()),
            escape_component(table.table.as_str()),
            scope.directory()
        ))
    }

    /// The path with `/` between its components, without one at either end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of a file in the partition's directory.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl fmt::Display for PartitionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest escaped component before a hash replaces its tail: file systems allow 255 bytes, and `user_`
/// and temporary suffixes come on top.
const COMPONENT_BYTES_MAX: usize = 200;

/// Makes any name a safe path component, injectively: ASCII letters, digits, `_` and `-` stand for themselves,
/// every other byte is `%` and two hex digits. What would be longer than file systems allow keeps its first
/// 120 bytes, then `~` and the SHA-256 of the whole.
pub fn escape_component(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    if escaped.len() > COMPONENT_BYTES_MAX {
        escaped.truncate(120);
        escaped.push('~');
        for byte in Sha256::digest(name.as_bytes()) {
            escaped.push_str(&format!("{byte:02x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
