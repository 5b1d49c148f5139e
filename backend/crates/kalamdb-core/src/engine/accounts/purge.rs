//! Removing what a dropped user left, when its grace is over: every partition, and then the account itself.
//!
//! Until then the name stays taken, so that nobody gets rows that somebody else wrote; afterwards it is free, and an
//! account that is created under it begins with nothing. The account goes last: whatever a crash interrupts is taken up
//! again, because the account is still there and still due.
//!
//! Nobody writes to the partitions meanwhile. Statements of a dropped user are refused, and one that began before the
//! drop has ended: a user is not due before the time that a statement may run, or hold its snapshot, is over.
//!
//! That it begins and that it is done is in the audit log, each in the commit that makes it so.

use std::sync::Arc;

use kalamdb_auth::invalid_credentials;
use kalamdb_commons::ids::{Incarnation, Scope, UserId};
use kalamdb_commons::schema::{Actor, Table, TableKind};
use kalamdb_commons::{Error, Result};
use kalamdb_store::keys::{self, PartitionRecord};

use crate::audit::Entry;
use crate::catalog::{Catalog, Draft, User};
use crate::engine::Engine;
use crate::jobs::JobHandle;
use crate::jobs::executors::user_purge::UserPurge;

impl Engine {
    /// Queues the purge of each dropped user whose grace is over, unless it is queued already. Returns how many were.
    ///
    /// # Errors
    /// If the job cannot be queued.
    pub async fn purge_dropped_users(&self) -> Result<usize> {
        let kind = self.jobs.kinds()?.require(UserPurge::NAME)?;
        Ok(self.jobs.submit_due(kind.as_ref()).await)
    }

    /// The dropped users whose grace is over.
    pub(crate) fn users_to_purge(&self) -> Vec<UserId> {
        let due_since_ms = self.purge_due_since_ms();
        let is_due =
            |user: &&Arc<User>| user.deleted_at_ms.is_some_and(|deleted_ms| deleted_ms <= due_since_ms || user.erase);
        self.catalog().users().filter(is_due).map(|user| user.id.clone()).collect()
    }

    /// Who was dropped at or before this is due.
    fn purge_due_since_ms(&self) -> i64 {
        let limits = &self.settings.limits;
        let running_ms = limits.statement_timeout_seconds.max(limits.snapshot_age_max_seconds).saturating_mul(1_000);
        let grace_ms = self.settings.auth.dropped_user_hours.saturating_mul(3_600_000);
        self.clock.now_ms().saturating_sub(i64::try_from(grace_ms.saturating_add(running_ms)).unwrap_or(i64::MAX))
    }

    /// Removes everything of a dropped user. Returns how many partitions and files.
    pub(crate) async fn purge(&self, user: &UserId, job: &JobHandle) -> Result<(usize, usize)> {
        let Some(successor) = self.begin_purge(user, job).await? else { return Ok((0, 0)) };
        fail::fail_point!("purge::after_begin");
        let (mut partitions, mut files) = (0, 0);
        let catalog = self.catalog();
        let is_erased = catalog.user(user).is_some_and(|user| user.erase);
        for table in catalog.tables().filter(|table| table.kind != TableKind::Shared) {
            job.check()?;
            if let Some(removed) = self.purge_partition(table, user, successor).await? {
                partitions += 1;
                files += removed;
                job.progress(0, 0);
            }
        }
        if is_erased {
            // IMPORTANT: before the account goes. Nobody looks for what is left of a user who is not there.
            self.forget_answers_of(user).await?;
        }
        self.edit_accounts(self.purge_entry("PURGE USER", user, job)?, |catalog| {
            Ok(dropped(catalog, user).map(|user| {
                let mut draft = Draft::new(catalog);
                draft.delete_user(&user.id);
                draft.finish("user purged")
            }))
        })
        .await?;
        fail::fail_point!("purge::after_account");
        self.usage.forget(user);
        if is_erased {
            self.rewrite_store().await?;
        }
        Ok((partitions, files))
    }

    /// The incarnation under which the empty manifests are published: the same however often the purge is begun.
    async fn begin_purge(&self, user: &UserId, job: &JobHandle) -> Result<Option<Incarnation>> {
        self.edit_accounts(self.purge_entry("PURGE USER BEGINS", user, job)?, |catalog| {
            let begun = dropped(catalog, user).filter(|user| user.purge_life.is_none());
            Ok(begun.map(|user| {
                let mut draft = Draft::new(catalog);
                let purge_life = Some(draft.draw_incarnation());
                draft.put_user(User { purge_life, ..User::clone(user) });
                draft.finish("purge begun")
            }))
        })
        .await?;
        Ok(dropped(&self.catalog(), user).and_then(|user| user.purge_life))
    }

    fn purge_entry(&self, kind: &str, user: &UserId, job: &JobHandle) -> Result<Vec<Entry>> {
        let entry = Entry::of_the_server(self.clock.now_ns(), kind, user.to_string())?;
        Ok(vec![entry.in_request(job.id().as_str())])
    }

    pub(super) async fn purge_partition(
        &self,
        table: &Table,
        user: &UserId,
        successor: Incarnation,
    ) -> Result<Option<usize>> {
        let partition = self.partitions.get(table, &Scope::User(user.clone()));
        let _maintenance = partition.maintain().await;
        let key = keys::partition_record(partition.keys());
        let stored = self.committer.readers().newest().snapshot.get(&key).await?;
        let mut files = None;
        if let Some(stored) = stored {
            // IMPORTANT: before anything is removed: who comes to read the partition finds it empty, and neither reads a
            // manifest that is gone nor writes the record again.
            partition.emptied(self.published_through());
            let removed = match PartitionRecord::decode(&stored)?.reserved_batch {
                0 => 0,
                _ => self.purge_cold(partition.spec(), successor).await?,
            };
            fail::fail_point!("purge::after_cold");
            self.remove_hot(partition.keys()).await?;
            fail::fail_point!("purge::after_hot");
            // IMPORTANT: last of the partition: without it nobody would look for the rest.
            self.committer.records(Vec::new(), vec![key]).await?;
            fail::fail_point!("purge::after_record");
            files = Some(removed);
        }
        self.partitions.forget_one(partition.id());
        Ok(files)
    }

    async fn purge_cold(&self, spec: &kalamdb_filestore::PartitionSpec, successor: Incarnation) -> Result<usize> {
        let removal = self.remove_cold(spec, successor).await?;
        if removal.held.is_empty() {
            return Ok(removal.removed.len());
        }
        // Somebody reads over all users. The account stays, so the purge begins again, and finds these files.
        Err(Error::overloaded(format!(
            "{} file(s) of {spec} are still read; the purge is tried again",
            removal.held.len()
        )))
    }

    /// Refuses what is still to be done for somebody who was dropped meanwhile.
    pub(crate) fn refuse_dropped(&self, actor: &Actor) -> Result<()> {
        match dropped(&self.catalog(), &actor.user) {
            Some(_) => Err(invalid_credentials()),
            None => Ok(()),
        }
    }
}

fn dropped<'a>(catalog: &'a Catalog, user: &UserId) -> Option<&'a Arc<User>> {
    catalog.user(user).filter(|user| !user.is_active())
}
