//! Which partition's files are meant.

use kalamdb_commons::ids::{Incarnation, PartitionPath, Scope, StorageId, TableId, TableRef};

/// A partition as the cold tier needs it: where its directory is and which life of the table is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionSpec {
    /// Where its files lie.
    pub storage: StorageId,
    /// The table's name: names the directory.
    pub table: TableRef,
    /// The table.
    pub table_id: TableId,
    /// The life of the table's contents that the catalog names. Files of another one are not this table's data.
    pub incarnation: Incarnation,
    /// Whose partition.
    pub scope: Scope,
}

impl PartitionSpec {
    /// The partition's directory.
    pub fn path(&self) -> PartitionPath {
        PartitionPath::new(&self.table, &self.scope)
    }
}

impl std::fmt::Display for PartitionSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} (incarnation {})", self.scope, self.table, self.incarnation)
    }
}
