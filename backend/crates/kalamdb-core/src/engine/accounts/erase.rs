//! ERASE USER: an account with everything that it wrote, out of every tier, file, cache and index, and out of the bytes of
//! the store's files.
//!
//! It begins with one commit, after which the account cannot log in, nobody acts for it, and its address, password hash
//! and limits are gone. Statements that began before are waited for. Then the partitions go as in a purge, with files that
//! no manifest names; the answers that were kept for repeated requests, its own and those of accounts that may act for
//! others; the account; and last the store writes all its files anew, so that nothing that was removed is left in them.
//!
//! What interrupts it does not undo it: the purge of dropped users takes an erased one up at once, without its grace, and
//! ends as this does. What stays is the id: in the audit log, and in the names of the user's directories, whose empty
//! manifests keep the numbering of files.

use std::time::Duration;

use arrow::array::RecordBatch;
use kalamdb_auth::policy::{Right, Verdict, decide};
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{CommitTime, Incarnation, Scope, UserId};
use kalamdb_commons::schema::{Actor, Table, TableKind};
use kalamdb_commons::{Error, ErrorKind, Result};

use super::ROOT;
use crate::audit::Entry;
use crate::audit::trail::Trail;
use crate::catalog::{Draft, User};
use crate::engine::Engine;
use crate::system::receipt;

/// How often the store's newest moment is replaced while it waits for the moments before.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// The record whose writing does that, and that says that files are still to be written anew.
const REWRITE: (&str, &str) = ("erasure", "rewrite");

/// What was removed: of what, what, how many.
pub(crate) type Receipt = Vec<(String, &'static str, u64)>;

impl Engine {
    /// Carries out ERASE USER. When it returns, nothing of the user's is left but the id.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `InvalidInput` before anything changed; `Overloaded` or `Timeout` if somebody reads
    /// what is to go for too long: then the rest is removed in the background, or by the same statement again.
    pub(crate) async fn erase_user(
        &self,
        actor: &Actor,
        name: &str,
        entry: Entry,
        trail: &mut Option<Trail>,
    ) -> Result<RecordBatch> {
        let user = UserId::new(name)?;
        let successor = self.begin_erasure(actor, &user, entry).await?;
        fail::fail_point!("erase::after_begin");
        // Whoever enters from here on finds the account dropped.
        self.committer.readers().wait_until_past(self.published_through()).await;
        let mut removed = Receipt::new();
        let catalog = self.catalog();
        for table in catalog.tables().filter(|table| table.kind != TableKind::Shared) {
            self.erase_partition(table, &user, successor, &mut removed).await?;
        }
        fail::fail_point!("erase::after_partitions");
        removed.push((String::new(), "kept answers", self.forget_answers_of(&user).await?));
        let audit = trail.as_mut().and_then(|trail| trail.hand_in(None)).into_iter().collect();
        let ended = self.end_erasure(&user, audit).await;
        match ended {
            Ok(()) => trail.take().into_iter().for_each(Trail::settle),
            Err(error) => {
                trail.iter_mut().for_each(Trail::take_back);
                return Err(error);
            }
        }
        removed.push((user.to_string(), "accounts", 1));
        fail::fail_point!("erase::after_account");
        self.rewrite_store().await?;
        receipt(removed)
    }

    async fn begin_erasure(&self, actor: &Actor, user: &UserId, entry: Entry) -> Result<Incarnation> {
        let now_ms = self.clock.now_ms();
        let next = self
            .edit_accounts(vec![entry], |catalog| {
                let found =
                    catalog.user(user).ok_or_else(|| Error::not_found(format!("user '{user}' does not exist")))?;
                if decide(actor.role, Right::Account(found.role)) != Verdict::Allowed {
                    return Err(Error::permission_denied(format!("user '{user}' has a role above yours")));
                }
                if *user == actor.user || user.as_str() == ROOT {
                    return Err(Error::invalid_input("your own account and 'root' cannot be erased"));
                }
                if let Some(life) = catalog.dropped().find(|life| life.table.kind != TableKind::Shared) {
                    return Err(Error::overloaded(format!(
                        "the contents of table '{}', which was dropped, are still being removed; try again",
                        life.table.name
                    )));
                }
                let mut draft = Draft::new(catalog);
                let purge_life = Some(found.purge_life.unwrap_or_else(|| draft.draw_incarnation()));
                draft.put_user(User {
                    email: None,
                    password_hash: String::new(),
                    limits: std::collections::BTreeMap::new(),
                    generation: found.generation + 1,
                    deleted_at_ms: Some(found.deleted_at_ms.unwrap_or(now_ms)),
                    updated_at_ms: now_ms,
                    purge_life,
                    erase: true,
                    ..User::clone(found)
                });
                let mut edit = draft.finish("erasure begun");
                // In the same commit: whatever happens, the files are written anew in the end.
                edit.puts.push((kalamdb_store::keys::system(REWRITE.0, REWRITE.1), Vec::new().into()));
                Ok(Some(edit))
            })
            .await?;
        let life = next.and_then(|catalog| catalog.user(user).and_then(|user| user.purge_life));
        life.ok_or_else(|| Error::internal("an erasure that has no life"))
    }

    async fn erase_partition(
        &self,
        table: &Table,
        user: &UserId,
        successor: Incarnation,
        removed: &mut Receipt,
    ) -> Result<()> {
        let watch = Stopwatch::start();
        let partition = self.partitions.get(table, &Scope::User(user.clone()));
        let (hot, spec) = (partition.hot().rows, partition.spec().clone());
        drop(partition);
        let within = self.settings.limits.statement_timeout_seconds;
        let mut files = loop {
            match self.purge_partition(table, user, successor).await {
                Ok(files) => break files.unwrap_or(0),
                Err(error) if error.kind() == ErrorKind::Overloaded && watch.elapsed().as_secs() < within => {
                    self.next_moment().await?;
                }
                Err(error) => return Err(error),
            }
        };
        files += self.cold.manifests().remove_unlisted(&spec).await?;
        for (what, count) in [("rows in the hot tier", hot), ("files of history", files as u64)] {
            if count > 0 {
                removed.push((table.name.to_string(), what, count));
            }
        }
        Ok(())
    }

    /// Makes a new moment the newest, and waits until nobody reads at one before it.
    async fn next_moment(&self) -> Result<()> {
        let at: CommitTime = self.published_through();
        self.committer.records(vec![rewrite_record()], Vec::new()).await?;
        self.committer.readers().wait_until_past(at).await;
        Ok(())
    }

    async fn end_erasure(&self, user: &UserId, audit: Vec<Entry>) -> Result<()> {
        self.edit_accounts(audit, |catalog| {
            let mut draft = Draft::new(catalog);
            draft.delete_user(user);
            Ok(Some(draft.finish("user erased")))
        })
        .await?;
        self.usage.forget(user);
        Ok(())
    }

    /// Writes all files of the store anew: nothing that was removed before is in one afterwards.
    ///
    /// # Errors
    /// `Timeout` if somebody reads at an earlier moment for longer than a statement may run; I/O.
    pub(crate) async fn rewrite_store(&self) -> Result<()> {
        let watch = Stopwatch::start();
        let within = self.settings.limits.statement_timeout_seconds;
        loop {
            match self.try_rewrite().await {
                Ok(()) => break,
                // Somebody still reads at a moment from before.
                Err(error) if error.kind() == ErrorKind::Overloaded && watch.elapsed().as_secs() < within => {}
                Err(error) => return Err(error),
            }
        }
        let done = kalamdb_store::keys::system(REWRITE.0, REWRITE.1);
        self.committer.records(Vec::new(), vec![done]).await
    }

    async fn try_rewrite(&self) -> Result<()> {
        let rewriting = self.store.rewrite();
        tokio::pin!(rewriting);
        let mut ticks = tokio::time::interval(PUBLISH_EVERY);
        loop {
            tokio::select! {
                done = &mut rewriting => return Ok(done?),
                // The newest moment is held as long as it is the newest.
                _ = ticks.tick() => self.committer.records(vec![rewrite_record()], Vec::new()).await?,
            }
        }
    }

    /// Goes on with what an end of the server, of the statement, or of its client's patience cut short after the account
    /// was gone.
    pub(crate) async fn resume_rewrite(&self) {
        let pending = kalamdb_store::keys::system(REWRITE.0, REWRITE.1);
        let newest = self.committer.readers().newest();
        let is_pending = matches!(newest.snapshot.get(&pending).await, Ok(Some(_)));
        drop(newest);
        // One whose account is there still is ended by the purge.
        if !is_pending || self.catalog().users().any(|user| user.erase) {
            return;
        }
        if let Err(error) = self.rewrite_store().await {
            tracing::error!(%error, "files of the store that may hold what was erased could not be written anew");
        }
    }
}

fn rewrite_record() -> (bytes::Bytes, bytes::Bytes) {
    (kalamdb_store::keys::system(REWRITE.0, REWRITE.1), bytes::Bytes::new())
}
