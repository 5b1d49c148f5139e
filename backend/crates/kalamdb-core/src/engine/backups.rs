//! BACKUP DATABASE and RESTORE DATABASE as statements: each is a job.

use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Backup, Restore};
use serde_json::json;

use super::Engine;
use crate::backup::place::Place;
use crate::backup::{restore, write};
use crate::jobs::{JobEnd, JobHandle, JobKind};

impl Engine {
    /// BACKUP DATABASE: starts the job; with WAIT, answers when it is done.
    pub(crate) async fn backup_statement(&self, statement: &Backup) -> Result<String> {
        let namespace = NamespaceId::new(&statement.namespace)?;
        self.catalog().require_namespace(&namespace)?;
        // A place that is none is refused at once.
        Place::open(self, &statement.to, true)?;
        let parameters = json!({ "namespace": namespace, "to": statement.to });
        let (engine, to, name) = (self.weak.clone(), statement.to.clone(), namespace.clone());
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            engine.back_up(&name, &to, &job).await
        };
        let job = self.jobs.submit(JobKind::Backup, parameters, work).await?;
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
        let parameters = json!({ "namespace": namespace, "from": statement.from });
        let (engine, from, name) = (self.weak.clone(), statement.from.clone(), namespace.clone());
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            engine.restore_from(&name, &from, &job).await
        };
        let job = self.jobs.submit(JobKind::Restore, parameters, work).await?;
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
