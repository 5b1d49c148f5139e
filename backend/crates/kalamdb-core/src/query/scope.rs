//! The circumstances of one statement.

use std::sync::Arc;

use kalamdb_auth::policy::{self, Verdict, decide};
use kalamdb_auth::{impersonation, invalid_credentials};
use kalamdb_commons::ids::{NamespaceId, Scope, UserId};
use kalamdb_commons::schema::{Actor, Table, TableKind};
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::Asked;

use crate::access::{Access, right_on, sees_everything, sees_table};
use crate::catalog::Catalog;
use crate::commit::readers::ReadPoint;
use crate::dml::writes::WriteSet;
use crate::engine::Engine;
use crate::partition::Partition;
use crate::partition::lookup::PartitionRead;
use crate::stats::StatementStats;

/// Who a statement runs as, and who is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Whose partitions, rights, defaults and limits hold.
    pub(crate) subject: Actor,
    /// Who says so, if the statement runs AS USER.
    pub(crate) impersonator: Option<Actor>,
}

impl Caller {
    /// Somebody on their own behalf.
    pub(crate) fn own(actor: &Actor) -> Self {
        Self { subject: actor.clone(), impersonator: None }
    }

    /// Who is authenticated.
    pub(crate) fn actor(&self) -> &Actor {
        self.impersonator.as_ref().unwrap_or(&self.subject)
    }

    /// `actor` on behalf of the account that they call `named`.
    ///
    /// # Errors
    /// As `kalamdb_auth::impersonation::decide`. No table is looked at.
    pub(crate) fn acting_as(actor: &Actor, named: &str, catalog: &Catalog) -> Result<Self> {
        let account = UserId::new(named).ok().and_then(|id| catalog.user(&id).cloned());
        let account = account.filter(|account| account.is_active());
        let account = account.map(|account| Actor { user: account.id.clone(), role: account.role });
        let subject = impersonation::decide(actor, named, account)?;
        Ok(Self { subject, impersonator: Some(actor.clone()) })
    }
}

/// Who asks, where unqualified names are looked up, which moment is read, and what the statement has cost.
#[derive(Clone)]
pub(crate) struct StatementScope {
    pub(crate) engine: Arc<Engine>,
    pub(crate) caller: Caller,
    pub(crate) namespace: NamespaceId,
    pub(crate) point: Arc<ReadPoint>,
    /// What the transaction has written so far.
    pub(crate) writes: Option<Arc<WriteSet>>,
    pub(crate) stats: Arc<StatementStats>,
    /// The clock when it began: what has expired then is not seen, what has not is, however long it takes.
    pub(crate) now_ns: i64,
}

impl StatementScope {
    /// The catalog of the read point.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.point.catalog()
    }

    /// Whose partitions, rights, defaults and limits hold.
    pub(crate) fn subject(&self) -> &Actor {
        &self.caller.subject
    }

    /// The one answer for tables that are absent and tables that the actor may not see.
    pub(crate) fn not_found(&self, name: &str) -> Error {
        if sees_everything(self.caller.actor().role) {
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
        // IMPORTANT: by the catalog of the moment that is read: whoever waits until all moments from before a drop are
        // left knows that nobody is in the user's partitions any more.
        if self.catalog().user(&self.subject().user).is_some_and(|user| !user.is_active()) {
            return Err(invalid_credentials());
        }
        if let Some(impersonator) = &self.caller.impersonator
            && table.kind == TableKind::Shared
        {
            return match sees_table(impersonator.role, table) {
                true => Err(Error::invalid_input(impersonation::NOT_ON_SHARED)),
                false => Err(self.not_found(&table.name.to_string())),
            };
        }
        match decide(self.subject().role, right_on(table, access)) {
            Verdict::Allowed => Ok(()),
            Verdict::Hidden => Err(self.not_found(&table.name.to_string())),
            Verdict::Refused => Err(policy::refusal(right_on(table, access)).context(&table.name)),
        }
    }

    /// The scope of the subject in a table.
    pub(crate) fn scope_in(&self, table: &Table) -> Scope {
        match table.kind {
            TableKind::Shared => Scope::Shared,
            TableKind::User | TableKind::Stream => Scope::User(self.subject().user.clone()),
        }
    }

    /// Opens the subject's partition of a table at the statement's moment.
    pub(crate) async fn read(&self, table: &Table) -> Result<PartitionRead> {
        self.read_in(&self.engine.partitions().get(table, &self.scope_in(table))).await
    }

    /// Opens a partition at the statement's moment.
    pub(crate) async fn read_in(&self, partition: &Arc<Partition>) -> Result<PartitionRead> {
        let (view, asked) = partition.view_for(&self.point, self.engine.cold()).await?;
        let counter = match asked {
            Asked::Cache => &self.stats.manifest_cache_hits,
            Asked::Storage => &self.stats.manifest_cache_misses,
        };
        StatementStats::add(counter, 1);
        self.engine.close_surplus_partitions();
        let pending =
            self.writes.as_ref().and_then(|writes| writes.of(partition.id())).map(|own| Arc::new(own.clone()));
        Ok(PartitionRead {
            partition: partition.clone(),
            point: self.point.clone(),
            view,
            expired_through: partition.expired_through(self.now_ns),
            pending,
            stats: self.stats.clone(),
        })
    }
}
