//! The audit log as the engine keeps it: entries that are committed by themselves, retention, VERIFY AUDIT.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_auth::impersonation;
use kalamdb_auth::seal::SealKey;
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};
use kalamdb_store::Snapshot;

use super::Engine;
use crate::audit::anchor::{self, Anchor};
use crate::audit::chain::{self, Mark, Pages, Stored};
use crate::audit::refusals::Refusals;
use crate::audit::verify::{Report, verify};
use crate::audit::{Entry, Outcome, key};
use crate::commit::Riders;

/// Entries that retention removes in one commit.
const CHUNK_ENTRIES: usize = 1_000;
const DAY_US: i64 = 86_400_000_000;

/// What the log needs besides the committer.
#[derive(Debug)]
pub(crate) struct Audit {
    key: Arc<SealKey>,
    refusals: Refusals,
}

impl Audit {
    pub(super) fn new(key: Arc<SealKey>) -> Self {
        Self { key, refusals: Refusals::default() }
    }
}

/// The key of the log that a store has.
pub(super) async fn open_key(
    settings: &Settings,
    entropy: &Arc<dyn Entropy>,
    snapshot: &dyn Snapshot,
) -> Result<SealKey> {
    key::open(settings, entropy.as_ref(), chain::has_begun(snapshot).await?)
}

impl Engine {
    /// Commits entries by themselves.
    pub(crate) async fn audit(&self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.committer().ride(Riders { records: Vec::new(), audit: entries }, Vec::new()).await
    }

    /// Logs a statement that failed or was not allowed, and gives its error: durable before anybody hears of it. If it
    /// cannot be logged, that is the error.
    pub(crate) async fn audit_failure(&self, entry: Entry, error: Error) -> Error {
        match self.log_failure(entry, &error).await {
            Ok(()) => error,
            Err(unlogged) => unlogged,
        }
    }

    async fn log_failure(&self, entry: Entry, error: &Error) -> Result<()> {
        if !impersonation::is_refusal(error) {
            return self.audit(vec![entry.because(Outcome::Failed, error.kind())]).await;
        }
        let entry = entry.because(Outcome::Refused, error.kind());
        let due = self.audit.refusals.note(entry, self.settings().audit.refusals_per_minute_max);
        self.audit(due).await
    }

    /// Logs what somebody left behind who went away.
    pub(crate) fn audit_in_background(self: &Arc<Self>, entry: Entry) {
        // Without a runtime the process is ending, and the statement with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let engine = self.clone();
        runtime.spawn(async move {
            if let Err(error) = engine.audit(vec![entry]).await {
                tracing::error!(%error, "a statement whose client went away could not be logged");
            }
        });
    }

    /// Writes the refusals that are only counted so far.
    pub(crate) async fn write_counted_refusals(&self) -> Result<()> {
        let held = self.audit.refusals.take(self.clock().now_ns() / 1_000);
        let written = self.audit(held.clone()).await;
        if written.is_err() {
            self.audit.refusals.put_back(held);
        }
        written
    }

    /// Brings the file beside the store up to the log's end.
    pub(crate) async fn anchor_audit(&self) -> Result<()> {
        let newest = self.committer().readers().newest();
        let Some(end) = chain::head(newest.snapshot.as_ref(), &self.audit.key).await? else { return Ok(()) };
        let data_dir = self.settings().storage.data_dir.clone();
        if anchor::read(&data_dir, &self.audit.key)? == Anchor::At(end) {
            return Ok(());
        }
        // IMPORTANT: the entries first, or a power cut would leave a file that is ahead of the log.
        self.store().sync().await?;
        let key = self.audit.key.clone();
        tokio::task::spawn_blocking(move || anchor::write(&data_dir, &key, &end))
            .await
            .map_err(|error| Error::internal("writing the audit log's end").with_source(error))?
    }

    /// What is due every minute and at the end: whatever cannot be written is said in the log of the server.
    pub(super) async fn bring_audit_up(&self) {
        if let Err(error) = self.write_counted_refusals().await {
            tracing::error!(%error, "counted refusals could not be written to the audit log");
        }
        if let Err(error) = self.anchor_audit().await {
            tracing::error!(%error, "the file of the audit log's end could not be written");
        }
    }

    /// VERIFY AUDIT.
    pub(crate) async fn verify_audit(&self) -> Result<Report> {
        self.write_counted_refusals().await?;
        // The file first: the store is then at least as far.
        let anchor = anchor::read(&self.settings().storage.data_dir, &self.audit.key)?;
        let newest = self.committer().readers().newest();
        verify(newest.snapshot.as_ref(), &self.audit.key, anchor).await
    }

    /// Removes entries that are older than `audit.retention_days`, from the old end, and leaves a sealed checkpoint.
    /// Returns how many.
    pub async fn expire_audit(&self) -> Result<u64> {
        self.expire_audit_at(|_| Ok(())).await
    }

    /// The same; `pace` hears of entries as they go, and ends it by an error.
    pub(crate) async fn expire_audit_at(&self, pace: impl Fn(u64) -> Result<()>) -> Result<u64> {
        let days = i64::try_from(self.settings().audit.retention_days).unwrap_or(i64::MAX);
        if days == 0 {
            return Ok(0);
        }
        let since_us = (self.clock().now_ns() / 1_000).saturating_sub(days.saturating_mul(DAY_US));
        let newest = self.committer().readers().newest();
        let (mut removed, mut pages, mut old, mut last) = (0, Pages::new(), Vec::new(), Mark::default());
        'log: while let Some(entries) = pages.next(newest.snapshot.as_ref()).await? {
            for (key, value) in entries {
                let stored = Stored::decode(&key, &value)?;
                if stored.entry()?.at_us >= since_us {
                    break 'log;
                }
                last = Mark { number: stored.number, seal: stored.seal };
                old.push(key);
                removed += 1;
                if old.len() == CHUNK_ENTRIES {
                    self.remove_audited(last, std::mem::take(&mut old)).await?;
                    pace(CHUNK_ENTRIES as u64)?;
                }
            }
        }
        if !old.is_empty() {
            self.remove_audited(last, old).await?;
        }
        Ok(removed)
    }

    async fn remove_audited(&self, last: Mark, old: Vec<Bytes>) -> Result<()> {
        // One commit: the log has entries from the checkpoint on, whatever happens.
        let checkpoint = chain::checkpoint_record(&last, &self.audit.key);
        self.committer().ride(Riders { records: vec![checkpoint], audit: Vec::new() }, old).await
    }
}
