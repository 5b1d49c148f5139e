//! The circumstances of one statement.

use std::sync::Arc;

use kalamdb_commons::ids::{NamespaceId, Scope};
use kalamdb_commons::schema::{AccessLevel, Actor, Role, Table, TableKind};
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::Asked;

use crate::catalog::Catalog;
use crate::commit::readers::ReadPoint;
use crate::dml::writes::WriteSet;
use crate::engine::Engine;
use crate::partition::lookup::PartitionRead;
use crate::stats::StatementStats;

/// Who asks, where unqualified names are looked up, which moment is read, and what the statement has cost.
#[derive(Clone)]
pub(crate) struct StatementScope {
    pub(crate) engine: Arc<Engine>,
    pub(crate) actor: Actor,
    pub(crate) namespace: NamespaceId,
    pub(crate) point: Arc<ReadPoint>,
    /// What the transaction has written so far.
    pub(crate) writes: Option<Arc<WriteSet>>,
    pub(crate) stats: Arc<StatementStats>,
}

/// What a statement wants of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl StatementScope {
    /// The catalog of the read point.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.point.catalog()
    }

    /// The one answer for tables that are absent and tables that the actor may not see.
    pub(crate) fn not_found(&self, name: &str) -> Error {
        if self.actor.role >= Role::Dba {
            Error::not_found(format!("table '{name}' does not exist"))
        } else {
            Error::not_found("Requested table is not available")
        }
    }

    /// A table by name, if the actor may use it so.
    pub(crate) fn table(&self, name: &kalamdb_sql::TableName, access: Access) -> Result<Arc<Table>> {
        let resolved = name.resolve(self.namespace.as_str())?;
        let table = self.catalog().table(&resolved).cloned().ok_or_else(|| self.not_found(&resolved.to_string()))?;
        self.check_access(&table, access)?;
        Ok(table)
    }

    /// Whether the actor may use a table so.
    pub(crate) fn check_access(&self, table: &Table, access: Access) -> Result<()> {
        if table.kind != TableKind::Shared {
            return Ok(());
        }
        let (reads, writes) = match table.options.access_level {
            AccessLevel::Public => (Role::User, Role::Service),
            AccessLevel::Private => (Role::Service, Role::Service),
            AccessLevel::Restricted => (Role::Dba, Role::Dba),
        };
        if self.actor.role < reads {
            return Err(self.not_found(&table.name.to_string()));
        }
        if access == Access::Write && self.actor.role < writes {
            return Err(Error::permission_denied(format!(
                "Permission denied: writing to {} needs the role {} or above",
                table.name,
                writes.as_str()
            )));
        }
        Ok(())
    }

    /// The scope of the actor in a table.
    pub(crate) fn scope_in(&self, table: &Table) -> Scope {
        match table.kind {
            TableKind::Shared => Scope::Shared,
            TableKind::User | TableKind::Stream => Scope::User(self.actor.user.clone()),
        }
    }

    /// Opens the actor's partition of a table at the statement's moment.
    pub(crate) async fn read(&self, table: &Table) -> Result<PartitionRead> {
        let partition = self.engine.partitions().get(table, &self.scope_in(table));
        let (view, asked) = partition.view_for(&self.point, self.engine.cold()).await?;
        let counter = match asked {
            Asked::Cache => &self.stats.manifest_cache_hits,
            Asked::Storage => &self.stats.manifest_cache_misses,
        };
        StatementStats::add(counter, 1);
        self.engine.close_surplus_partitions();
        let pending =
            self.writes.as_ref().and_then(|writes| writes.of(partition.id())).map(|own| Arc::new(own.clone()));
        Ok(PartitionRead { partition, point: self.point.clone(), view, pending, stats: self.stats.clone() })
    }
}
