//! The embedded form of a shard: one RocksDB database. Nothing outside this module and its children names it.
//!
//! Its two column families are the shard's data and the [`NodeCache`]. All operations hold the database's gate
//! shared while they run, also on a blocking thread after their future was dropped; [`RocksShard::reopen`] and
//! [`RocksShard::close`](ShardStore::close) hold it alone. A snapshot keeps the database open by itself, and is
//! revoked before the database closes.
//!
//! A write that fails for any reason of input and output leaves the log in doubt: the store is poisoned, refuses
//! writes, and goes on reading until it is reopened. Recovery writes what it finds in the log to new, synced data
//! files, so that pages of the log that the system only pretends to have on disk do not matter afterwards.

mod cache;
mod options;
mod scrub;
mod snapshot;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use fail::fail_point;
use kalamdb_commons::settings::{Durability, HotSettings};
use parking_lot::Mutex;
use rocksdb::{DB, ErrorKind, WriteBatch, WriteOptions};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use self::options::Tuning;
use self::snapshot::{RocksSnapshot, Snapshots};
use crate::error::{Result, StoreError};
use crate::keys;
use crate::shard::{Batch, Op, OwnerToken, ShardId, ShardStore, Snapshot, StoreCounters, StoreUsage};

/// The version of the data directory that this build writes, and the greatest that it reads. It grows with every change
/// of keys, values, column families or files that an older build would misread.
const FORMAT_VERSION: u64 = 1;
/// The oldest that this build reads.
const FORMAT_VERSION_OLDEST: u64 = 1;

/// The kind of system records that are the store's own.
const OWN_RECORDS: &str = "shard";

/// The column family of the [`NodeCache`](crate::NodeCache).
const CACHE_FAMILY: &str = "manifest_cache";

/// A file that is written to see whether there is room, and removed.
const ROOM_FILE: &str = "room";
/// What opening writes besides the content of the log.
const ROOM_BYTES: u64 = 1024 * 1024;

/// The open database, or nothing between closing and opening.
type Gate = RwLock<Option<Arc<DB>>>;

/// A shard in a directory of this machine.
pub struct RocksShard {
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    /// Held while scrubbing, of which there is one at a time.
    scrubbing: tokio::sync::Mutex<()>,
}

/// What operations need besides the database itself.
struct Shared {
    path: PathBuf,
    token: OwnerToken,
    durability: Durability,
    tuning: Tuning,
    poison: Mutex<Option<String>>,
    closed: Mutex<bool>,
    commits: AtomicU64,
    snapshots: Arc<Snapshots>,
}

impl fmt::Debug for RocksShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksShard").field("path", &self.shared.path).field("token", &self.shared.token).finish()
    }
}

impl RocksShard {
    /// Opens the shard in a directory, which is made if it is absent, and takes ownership of it. Blocks while the
    /// log is read.
    ///
    /// [`StoreError::Locked`] if it is open elsewhere.
    pub fn open(path: impl AsRef<Path>, settings: &HotSettings) -> Result<Arc<Self>> {
        let path = path.as_ref().to_owned();
        create_synced(&path)?;
        remove_room(&path)?;
        let tuning = Tuning::new(settings)?;
        let db = open_database(&path, &tuning)?;
        check_format(&db, &path)?;
        let epoch = read_number(&db, "epoch")?.unwrap_or(0) + 1;
        // IMPORTANT: the epoch is durable before the first commit under it, or an owner who was replaced by a
        // crashed successor would not be fenced.
        write_number(&db, "epoch", epoch)?;
        let shared = Shared {
            path,
            token: OwnerToken { shard: ShardId(0), epoch },
            durability: settings.durability,
            tuning,
            poison: Mutex::new(None),
            closed: Mutex::new(false),
            commits: AtomicU64::new(0),
            snapshots: Arc::default(),
        };
        let gate = Arc::new(RwLock::new(Some(Arc::new(db))));
        Ok(Arc::new(Self { gate, shared: Arc::new(shared), scrubbing: tokio::sync::Mutex::new(()) }))
    }

    /// Runs `work` on a blocking thread, with the gate held until it is done even if nobody waits for it.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Shared, &DB) -> Result<T> + Send + 'static) -> Result<T> {
        let held: OwnedRwLockReadGuard<Option<Arc<DB>>> = Arc::clone(&self.gate).read_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared, held.as_ref().ok_or(StoreError::Closed)?)).await
    }

    async fn take_snapshot(&self) -> Result<RocksSnapshot> {
        let held = self.gate.read().await;
        let db = held.as_ref().ok_or(StoreError::Closed)?;
        Ok(self.shared.snapshots.take(Arc::clone(db)))
    }
}

#[async_trait]
impl ShardStore for RocksShard {
    fn token(&self) -> OwnerToken {
        self.shared.token
    }

    fn durability(&self) -> Durability {
        self.shared.durability
    }

    fn counters(&self) -> StoreCounters {
        self.shared.tuning.counters(self.shared.commits.load(Ordering::Relaxed))
    }

    fn is_writable(&self) -> bool {
        self.shared.poison.lock().is_none() && !*self.shared.closed.lock()
    }

    async fn commit(&self, token: OwnerToken, batch: Batch) -> Result<()> {
        let current = self.shared.token;
        if token != current {
            return Err(StoreError::Fenced { given: token, current });
        }
        self.shared.check_writable()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.run(move |shared, db| shared.commit(db, &batch)).await
    }

    async fn sync(&self) -> Result<()> {
        self.shared.check_writable()?;
        match self.shared.durability {
            Durability::Sync => Ok(()),
            Durability::Buffered => self.run(|shared, db| shared.sync(db)).await,
        }
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        Ok(Arc::new(self.take_snapshot().await?))
    }

    async fn scrub_all(&self, prefixes: &[Bytes]) -> Result<()> {
        self.scrub_files(prefixes.to_vec()).await
    }

    async fn rewrite(&self) -> Result<()> {
        self.rewrite_files().await
    }

    async fn usage(&self) -> Result<StoreUsage> {
        self.run(|shared, db| shared.usage(db)).await
    }

    async fn reopen(&self) -> Result<()> {
        if self.shared.poison.lock().is_none() {
            return Ok(());
        }
        let mut held = Arc::clone(&self.gate).write_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            if *shared.closed.lock() {
                return Err(StoreError::Closed);
            }
            shared.check_room()?;
            shared.shut(&mut held)?;
            let db = open_database(&shared.path, &shared.tuning)?;
            shared.check_still_owner(&db)?;
            *held = Some(Arc::new(db));
            *shared.poison.lock() = None;
            Ok(())
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        let mut held = Arc::clone(&self.gate).write_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            *shared.closed.lock() = true;
            let synced = match held.as_ref() {
                // IMPORTANT: a clean end loses nothing, in buffered mode either.
                Some(db) if shared.poison.lock().is_none() => shared.sync(db),
                _ => Ok(()),
            };
            shared.shut(&mut held)?;
            synced
        })
        .await
    }
}

impl Shared {
    fn check_writable(&self) -> Result<()> {
        match &*self.poison.lock() {
            Some(cause) => Err(StoreError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Notes that the log is in doubt, and says so.
    fn poison(&self, cause: String) -> StoreError {
        tracing::error!(cause, "a write to the hot tier failed; writes are refused until it has reopened");
        self.poison.lock().get_or_insert_with(|| cause.clone());
        StoreError::OutcomeUnknown { cause }
    }

    fn commit(&self, db: &DB, batch: &Batch) -> Result<()> {
        self.check_writable()?;
        fail_point!("store::before_commit", |_| Err(StoreError::Io {
            doing: "committing",
            cause: "fail point store::before_commit".to_owned()
        }));
        let mut write = WriteBatch::with_capacity_bytes(batch.bytes() + batch.len() * OP_OVERHEAD_BYTES);
        for op in batch.ops() {
            match op {
                Op::Put { key, value } => write.put(key, value),
                Op::Delete { key } => write.delete(key),
            }
        }
        self.write(db, write, self.durability)?;
        fail_point!("store::after_commit", |_| Err(self.poison("fail point store::after_commit".to_owned())));
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a batch. Whatever goes wrong with files from here on leaves the outcome unknown.
    fn write(&self, db: &DB, batch: WriteBatch, durability: Durability) -> Result<()> {
        if let Some(how) = simulated_sync_failure() {
            if how.as_deref() == Some("written") {
                db.write(batch).map_err(|e| self.write_failed(&e))?;
            }
            return Err(self.poison("fail point store::sync_fails".to_owned()));
        }
        let mut options = WriteOptions::default();
        // IMPORTANT: this is the sync that an acknowledged commit rests on.
        options.set_sync(durability == Durability::Sync);
        db.write_opt(batch, &options).map_err(|e| self.write_failed(&e))
    }

    fn write_failed(&self, error: &rocksdb::Error) -> StoreError {
        match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::NotSupported => StoreError::Internal { what: error.to_string() },
            _ => self.poison(error.to_string()),
        }
    }

    fn sync(&self, db: &DB) -> Result<()> {
        fail_point!("store::sync_fails", |_| Err(self.poison("fail point store::sync_fails".to_owned())));
        // IMPORTANT: in buffered mode a flush publishes nothing before the log of what it wrote is on disk.
        db.flush_wal(true).map_err(|e| self.write_failed(&e))
    }

    fn usage(&self, db: &DB) -> Result<StoreUsage> {
        let number = |name: &str| {
            let found = db.property_int_value(name).map_err(|e| failed("reading the store's figures", &e))?;
            Ok::<u64, StoreError>(found.unwrap_or(0))
        };
        Ok(StoreUsage {
            memtable_bytes: number("rocksdb.cur-size-all-mem-tables")?,
            cache_bytes: self.tuning.cache_bytes(),
            file_bytes: number("rocksdb.total-sst-files-size")?,
            log_bytes: options::log_bytes(&self.path)?,
            snapshots: self.snapshots.held() as u64,
        })
    }

    /// Opening writes what the log holds to new files. A store without room for them would stay closed; one that is
    /// not closed goes on reading.
    fn check_room(&self) -> Result<()> {
        if self.poison.lock().as_deref().is_none_or(|cause| !crate::error::names_full_disk(cause)) {
            return Ok(());
        }
        let room = self.path.join(ROOM_FILE);
        let tried = write_zeros(&room, options::log_bytes(&self.path)? + ROOM_BYTES);
        let removed = std::fs::remove_file(&room);
        tried.and(removed).map_err(|e| StoreError::system("making room to reopen the hot tier", &e))
    }

    /// Closes the database. The gate is held alone, so that only snapshots still refer to it.
    fn shut(&self, gate: &mut Option<Arc<DB>>) -> Result<()> {
        let Some(db) = gate.take() else { return Ok(()) };
        self.snapshots.revoke();
        match Arc::into_inner(db) {
            Some(db) => {
                db.cancel_all_background_work(true);
                drop(db);
                Ok(())
            }
            None => Err(StoreError::Internal { what: "the database is still referred to while it closes".to_owned() }),
        }
    }

    /// While the database was closed, its lock was free for a moment.
    fn check_still_owner(&self, db: &DB) -> Result<()> {
        let epoch = read_number(db, "epoch")?.unwrap_or(0);
        if epoch == self.token.epoch {
            return Ok(());
        }
        Err(StoreError::Fenced { given: self.token, current: OwnerToken { epoch, ..self.token } })
    }
}

/// The fail point of a failed sync, with its argument: `written` leaves the batch in the log, anything else does not.
fn simulated_sync_failure() -> Option<Option<String>> {
    fail_point!("store::sync_fails", Some);
    None
}

/// About what RocksDB adds to a change in a batch.
const OP_OVERHEAD_BYTES: usize = 12;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(StoreError::Internal { what: format!("a task of the store ended early: {e}") }),
    }
}

fn open_database(path: &Path, tuning: &Tuning) -> Result<DB> {
    DB::open_cf_descriptors(tuning.database(), path, tuning.families()).map_err(|e| {
        if is_lock(&e) { StoreError::Locked { path: path.to_owned() } } else { failed("opening the hot tier", &e) }
    })
}

/// RocksDB's lock file is held, by this process or by another. Its errors are told apart by their words only.
fn is_lock(error: &rocksdb::Error) -> bool {
    let words: &str = error.as_ref();
    words.contains("lock hold by current process") || words.contains("While lock file")
}

fn failed(doing: &'static str, error: &rocksdb::Error) -> StoreError {
    let cause = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corrupt { what: cause },
        _ if crate::error::names_full_disk(&cause) => StoreError::DiskFull { doing, cause },
        _ => StoreError::Io { doing, cause },
    }
}

fn check_format(db: &DB, path: &Path) -> Result<()> {
    match read_number(db, "format")? {
        None => write_number(db, "format", FORMAT_VERSION),
        Some(found) if found > FORMAT_VERSION => {
            Err(StoreError::FormatTooNew { path: path.to_owned(), found, known: FORMAT_VERSION })
        }
        Some(found) if found < FORMAT_VERSION_OLDEST => {
            Err(StoreError::FormatTooOld { path: path.to_owned(), found, oldest: FORMAT_VERSION_OLDEST })
        }
        Some(_) => Ok(()),
    }
}

fn read_number(db: &DB, name: &str) -> Result<Option<u64>> {
    let value = db.get(keys::system(OWN_RECORDS, name)).map_err(|e| failed("reading the shard's records", &e))?;
    let number = |bytes: Vec<u8>| bytes.try_into().map(u64::from_le_bytes);
    value.map(number).transpose().map_err(|_| StoreError::corrupt(format!("the shard's record '{name}'")))
}

fn write_number(db: &DB, name: &str, number: u64) -> Result<()> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.put_opt(keys::system(OWN_RECORDS, name), number.to_le_bytes(), &options)
        .map_err(|e| failed("writing the shard's records", &e))
}

/// Removes what a process left that was killed while it looked for room.
fn remove_room(path: &Path) -> Result<()> {
    match std::fs::remove_file(path.join(ROOM_FILE)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::system("tidying the directory of the hot tier", &e))
        }
        _ => Ok(()),
    }
}

fn write_zeros(file: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::create(file)?;
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes), &mut file)?;
    file.sync_all()
}

/// Makes a directory and its parents, each one synced into the directory above it.
fn create_synced(path: &Path) -> Result<()> {
    let io = |e: std::io::Error| StoreError::system("creating the directory of the hot tier", &e);
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    create_synced(parent)?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(e)),
        _ => {}
    }
    // IMPORTANT: without it a power cut takes the new directory away, and every synced commit in it.
    std::fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(io)
}
