//! BACKUP DATABASE and RESTORE DATABASE as statements: each is a job.

use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Backup, Restore};

use super::Engine;
use crate::backup::place::Place;
use crate::backup::{restore, write};
use crate::jobs::executors::backup::{self, BackupParams};
use crate::jobs::executors::restore::{Restore as Restoring, RestoreParams};
use crate::jobs::{JobEnd, JobHandle};
use crate::query::StatementScope;

impl Engine {
    /// BACKUP DATABASE: starts the job; with WAIT, answers when it is done.
    pub(crate) async fn backup_statement(&self, scope: &StatementScope, statement: &Backup) -> Result<String> {
        let namespace = NamespaceId::new(&statement.namespace)?;
        self.catalog().require_namespace(&namespace)?;
        // A place that is none is refused at once.
        Place::open(self, &statement.to, true)?;
        let params = BackupParams { namespace: namespace.clone(), to: statement.to.clone() };
        let job = self.submit_statement(scope, backup::Backup::NAME, &params, statement.wait).await?;
        if statement.wait {
            return Ok(format!("Backup of '{namespace}' completed: {}. Job ID: {job}", self.finished(&job).await?));
        }
        Ok(format!("Backup of '{namespace}' started. Job ID: {job}"))
    }

    /// What the job of a backup does.
    pub(crate) async fn back_up(&self, namespace: &NamespaceId, to: &str, job: &JobHandle) -> Result<JobEnd> {
        let engine = self.weak.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
        let place = Place::open(&engine, to, true)?;
        let (backup, copied) = write::backup(&engine, namespace, &place, job).await?;
        Ok(JobEnd::Completed(format!(
            "backup {} at commit time {}: {} table(s), {} partition(s), {} file(s) written, {} bytes, {} file(s) kept",
            backup.id,
            backup.commit_time,
            backup.tables.len(),
            backup.partitions.len(),
            copied.written,
            copied.bytes,
            copied.kept,
        )))
    }

    /// RESTORE DATABASE: starts the job; with WAIT, answers when it is done.
    pub(crate) async fn restore_statement(&self, scope: &StatementScope, statement: &Restore) -> Result<String> {
        let namespace = NamespaceId::new(&statement.namespace)?;
        Place::open(self, &statement.from, false)?;
        let params = RestoreParams { namespace: namespace.clone(), from: statement.from.clone() };
        // Tried once: whoever asked says whether it is still wanted.
        let job = self.submit_statement(scope, Restoring::NAME, &params, true).await?;
        if statement.wait {
            return Ok(format!("Restore of '{namespace}' completed: {}. Job ID: {job}", self.finished(&job).await?));
        }
        Ok(format!("Restore of '{namespace}' started. Job ID: {job}"))
    }

    /// What the job of a restore does.
    pub(crate) async fn restore_from(&self, namespace: &NamespaceId, from: &str, job: &JobHandle) -> Result<JobEnd> {
        let engine = self.weak.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
        let place = Place::open(&engine, from, false)?;
        let restored = restore::restore(&engine, namespace, &place, job).await?;
        Ok(JobEnd::Completed(format!(
            "backup {}: {} table(s), {} partition(s), {} row(s)",
            restored.backup, restored.tables, restored.partitions, restored.rows
        )))
    }
}
