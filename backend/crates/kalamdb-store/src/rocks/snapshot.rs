//! Owned snapshots, and the register of those that are held.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use rocksdb::{AsColumnFamilyRef, ColumnFamily, DB, DEFAULT_COLUMN_FAMILY_NAME, ReadOptions};
use tokio::sync::Notify;

use super::{blocking, failed};
use crate::error::{Result, StoreError};
use crate::shard::{Page, Snapshot};

/// Reads up to this many entries are done where they are asked for; larger ones on a blocking thread.
const INLINE_ENTRIES_MAX: usize = 1024;

type Borrowed<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell!(
    /// A snapshot together with the database that it borrows.
    struct View {
        owner: Arc<DB>,
        #[covariant]
        dependent: Borrowed,
    }
);

/// The snapshots that are held, by the order in which they were taken.
#[derive(Default)]
pub(super) struct Snapshots {
    register: Mutex<Register>,
    released: Notify,
    /// The same for [`Snapshots::revoke`], which waits on a blocking thread.
    gone: Condvar,
}

#[derive(Default)]
struct Register {
    next: u64,
    held: BTreeMap<u64, Weak<Held>>,
}

struct Held {
    number: u64,
    snapshots: Arc<Snapshots>,
    /// `None` once revoked.
    view: RwLock<Option<View>>,
}

impl Snapshots {
    pub(super) fn take(self: &Arc<Self>, db: Arc<DB>) -> RocksSnapshot {
        let mut register = self.register.lock();
        let number = register.next;
        register.next += 1;
        let view = View::new(db, |db| db.snapshot());
        let held = Arc::new(Held { number, snapshots: Arc::clone(self), view: RwLock::new(Some(view)) });
        register.held.insert(number, Arc::downgrade(&held));
        RocksSnapshot(held)
    }

    pub(super) fn held(&self) -> usize {
        self.register.lock().held.len()
    }

    /// A number below which are exactly the snapshots taken so far.
    pub(super) fn mark(&self) -> u64 {
        self.register.lock().next
    }

    fn held_before(&self, mark: u64) -> usize {
        self.register.lock().held.range(..mark).count()
    }

    /// Waits until every snapshot from before the mark is released; the number of those that are not in time.
    pub(super) async fn released_before(&self, mark: u64, patience: Duration) -> Result<(), usize> {
        let all_released = async {
            loop {
                let released = self.released.notified();
                if self.held_before(mark) == 0 {
                    return;
                }
                released.await;
            }
        };
        let in_time = tokio::time::timeout(patience, all_released).await;
        in_time.map_err(|_| self.held_before(mark))
    }

    /// Takes the database away from every snapshot, after the reads that are under way.
    pub(super) fn revoke(&self) {
        let held: Vec<_> = self.register.lock().held.values().filter_map(Weak::upgrade).collect();
        for snapshot in held {
            *snapshot.view.write() = None;
        }
        // One that is being dropped right now cannot be had any more, and may still refer to the database.
        let mut register = self.register.lock();
        while register.held.values().any(|snapshot| snapshot.strong_count() == 0) {
            self.gone.wait(&mut register);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.view.get_mut() = None;
        self.snapshots.register.lock().held.remove(&self.number);
        self.snapshots.gone.notify_all();
        self.snapshots.released.notify_waiters();
    }
}

/// A snapshot of the shard's data.
#[derive(Clone)]
pub(super) struct RocksSnapshot(Arc<Held>);

impl fmt::Debug for RocksSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RocksSnapshot").field(&self.0.number).finish()
    }
}

impl RocksSnapshot {
    fn with<T>(&self, read: impl FnOnce(&DB, &Borrowed<'_>) -> Result<T>) -> Result<T> {
        let view = self.0.view.read();
        view.as_ref().ok_or(StoreError::SnapshotLost)?.with_dependent(|db, snapshot| read(db, snapshot))
    }

    fn get_now(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.with(|_, snapshot| {
            let found = snapshot.get_pinned(key).map_err(|e| failed("reading", &e))?;
            Ok(found.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn get_many_now(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        if let [key] = keys {
            // What RocksDB sets up to read many at once costs more than reading one.
            return Ok(vec![self.get_now(key)?]);
        }
        self.with(|db, snapshot| {
            let mut options = ReadOptions::default();
            options.set_snapshot(snapshot);
            db.batched_multi_get_cf_opt(data_family(db)?, keys.iter().map(|key| &**key), false, &options)
                .into_iter()
                .map(|found| Ok(found.map_err(|e| failed("reading", &e))?.map(|value| Bytes::copy_from_slice(&value))))
                .collect()
        })
    }

    fn scan_now(&self, start: &[u8], end: &[u8], max_entries: usize, max_bytes: usize) -> Result<Page> {
        self.with(|db, snapshot| {
            let mut options = ReadOptions::default();
            options.set_snapshot(snapshot);
            // A large scan would push everything else out of the cache.
            options.fill_cache(max_entries <= INLINE_ENTRIES_MAX);
            read_page(db, data_family(db)?, options, start, end, max_entries, max_bytes)
        })
    }
}

#[async_trait]
impl Snapshot for RocksSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_now(key)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        if keys.len() <= INLINE_ENTRIES_MAX {
            return self.get_many_now(keys);
        }
        let (this, keys) = (self.clone(), keys.to_vec());
        blocking(move || this.get_many_now(&keys)).await
    }

    async fn scan(&self, start: &[u8], end: &[u8], max_entries: usize, max_bytes: usize) -> Result<Page> {
        if max_entries <= INLINE_ENTRIES_MAX {
            return self.scan_now(start, end, max_entries, max_bytes);
        }
        let (this, start, end) = (self.clone(), start.to_vec(), end.to_vec());
        blocking(move || this.scan_now(&start, &end, max_entries, max_bytes)).await
    }
}

fn data_family(db: &DB) -> Result<&ColumnFamily> {
    family(db, DEFAULT_COLUMN_FAMILY_NAME)
}

pub(super) fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily> {
    db.cf_handle(name).ok_or_else(|| StoreError::Internal { what: format!("there is no column family {name}") })
}

/// A page of a column family. Its entries are slices of one buffer: two allocations per entry would cost more than
/// reading it.
pub(super) fn read_page(
    db: &DB,
    family: &impl AsColumnFamilyRef,
    mut options: ReadOptions,
    start: &[u8],
    end: &[u8],
    max_entries: usize,
    max_bytes: usize,
) -> Result<Page> {
    if !end.is_empty() {
        if start >= end {
            return Ok(Page::default());
        }
        options.set_iterate_upper_bound(end);
    }
    let max_entries = max_entries.max(1);
    let mut iterator = db.raw_iterator_cf_opt(family, options);
    let mut buffer = Vec::new();
    let mut lengths = Vec::new();
    let mut next = None;
    iterator.seek(start);
    while let Some((key, value)) = iterator.item() {
        if lengths.len() == max_entries || (buffer.len() >= max_bytes && !lengths.is_empty()) {
            next = Some(Bytes::copy_from_slice(key));
            break;
        }
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value);
        lengths.push((key.len(), value.len()));
        iterator.next();
    }
    // An iterator that met an error is not valid, like one at its end.
    iterator.status().map_err(|e| failed("scanning", &e))?;
    let mut rest = Bytes::from(buffer);
    let entries = lengths.into_iter().map(|(key, value)| (rest.split_to(key), rest.split_to(value))).collect();
    Ok(Page { entries, next })
}
