//! Removal after which no file holds the bytes.
//!
//! Bytes of a key lie in the log, in data files, and, as first and last keys of data files, in the list of files.
//! So: remove the keys, wait for older snapshots, move everything from the log to data files, rewrite every data
//! file that reaches into the range, make the list of files be written once more after that change, and see each
//! of the old files gone. RocksDB's own compactions rest meanwhile: one that ran beside ours could carry bytes of
//! the range into a new file that nobody looks at.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions, LiveFile,
    WaitForCompactOptions, WriteBatch,
};

use super::snapshot::family;
use super::{CACHE_FAMILY, OWN_RECORDS, RocksShard, Shared, failed};
use crate::error::{Result, StoreError};
use crate::keys;

/// How long readers from before the removal are waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often, and how many times, the directory is looked at for files that are being removed.
const POLL: Duration = Duration::from_millis(20);
const POLLS_MAX: usize = 500;
/// How long a compaction that is under way is waited for.
const COMPACTION_US_MAX: u64 = 120_000_000;

const SCRUBBING: &str = "scrubbing";

impl RocksShard {
    pub(super) async fn scrub_files(&self, prefixes: Vec<Bytes>) -> Result<()> {
        if prefixes.is_empty() {
            return Ok(());
        }
        let ranges: Vec<_> = prefixes.into_iter().map(|prefix| (keys::prefix_end(&prefix), prefix)).collect();
        let ranges: Vec<_> = ranges.into_iter().map(|(end, start)| (start, end)).collect();
        let _alone = self.scrubbing.lock().await;
        let removed = ranges.clone();
        self.run(move |shared, db| shared.remove(db, &removed)).await?;
        let snapshots = &self.shared.snapshots;
        let mark = snapshots.mark();
        let released = snapshots.released_before(mark, PATIENCE).await;
        released.map_err(|snapshots| StoreError::SnapshotsHeld { snapshots })?;
        let doomed = self.run(move |shared, db| shared.rewrite(db, &ranges)).await?;
        self.await_gone(doomed).await
    }

    pub(super) async fn rewrite_files(&self) -> Result<()> {
        let _alone = self.scrubbing.lock().await;
        let snapshots = &self.shared.snapshots;
        let mark = snapshots.mark();
        let released = snapshots.released_before(mark, PATIENCE).await;
        released.map_err(|snapshots| StoreError::SnapshotsHeld { snapshots })?;
        let doomed = self.run(move |shared, db| shared.rewrite_all(db)).await?;
        self.await_gone(doomed).await
    }

    /// Files are removed by RocksDB's threads, some time after nothing needs them.
    async fn await_gone(&self, doomed: BTreeSet<String>) -> Result<()> {
        let mut polls = tokio::time::interval(POLL);
        for _ in 0..POLLS_MAX {
            polls.tick().await;
            let doomed = doomed.clone();
            let left = self.run(move |shared, db| shared.purge(db, &doomed)).await?;
            if left == 0 {
                return Ok(());
            }
        }
        Err(StoreError::Io { doing: SCRUBBING, cause: "RocksDB does not remove its obsolete files".to_owned() })
    }
}

impl Shared {
    fn remove(&self, db: &DB, ranges: &[(Bytes, Bytes)]) -> Result<()> {
        self.check_writable()?;
        let mut batch = WriteBatch::default();
        for (start, end) in ranges {
            if start.is_empty() || end.is_empty() {
                return Err(StoreError::Internal { what: "an empty prefix would scrub the whole shard".to_owned() });
            }
            batch.delete_range(start, end);
        }
        self.write(db, batch, kalamdb_commons::settings::Durability::Sync)
    }

    /// Rewrites all that there is. Returns the files that must go.
    fn rewrite_all(&self, db: &DB) -> Result<BTreeSet<String>> {
        self.check_writable()?;
        let resting = Resting::new(db)?;
        let mut doomed = self.files(|name| name.ends_with(".log"))?;
        flush(db)?;
        let before: BTreeSet<String> = live_files(db)?.into_iter().map(|file| file.name).collect();
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(true);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for name in [DEFAULT_COLUMN_FAMILY_NAME, CACHE_FAMILY] {
            db.compact_range_cf_opt(family(db, name)?, None::<&[u8]>, None::<&[u8]>, &options);
        }
        self.see_rewritten(db, &before)?;
        drop(resting);
        doomed.extend(before.iter().map(|name| name.trim_start_matches('/').to_owned()));
        self.renew_list(db, &mut doomed)?;
        Ok(doomed)
    }

    /// RocksDB does not say whether a compaction went well.
    fn see_rewritten(&self, db: &DB, before: &BTreeSet<String>) -> Result<()> {
        let live: BTreeSet<_> = live_files(db)?.into_iter().map(|file| file.name).collect();
        match before.iter().find(|file| live.contains(*file)) {
            Some(file) => Err(StoreError::Io { doing: SCRUBBING, cause: format!("{file} was not rewritten") }),
            None => Ok(()),
        }
    }

    /// The list of files is written anew at a change, as it was before that change: one more is needed.
    fn renew_list(&self, db: &DB, doomed: &mut BTreeSet<String>) -> Result<()> {
        doomed.extend(self.files(|name| name.starts_with("MANIFEST-"))?);
        let mut marker = WriteBatch::default();
        marker.put(keys::system(OWN_RECORDS, "scrubbed"), []);
        self.write(db, marker, self.durability)?;
        flush(db)
    }

    /// Rewrites what holds bytes of the ranges. Returns the files that must go.
    fn rewrite(&self, db: &DB, ranges: &[(Bytes, Bytes)]) -> Result<BTreeSet<String>> {
        let resting = Resting::new(db)?;
        // RocksDB skips a range in which it finds no key, even one that was removed. The removal once more, in a
        // data file of its own, makes it look at every file below.
        self.remove(db, ranges)?;
        let mut doomed = self.files(|name| name.ends_with(".log"))?;
        flush(db)?;
        let before = reaching_into(db, ranges)?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(true);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for (start, end) in ranges {
            db.compact_range_opt(Some(just_below(start)), Some(end), &options);
        }
        self.see_rewritten(db, &before)?;
        drop(resting);
        doomed.extend(before.iter().map(|name| name.trim_start_matches('/').to_owned()));
        self.renew_list(db, &mut doomed)?;
        Ok(doomed)
    }

    /// Has obsolete files removed, and counts those of `doomed` that are still there.
    fn purge(&self, db: &DB, doomed: &BTreeSet<String>) -> Result<usize> {
        let failed = |e| failed(SCRUBBING, &e);
        wait_for_compactions(db)?;
        db.disable_file_deletions().map_err(failed)?;
        // Allowing it again removes at once whatever may be removed.
        db.enable_file_deletions().map_err(failed)?;
        Ok(self.files(|name| doomed.contains(name))?.len())
    }

    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let io = |e: std::io::Error| StoreError::system(SCRUBBING, &e);
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path).map_err(io)? {
            if let Ok(name) = entry.map_err(io)?.file_name().into_string()
                && wanted(&name)
            {
                names.insert(name);
            }
        }
        Ok(names)
    }
}

/// As long as it lives, RocksDB starts no compactions of the shard's data by itself.
struct Resting<'a>(&'a DB);

impl<'a> Resting<'a> {
    fn new(db: &'a DB) -> Result<Self> {
        db.set_options(&[("disable_auto_compactions", "true")]).map_err(|e| failed(SCRUBBING, &e))?;
        let resting = Self(db);
        wait_for_compactions(db)?;
        Ok(resting)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.set_options(&[("disable_auto_compactions", "false")]) {
            // The next opening compacts again: the setting is not taken from the last one.
            tracing::error!(%error, "RocksDB's compactions could not be started again");
        }
    }
}

/// Waits for those that are under way.
fn wait_for_compactions(db: &DB) -> Result<()> {
    let mut options = WaitForCompactOptions::default();
    options.set_timeout(COMPACTION_US_MAX);
    db.wait_for_compact(&options).map_err(|e| failed(SCRUBBING, &e))
}

/// A key below `start` and above most others below it. A data file may end with a removal of everything up to
/// `start`: we count it as reaching into the range, RocksDB would not.
fn just_below(start: &[u8]) -> Vec<u8> {
    let mut key = start.to_vec();
    match key.pop() {
        None | Some(0) => {}
        Some(last) => {
            key.push(last - 1);
            key.extend([0xff; 8]);
        }
    }
    key
}

/// Both families: the log of one is kept while the other has data in it.
fn flush(db: &DB) -> Result<()> {
    let mut options = FlushOptions::default();
    options.set_wait(true);
    let families = [family(db, DEFAULT_COLUMN_FAMILY_NAME)?, family(db, CACHE_FAMILY)?];
    db.flush_cfs_opt(&families, &options).map_err(|e| failed(SCRUBBING, &e))
}

fn live_files(db: &DB) -> Result<Vec<LiveFile>> {
    db.live_files().map_err(|e| failed(SCRUBBING, &e))
}

fn reaching_into(db: &DB, ranges: &[(Bytes, Bytes)]) -> Result<BTreeSet<String>> {
    let reaches = |file: &LiveFile| match (&file.start_key, &file.end_key) {
        (Some(first), Some(last)) => ranges.iter().any(|(start, end)| **last >= **start && **first < **end),
        _ => true,
    };
    let data = |file: &LiveFile| file.column_family_name == DEFAULT_COLUMN_FAMILY_NAME;
    Ok(live_files(db)?.into_iter().filter(|file| data(file) && reaches(file)).map(|file| file.name).collect())
}
