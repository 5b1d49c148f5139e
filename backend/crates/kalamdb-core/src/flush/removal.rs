//! Removing what a flush made garbage: hot rows and keys at or below F, and change-log entries that are older than
//! the log is kept.
//!
//! It waits for every statement that began before F: the committer takes a missing hot version as the proof that a
//! row is unchanged, and that proof holds only for statements that read at F or later.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::Result;
use kalamdb_commons::ids::CommitTime;
use kalamdb_store::keys::{self, ChangeEntry, UniqueEntry};
use kalamdb_store::rows;

use crate::commit::Removal;
use crate::engine::Engine;
use crate::partition::{Partition, SCAN_PAGE_BYTES};

/// How many entries are removed in one commit: few enough not to hold up writers.
const CHUNK_ENTRIES: usize = 2_000;

/// Removes the garbage of a flush through `flushed`: at once if nobody reads at an older moment, in the background
/// otherwise. The caller holds the partition's maintenance.
pub(crate) async fn after(engine: &Arc<Engine>, partition: &Arc<Partition>, flushed: CommitTime) -> Result<()> {
    if engine.committer().readers().oldest() >= flushed {
        return remove(engine, partition, flushed).await;
    }
    let (engine_then, partition) = (Arc::downgrade(engine), partition.clone());
    let readers = engine.committer().readers().clone();
    engine.in_background(async move {
        readers.wait_until_past(flushed).await;
        let Some(engine) = engine_then.upgrade() else { return };
        let _maintenance = partition.maintain().await;
        if let Err(error) = remove(&engine, &partition, flushed).await {
            tracing::warn!(%error, partition = %partition.id(), "flushed hot rows could not be removed; the next flush tries again");
        }
    });
    Ok(())
}

/// Removes what is at or below the partition's watermark. The caller holds the partition's maintenance.
pub(crate) async fn remove(engine: &Arc<Engine>, partition: &Arc<Partition>, flushed: CommitTime) -> Result<()> {
    let view = partition.view_at(CommitTime::MAX, engine.cold()).await?;
    let Some(loaded) = view.loaded() else { return Ok(()) };
    if loaded.is_derived() {
        // IMPORTANT: the manifest is durable before any hot entry goes, and with it the directory that names the files. The
        // job that stores a derived one comes back here.
        return Ok(());
    }
    let mut record = partition.record();
    if record.flushed_through < view.flushed_through() {
        record.manifest_version = loaded.manifest.version;
        record.flushed_through = view.flushed_through();
        let put = (keys::partition_record(partition.keys()), record.encode());
        // IMPORTANT: before any hot entry goes: from now on a manifest that does not reach F is stale.
        engine.committer().records(vec![put], Vec::new()).await?;
        partition.recorded(record);
    }
    fail::fail_point!("flush::before_removal");
    remove_below(engine, partition, keys::current_prefix(partition.keys()), flushed).await?;
    for key in unique_keys(engine, partition) {
        remove_below(engine, partition, keys::unique_prefix(partition.keys(), key), flushed).await?;
    }
    partition.set_garbage(0);
    partition.forget_old_views(engine.committer().readers().oldest());
    trim_change_log(engine, partition).await
}

fn unique_keys(engine: &Engine, partition: &Partition) -> Vec<u32> {
    let catalog = engine.catalog();
    let table = catalog.table_by_incarnation(partition.id().incarnation);
    table.map_or_else(Vec::new, |table| table.keys.iter().map(|key| key.id).collect())
}

/// Removes entries at or below a moment, and says when the oldest was written that is left.
async fn remove_below(
    engine: &Arc<Engine>,
    partition: &Arc<Partition>,
    prefix: Bytes,
    flushed: CommitTime,
) -> Result<Option<CommitTime>> {
    let point = engine.committer().readers().newest();
    let end = keys::prefix_end(&prefix);
    let is_row = prefix == keys::current_prefix(partition.keys());
    let (mut next, mut left) = (Some(prefix), None::<CommitTime>);
    while let Some(start) = next {
        let page = point.snapshot.scan(&start, &end, CHUNK_ENTRIES, SCAN_PAGE_BYTES).await?;
        let mut garbage = Vec::new();
        for (key, value) in page.entries {
            let updated = if is_row { rows::header(&value)?.updated } else { UniqueEntry::decode(&value)?.updated };
            if updated <= flushed {
                garbage.push(key);
            } else {
                left = Some(left.map_or(updated, |left| left.min(updated)));
            }
        }
        if !garbage.is_empty() {
            let removal = Removal { partition: partition.clone(), flushed_through: flushed, keys: garbage };
            engine.committer().remove(removal).await?;
        }
        next = page.next;
    }
    Ok(left)
}

/// Removes the rows of a STREAM partition that have expired at `now_ns`, their unique keys and old change log. Readers of
/// earlier moments have their snapshots, and whoever would change a row that went sees that it is gone. Returns how many
/// rows and bytes went. The caller holds the partition's maintenance.
pub(crate) async fn expire(engine: &Arc<Engine>, partition: &Arc<Partition>, now_ns: i64) -> Result<(u64, u64)> {
    let (before, through) = (partition.hot(), partition.expired_through(now_ns));
    let seen = engine.committer().readers().newest().through;
    let left = remove_below(engine, partition, keys::current_prefix(partition.keys()), through).await?;
    for key in unique_keys(engine, partition) {
        remove_below(engine, partition, keys::unique_prefix(partition.keys(), key), through).await?;
    }
    partition.expired(left, seen);
    trim_change_log(engine, partition).await?;
    // Others write meanwhile: it is told to people, and nothing is decided by it.
    let after = partition.hot();
    Ok((before.rows.saturating_sub(after.rows), before.bytes.saturating_sub(after.bytes)))
}

/// Change-log entries from before this moment have been kept for as long as they are.
pub(crate) fn log_kept_since(engine: &Engine, now_ns: i64) -> CommitTime {
    let kept_ns = engine.settings().hot.change_log_retention_seconds.saturating_mul(1_000_000_000);
    CommitTime(now_ns.saturating_sub(i64::try_from(kept_ns).unwrap_or(i64::MAX)))
}

/// Removes change-log entries beyond their retention, each with the version that it replaced. The caller holds the
/// partition's maintenance.
pub(crate) async fn trim_change_log(engine: &Arc<Engine>, partition: &Arc<Partition>) -> Result<()> {
    let through = trimmed_through(engine);
    if !partition.log_reaches_back_to(through) {
        return Ok(());
    }
    // IMPORTANT: from here on nobody begins to read below, and who reads already is waited for.
    let through = partition.trim_log(through);
    let mut record = partition.record();
    if through <= record.change_log_trimmed_through {
        return Ok(());
    }
    let space = partition.keys();
    let point = engine.committer().readers().newest();
    let end = keys::change(space, CommitTime(through.0 + 1));
    let mut next = Some(keys::change_prefix(space));
    while let Some(start) = next {
        let page = point.snapshot.scan(&start, &end, CHUNK_ENTRIES, SCAN_PAGE_BYTES).await?;
        let mut gone = Vec::with_capacity(page.entries.len() * 2);
        let mut last = None;
        for (key, value) in page.entries {
            let entry = ChangeEntry::decode(&value)?;
            if let Some(previous) = entry.previous {
                gone.push(keys::superseded(space, entry.row_id, previous));
            }
            last = Some(keys::change_time_of(&key)?);
            gone.push(key);
        }
        if let Some(last) = last {
            // With the same commit, readers of the log learn that it begins later.
            record.change_log_trimmed_through = last;
            let put = (keys::partition_record(space), record.encode());
            engine.committer().records(vec![put], gone).await?;
            partition.recorded(record.clone());
        }
        next = page.next;
    }
    let rest = point.snapshot.scan(&end, &keys::prefix_end(&keys::change_prefix(space)), 1, SCAN_PAGE_BYTES).await?;
    let first = rest.entries.first().map(|(key, _)| keys::change_time_of(key)).transpose()?;
    // Whoever has everything through the last entry that is gone has missed nothing.
    partition.log_trimmed(first, point.through);
    Ok(())
}

/// Through when change logs are not kept any longer, as far as nobody reads at an earlier moment.
pub(crate) fn trimmed_through(engine: &Engine) -> CommitTime {
    log_kept_since(engine, engine.clock().now_ns()).min(engine.committer().readers().oldest())
}
