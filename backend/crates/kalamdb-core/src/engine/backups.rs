//! BACKUP DATABASE and RESTORE DATABASE as statements: each is a job.

use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Backup, Restore};

use super::Engine;
use crate::backup::place::Place;
use crate::backup::{restore, write};
use crate::jobs::executors::backup::{self, BackupParams};
use crate::jobs::executors::restore::{Restore as Restoring, RestoreParams};
use crate::jobs::params::to_stored;
use crate::jobs::{JobEnd, JobHandle, Submission};

impl Engine {
    /// BACKUP DATABASE: starts the job; with WAIT, answers when it is done.
    pub(crate) async fn backup_statement(&self, statement: &Backup) -> Result<String> {
        let namespace = NamespaceId::new(&statement.namespace)?;
        self.catalog().require_namespace(&namespace)?;
        // A place that is none is refused at once.
        Place::open(self, &statement.to, true)?;
        let params = BackupParams { namespace: namespace.clone(), to: statement.to.clone() };
        let attempts_max = statement.wait.then_some(1);
        let submission = Submission { attempts_max, ..Submission::own(backup::Backup::NAME, to_stored(&params)) };
        let job = self.jobs.submit(submission).await?;
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
    pub(crate) async fn restore_statement(&self, statement: &Restore) -> Result<String> {
        let namespace = NamespaceId::new(&statement.namespace)?;
        Place::open(self, &statement.from, false)?;
        let params = RestoreParams { namespace: namespace.clone(), from: statement.from.clone() };
        let submission = Submission { attempts_max: Some(1), ..Submission::own(Restoring::NAME, to_stored(&params)) };
        let job = self.jobs.submit(submission).await?;
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
