//! Jobs that somebody asks for: by `POST /v1/api/jobs`, by STORAGE FLUSH and STORAGE COMPACT. And KILL JOB.

use std::ops::Range;
use std::sync::Arc;

use kalamdb_auth::policy::{self, Right};
use kalamdb_commons::ids::{JobId, NamespaceId, Scope, TableRef, UserId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Chore, Compact, Flush, StorageTarget, Tidy};
use serde_json::json;

use super::Engine;
use crate::access::Access;
use crate::api::JobRequest;
use crate::audit::{Entry, Origin, describe};
use crate::jobs::executors::compaction::{self, Compaction, CompactionParams, CompactionReason, NOTHING};
use crate::jobs::executors::flush::{self, FlushParams, FlushReason};
use crate::jobs::executors::manifest_eviction::ManifestEviction;
use crate::jobs::executors::orphan_files::OrphanFiles;
use crate::jobs::params::{JobParams, to_stored};
use crate::jobs::{JobStatus, Submission};
use crate::query::StatementScope;

impl Engine {
    /// Takes a job in for somebody. Returns its id and state when it is recorded and in the audit log.
    ///
    /// # Errors
    /// `PermissionDenied` to everybody who may not have jobs done; `InvalidParameter` for a kind that there is not, and
    /// for parameters that are wrong, with what they must be; `NotFound` for what they name and is not there;
    /// `Overloaded` if too many wait; `Conflict` if the key was used for another job.
    pub async fn submit_job(&self, request: JobRequest) -> Result<(JobId, JobStatus)> {
        let JobRequest { actor, job_type, params, idempotency_key, request_id, address } = request;
        let origin = Origin { actor: &actor, request_id: &request_id, address: address.as_deref() };
        let entry = Entry::new(&origin, self.clock().now_ns(), "SUBMIT JOB", job_type.clone());
        if let Err(error) = policy::require(actor.role, Right::Jobs) {
            return Err(self.audit_failure(entry, error).await);
        }
        self.refuse_dropped(&actor)?;
        let submitted = self.submit_for(&actor.user, job_type, params, idempotency_key).await;
        match submitted {
            Ok(job) => {
                let record = self.jobs().record(&job)?;
                // What the job is about: parameters hold names and numbers, never values of rows.
                let object = describe::shortened(format!("{} {}", record.job_type, record.parameters));
                self.audit(vec![Entry { object, ..entry }]).await?;
                Ok((job, record.status))
            }
            Err(error) => Err(self.audit_failure(entry, error).await),
        }
    }

    async fn submit_for(
        &self,
        user: &UserId,
        kind: String,
        params: serde_json::Value,
        idempotency_key: Option<String>,
    ) -> Result<JobId> {
        let about = self.jobs().kinds()?.require(&kind)?.about();
        if !about.is_submittable {
            return Err(Error::invalid_parameter(format!("jobs of type \"{kind}\" are submitted by the server alone")));
        }
        let submitted_by = Some(user.clone());
        let submission = Submission { kind, params, submitted_by, idempotency_key, attempts_max: None };
        self.jobs().submit(submission).await
    }

    /// Ends a job.
    pub(crate) async fn kill_job(&self, job: &str) -> Result<String> {
        let status = self.jobs().cancel(&JobId::new(job)?).await?;
        Ok(format!("Job '{job}' was {} and has been told to stop", status.as_str()))
    }

    /// Looks at the clock for jobs that are due, at once: for tests, which move it.
    pub async fn tick(&self) {
        self.jobs().tick().await;
    }

    /// Has a job done that a statement asks for. Whoever waits for it sees it fail instead of being tried again.
    pub(super) async fn submit_statement<P: JobParams>(
        &self,
        scope: &StatementScope,
        kind: &str,
        params: &P,
        wait: bool,
    ) -> Result<JobId> {
        let submission = Submission {
            submitted_by: Some(scope.caller.actor().user.clone()),
            attempts_max: wait.then_some(1),
            ..Submission::own(kind, to_stored(params))
        };
        self.jobs().submit(submission).await
    }

    /// Waits for a job and returns its message.
    pub(super) async fn finished(&self, job: &JobId) -> Result<String> {
        let record = self.jobs().wait(job).await?;
        match record.status {
            JobStatus::Completed | JobStatus::Skipped => Ok(record.message),
            _ => Err(Error::execution(format!("job {job} {}: {}", record.status.as_str(), record.message))),
        }
    }

    /// STORAGE FLUSH: starts a job per table, or says that there is nothing to do; with WAIT, answers when done.
    pub(crate) async fn flush_statement(&self, scope: &StatementScope, flush: &Flush) -> Result<String> {
        let mut jobs = Vec::new();
        let tables = tables_meant(scope, &flush.target)?;
        for table in &tables {
            jobs.extend(self.submit_flush(scope, table, flush.wait).await?);
        }
        let one = match (&flush.target, &tables[..]) {
            (StorageTarget::Table(_), [table]) => Some(&table.name),
            _ => None,
        };
        match (one, &jobs[..]) {
            (Some(table), []) => Ok(format!("Storage flush skipped: no pending writes for table '{table}'")),
            (None, []) => Ok("Storage flush skipped: no pending writes for any table".to_owned()),
            (Some(table), [job, ..]) if flush.wait => {
                let message = self.finished(job).await?;
                Ok(format!("Storage flush completed for table '{table}': {message}. Job ID: {job}"))
            }
            (Some(table), [job, ..]) => Ok(format!("Storage flush started for table '{table}'. Job ID: {job}")),
            (None, jobs) => {
                let ids = jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                if flush.wait {
                    for job in jobs {
                        self.finished(job).await?;
                    }
                }
                let done = if flush.wait { "completed" } else { "started" };
                Ok(format!("Storage flush {done} for {} table(s). Job IDs: [{ids}]", jobs.len()))
            }
        }
    }

    /// Queues the flush of a table, if it has anything to flush.
    async fn submit_flush(&self, scope: &StatementScope, table: &Arc<Table>, wait: bool) -> Result<Option<JobId>> {
        let has_pending = self.partitions().of(table.incarnation).iter().any(flush::is_flushable);
        if !table.kind.has_history() || !has_pending {
            return Ok(None);
        }
        let params = FlushParams::table(table, FlushReason::Statement);
        self.submit_statement(scope, flush::Flush::NAME, &params, wait).await.map(Some)
    }

    /// STORAGE COMPACT: starts a job, or says that there is nothing to do; with WAIT, answers when done.
    pub(crate) async fn compact_statement(&self, scope: &StatementScope, compact: &Compact) -> Result<String> {
        let tables = tables_meant(scope, &compact.target)?;
        let mut params = CompactionParams { reason: Some(CompactionReason::Statement), ..CompactionParams::default() };
        let what = match (&compact.target, &tables[..]) {
            (StorageTarget::Table(_), [table]) => {
                params.namespace = Some(table.name.namespace.clone());
                params.table = Some(table.name.table.clone());
                format!("table '{}'", table.name)
            }
            (StorageTarget::Namespace(name), _) => {
                params.namespace = Some(NamespaceId::new(name)?);
                format!("namespace '{name}'")
            }
            _ => "all tables".to_owned(),
        };
        let mut partitions = tables.iter().flat_map(|table| self.partitions().of(table.incarnation));
        if !partitions.any(|partition| compaction::has_batches(&partition)) {
            return Ok(format!("Storage compaction skipped: nothing to compact for {what}"));
        }
        let job = self.submit_statement(scope, Compaction::NAME, &params, compact.wait).await?;
        if compact.wait {
            let message = self.finished(&job).await?;
            return Ok(format!("Storage compaction completed for {what}: {message}. Job ID: {job}"));
        }
        Ok(format!("Storage compaction started for {what}. Job ID: {job}"))
    }

    /// STORAGE EVICT MANIFESTS, STORAGE REMOVE ORPHANS: starts the job that runs by itself too; with WAIT, answers when
    /// done. Orphans are looked for everywhere.
    pub(crate) async fn tidy_statement(&self, tidy: Tidy) -> Result<String> {
        let (what, kind) = match tidy.chore {
            Chore::EvictManifests => ("Manifest eviction", ManifestEviction::NAME),
            Chore::RemoveOrphans => ("Orphan removal", OrphanFiles::NAME),
        };
        let attempts_max = tidy.wait.then_some(1);
        let job = self.jobs().submit(Submission { attempts_max, ..Submission::own(kind, json!({})) }).await?;
        if tidy.wait {
            return Ok(format!("{what} completed: {}. Job ID: {job}", self.finished(&job).await?));
        }
        Ok(format!("{what} started. Job ID: {job}"))
    }

    /// Compacts some neighbouring batches of a partition now, by their places among the active ones: for whoever
    /// knows better than the settings. Says whether there was anything to do.
    ///
    /// # Errors
    /// Not found if there is no such table; else as its job fails.
    pub async fn compact_batches(&self, table: &TableRef, scope: &Scope, batches: Range<usize>) -> Result<bool> {
        let params = CompactionParams {
            namespace: Some(table.namespace.clone()),
            table: Some(table.table.clone()),
            user_id: scope.user().cloned(),
            first_batch: Some(batches.start as u64),
            batches: Some(batches.len() as u64),
            reason: Some(CompactionReason::Batches),
        };
        let submission = Submission { attempts_max: Some(1), ..Submission::own(Compaction::NAME, to_stored(&params)) };
        let job = self.jobs().submit(submission).await?;
        self.finished(&job).await.map(|message| message != NOTHING)
    }
}

/// The tables that a statement about storage means.
pub(super) fn tables_meant(scope: &StatementScope, target: &StorageTarget) -> Result<Vec<Arc<Table>>> {
    let within = match target {
        StorageTarget::Table(name) => return Ok(vec![scope.table(name, Access::Write)?]),
        StorageTarget::Namespace(name) => Some(NamespaceId::new(name)?),
        StorageTarget::All => None,
    };
    if let Some(namespace) = &within {
        scope.catalog().require_namespace(namespace)?;
    }
    let wanted = |table: &&Arc<Table>| within.as_ref().is_none_or(|namespace| table.name.namespace == *namespace);
    Ok(scope.catalog().tables().filter(wanted).cloned().collect())
}
