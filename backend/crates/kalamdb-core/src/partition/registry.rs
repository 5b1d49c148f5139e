//! The partitions in memory, by table incarnation and scope.

use std::sync::Arc;

use dashmap::DashMap;
use kalamdb_commons::Result;
use kalamdb_commons::ids::{Incarnation, PartitionId, Scope};
use kalamdb_commons::schema::Table;
use kalamdb_store::Snapshot;
use kalamdb_store::keys::{self, PartitionRecord};

use super::{Partition, SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};
use crate::catalog::Catalog;

/// All partitions that have been used since the start, or that had rows before it.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    by_id: DashMap<PartitionId, Arc<Partition>>,
}

impl Partitions {
    /// Finds every partition that was ever written to, and counts its hot rows.
    pub(crate) async fn recover(snapshot: &dyn Snapshot, catalog: &Catalog) -> Result<Self> {
        let partitions = Self::default();
        let prefix = keys::all_partition_records_prefix();
        let end = keys::prefix_end(&prefix);
        let mut next = Some(prefix);
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
            for (key, value) in &page.entries {
                let id = keys::partition_of(key)?;
                let Some(table) = catalog.table_by_incarnation(id.incarnation) else { continue };
                let record = PartitionRecord::decode(value)?;
                let partition = Partition::new(table, &id.scope, Some(record));
                partition.recover_hot(snapshot).await?;
                partitions.by_id.insert(id, Arc::new(partition));
            }
            next = page.next;
        }
        Ok(partitions)
    }

    /// The partition of a table and a scope.
    pub(crate) fn get(&self, table: &Table, scope: &Scope) -> Arc<Partition> {
        let id = PartitionId { incarnation: table.incarnation, scope: scope.clone() };
        if let Some(found) = self.by_id.get(&id) {
            return found.clone();
        }
        self.by_id.entry(id).or_insert_with(|| Arc::new(Partition::new(table, scope, None))).clone()
    }

    /// The partition of a life of a table and a scope, if it has been used or had rows.
    pub(crate) fn find(&self, incarnation: Incarnation, scope: &Scope) -> Option<Arc<Partition>> {
        self.by_id.get(&PartitionId { incarnation, scope: scope.clone() }).map(|found| found.clone())
    }

    /// The partitions of one life of a table.
    pub(crate) fn of(&self, incarnation: Incarnation) -> Vec<Arc<Partition>> {
        let of = self.by_id.iter().filter(|entry| entry.key().incarnation == incarnation);
        of.map(|entry| entry.value().clone()).collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.by_id.iter().map(|entry| entry.value().clone()).collect()
    }

    /// The bytes of all current hot rows.
    pub(crate) fn hot_bytes(&self) -> u64 {
        self.by_id.iter().map(|entry| entry.value().hot().bytes).sum()
    }

    /// Forgets the partitions of a life that has ended.
    pub(crate) fn forget(&self, incarnation: Incarnation) {
        self.by_id.retain(|id, _| id.incarnation != incarnation);
    }
}
