//! The partitions in memory, by table incarnation and scope.

use std::sync::Arc;

use dashmap::DashMap;
use kalamdb_commons::Result;
use kalamdb_commons::ids::{Incarnation, PartitionId, Scope};
use kalamdb_commons::schema::Table;
use kalamdb_store::Snapshot;
use kalamdb_store::keys::{self, PartitionRecord};

use super::births::Births;
use super::{HotTotal, Partition, SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};
use crate::catalog::Catalog;

/// All partitions that have been used since the start, or that had rows before it. What a statement asks for costs the
/// same however many there are.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    by_life: DashMap<Incarnation, Arc<Scopes>>,
    hot: Arc<HotTotal>,
    births: Births,
}

/// The partitions of one life of a table.
type Scopes = DashMap<Scope, Arc<Partition>>;

impl Partitions {
    /// Finds every partition that was ever written to, and counts its hot rows.
    pub(crate) async fn recover(snapshot: &dyn Snapshot, catalog: &Catalog) -> Result<Self> {
        let partitions = Self { births: Births::recover(snapshot).await?, ..Self::default() };
        let prefix = keys::all_partition_records_prefix();
        let end = keys::prefix_end(&prefix);
        let mut next = Some(prefix);
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
            for (key, value) in &page.entries {
                let id = keys::partition_of(key)?;
                let Some(table) = catalog.table_by_incarnation(id.incarnation) else { continue };
                let record = PartitionRecord::decode(value)?;
                let partition = Partition::new(table, &id.scope, Some(record), &partitions.hot);
                partition.recover_hot(snapshot).await?;
                partitions.scopes(id.incarnation).insert(id.scope, Arc::new(partition));
            }
            next = page.next;
        }
        Ok(partitions)
    }

    /// Since when each life of a table lasts.
    pub(crate) fn births(&self) -> &Births {
        &self.births
    }

    fn scopes(&self, incarnation: Incarnation) -> Arc<Scopes> {
        if let Some(found) = self.by_life.get(&incarnation) {
            return found.clone();
        }
        self.by_life.entry(incarnation).or_default().clone()
    }

    /// The partition of a table and a scope.
    pub(crate) fn get(&self, table: &Table, scope: &Scope) -> Arc<Partition> {
        let scopes = self.scopes(table.incarnation);
        if let Some(found) = scopes.get(scope) {
            return found.clone();
        }
        let made = || Arc::new(Partition::new(table, scope, None, &self.hot));
        scopes.entry(scope.clone()).or_insert_with(made).clone()
    }

    /// The partition of a life of a table and a scope, if it has been used or had rows.
    pub(crate) fn find(&self, incarnation: Incarnation, scope: &Scope) -> Option<Arc<Partition>> {
        self.by_life.get(&incarnation)?.get(scope).map(|found| found.clone())
    }

    /// The partitions of one life of a table.
    pub(crate) fn of(&self, incarnation: Incarnation) -> Vec<Arc<Partition>> {
        let scopes = self.by_life.get(&incarnation).map(|scopes| scopes.clone());
        scopes.map_or_else(Vec::new, |scopes| scopes.iter().map(|entry| entry.value().clone()).collect())
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let lives: Vec<Incarnation> = self.by_life.iter().map(|life| *life.key()).collect();
        lives.into_iter().flat_map(|life| self.of(life)).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_life.iter().map(|scopes| scopes.value().len()).sum()
    }

    /// What the hot tier holds of all of them together.
    pub(crate) fn hot(&self) -> &HotTotal {
        &self.hot
    }

    /// Forgets a partition that was emptied for good.
    pub(crate) fn forget_one(&self, id: &PartitionId) {
        if let Some(scopes) = self.by_life.get(&id.incarnation).map(|scopes| scopes.clone()) {
            scopes.remove(&id.scope);
        }
    }

    /// Forgets the partitions of a life that has ended.
    pub(crate) fn forget(&self, incarnation: Incarnation) {
        self.by_life.remove(&incarnation);
    }
}
