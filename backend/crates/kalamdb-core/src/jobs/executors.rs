//! The kinds of jobs there are, a file each. A new one is a file here, its `mod`, and its line in [`all`]; the page
//! `docs/jobs.md` shows how.

mod answer_retention;
mod audit_retention;
pub(crate) mod backup;
pub(crate) mod compaction;
pub(crate) mod content_removal;
mod deleted_row_retention;
pub(crate) mod flush;
mod integrity_check;
mod job_history;
pub(crate) mod manifest_eviction;
pub(crate) mod manifest_rebuild;
pub(crate) mod orphan_files;
pub(crate) mod restore;
mod stream_eviction;
pub(crate) mod user_purge;

use std::sync::Arc;

use kalamdb_commons::ids::{NamespaceId, TableName, TableRef, UserId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};

use super::kind::{Kinds, Target};
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::partition::Partition;

/// All kinds.
pub(crate) fn all(engine: &Engine) -> Kinds {
    let mut kinds = Kinds::default();
    kinds.add(answer_retention::AnswerRetention, engine);
    kinds.add(audit_retention::AuditRetention, engine);
    kinds.add(backup::Backup, engine);
    kinds.add(compaction::Compaction, engine);
    kinds.add(content_removal::ContentRemoval, engine);
    kinds.add(deleted_row_retention::DeletedRowRetention, engine);
    kinds.add(flush::Flush, engine);
    kinds.add(integrity_check::IntegrityCheck, engine);
    kinds.add(job_history::JobHistory, engine);
    kinds.add(manifest_eviction::ManifestEviction, engine);
    kinds.add(manifest_rebuild::ManifestRebuild, engine);
    kinds.add(orphan_files::OrphanFiles, engine);
    kinds.add(restore::Restore, engine);
    kinds.add(stream_eviction::StreamEviction, engine);
    kinds.add(user_purge::UserPurge, engine);
    kinds
}

impl Target {
    /// Of these.
    fn of(namespace: &Option<NamespaceId>, table: &Option<TableName>, user: &Option<UserId>) -> Self {
        Self { namespace: namespace.clone(), table: table.clone(), user: user.clone(), ..Self::default() }
    }

    /// Refuses a table without its namespace, and names of what is not there.
    fn check(&self, catalog: &Catalog) -> Result<()> {
        match (&self.namespace, &self.table) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Error::invalid_parameter(
                "field \"namespace\" is missing: with \"table\" it must be the name of a namespace, such as \"app\"",
            )),
            (Some(namespace), None) => catalog.require_namespace(namespace).map(drop),
            (Some(namespace), Some(table)) => {
                let name = TableRef { namespace: namespace.clone(), table: table.clone() };
                let absent = || Error::not_found(format!("table '{name}' does not exist"));
                catalog.table(&name).map(drop).ok_or_else(absent)
            }
        }
    }

    /// The tables that are meant, by name.
    fn tables(&self, catalog: &Catalog) -> Vec<Arc<Table>> {
        let is_meant = |table: &&Arc<Table>| {
            self.namespace.as_ref().is_none_or(|namespace| *namespace == table.name.namespace)
                && self.table.as_ref().is_none_or(|name| *name == table.name.table)
        };
        catalog.tables().filter(is_meant).cloned().collect()
    }

    /// The partitions of a table that are meant, by scope.
    fn partitions(&self, engine: &Engine, table: &Table) -> Vec<Arc<Partition>> {
        let mut partitions = engine.partitions().of(table.incarnation);
        partitions.retain(|partition| match &self.user {
            Some(user) => partition.id().scope.user() == Some(user),
            None => true,
        });
        partitions.sort_by(|a, b| a.id().scope.cmp(&b.id().scope));
        partitions
    }

    /// All partitions that are meant, each with its table.
    fn all_partitions(&self, engine: &Engine) -> Vec<(Arc<Table>, Arc<Partition>)> {
        let with_table = |table: Arc<Table>| {
            let partitions = self.partitions(engine, &table);
            partitions.into_iter().map(move |partition| (table.clone(), partition))
        };
        self.tables(&engine.catalog()).into_iter().flat_map(with_table).collect()
    }
}

#[cfg(test)]
mod tests;
