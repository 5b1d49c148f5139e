//! [`Catalog`]: everything that exists, at one moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{Incarnation, NamespaceId, StorageId, TableId, TableName, TableRef, UserId};
use kalamdb_commons::schema::{Index, Table};
use serde::{Deserialize, Serialize};

use super::model::{Dropped, Namespace, StorageDefinition, User, View};

/// The numbers that are given once, and the version. One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) version: u64,
    pub(super) next_table: TableId,
    pub(super) next_incarnation: Incarnation,
}

impl Default for Counters {
    fn default() -> Self {
        Self { version: 0, next_table: TableId(1), next_incarnation: Incarnation(1) }
    }
}

/// Everything that exists, at one moment. Cloning copies a few pointers; an edit copies the maps that it changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    pub(super) counters: Counters,
    pub(super) namespaces: Arc<BTreeMap<NamespaceId, Arc<Namespace>>>,
    pub(super) tables: Arc<BTreeMap<TableRef, Arc<Table>>>,
    pub(super) by_incarnation: Arc<BTreeMap<Incarnation, Arc<Table>>>,
    pub(super) views: Arc<BTreeMap<TableRef, Arc<View>>>,
    pub(super) users: Arc<BTreeMap<UserId, Arc<User>>>,
    pub(super) dropped: Arc<BTreeMap<Incarnation, Arc<Dropped>>>,
    pub(super) storages: Arc<BTreeMap<StorageId, Arc<StorageDefinition>>>,
}

impl Catalog {
    /// Grows by one with each edit. Cached plans are good for the version that they were made at.
    pub fn version(&self) -> u64 {
        self.counters.version
    }

    /// The id that the next table gets.
    pub fn next_table(&self) -> TableId {
        self.counters.next_table
    }

    /// The incarnation that the next CREATE, DROP or TRUNCATE draws.
    pub fn next_incarnation(&self) -> Incarnation {
        self.counters.next_incarnation
    }

    /// A namespace.
    pub fn namespace(&self, id: &NamespaceId) -> Option<&Arc<Namespace>> {
        self.namespaces.get(id)
    }

    /// A table.
    pub fn table(&self, name: &TableRef) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// The table that an incarnation is the current life of.
    pub fn table_by_incarnation(&self, incarnation: Incarnation) -> Option<&Arc<Table>> {
        self.by_incarnation.get(&incarnation)
    }

    /// A view.
    pub fn view(&self, name: &TableRef) -> Option<&Arc<View>> {
        self.views.get(name)
    }

    /// A user, dropped ones included: ask [`User::is_active`].
    pub fn user(&self, id: &UserId) -> Option<&Arc<User>> {
        self.users.get(id)
    }

    /// All namespaces, by name.
    pub fn namespaces(&self) -> impl ExactSizeIterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// All tables, by name.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// The tables of a namespace, by name.
    pub fn tables_in<'a>(&'a self, namespace: &NamespaceId) -> impl Iterator<Item = &'a Arc<Table>> + use<'a> {
        within(&self.tables, namespace)
    }

    /// All views, by name.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &Arc<View>> {
        self.views.values()
    }

    /// The views of a namespace, by name.
    pub fn views_in<'a>(&'a self, namespace: &NamespaceId) -> impl Iterator<Item = &'a Arc<View>> + use<'a> {
        within(&self.views, namespace)
    }

    /// All users, dropped ones included, by id.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// A storage that SQL made.
    pub fn storage(&self, id: &StorageId) -> Option<&Arc<StorageDefinition>> {
        self.storages.get(id)
    }

    /// All storages that SQL made, by id.
    pub fn storages(&self) -> impl ExactSizeIterator<Item = &Arc<StorageDefinition>> {
        self.storages.values()
    }

    /// Contents that wait to be removed, oldest life first.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = &Arc<Dropped>> {
        self.dropped.values()
    }

    /// An index by its name within a namespace, with its table.
    pub fn index(&self, namespace: &NamespaceId, name: &str) -> Option<(&Arc<Table>, &Index)> {
        within(&self.tables, namespace)
            .find_map(|table| table.indexes.iter().find(|index| index.name == name).map(|index| (table, index)))
    }

    /// A table that must exist.
    pub fn require_table(&self, name: &TableRef) -> Result<&Arc<Table>> {
        self.table(name).ok_or_else(|| Error::not_found(format!("table '{name}' does not exist")))
    }

    /// A namespace that must exist.
    pub fn require_namespace(&self, id: &NamespaceId) -> Result<&Arc<Namespace>> {
        self.namespace(id).ok_or_else(|| Error::not_found(format!("namespace '{id}' does not exist")))
    }
}

/// The entries of a map of full names that lie in one namespace: `TableRef` orders by namespace first.
fn within<'a, T>(map: &'a BTreeMap<TableRef, T>, namespace: &NamespaceId) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let namespace = namespace.clone();
    let first = TableName::new("\u{20}").unwrap_or_else(|_| unreachable!("a valid name"));
    let start = TableRef { namespace: namespace.clone(), table: first };
    map.range((Bound::Included(start), Bound::Unbounded))
        .take_while(move |(name, _)| name.namespace == namespace)
        .map(|(_, value)| value)
}
