//! How RocksDB is set up: bounded memory, few files, a log that is synced and never skipped.

use std::path::Path;

use kalamdb_commons::settings::HotSettings;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME, InfoLogger,
    LogLevel, Options, WriteBufferManager,
};

use super::{CACHE_FAMILY, failed};
use crate::error::{Result, StoreError};
use crate::shard::StoreCounters;

const MIB: usize = 1024 * 1024;
/// A larger buffer of one column family only delays its flush; the manager bounds the sum.
const WRITE_BUFFER_BYTES_MAX: usize = 16 * MIB;
const CACHE_FAMILY_BUFFER_BYTES: usize = MIB;
const LOG_BYTES_MAX: u64 = 64 * MIB as u64;
const LOG_BYTES_PER_SYNC: u64 = MIB as u64;
const OPEN_FILES_MAX: i32 = 256;
const BACKGROUND_JOBS: i32 = 2;
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// The options of a store and what its openings share: block cache, write buffers, counters.
pub(super) struct Tuning {
    database: Options,
    cache: Cache,
    buffers: WriteBufferManager,
    write_buffer_bytes: usize,
}

impl Tuning {
    pub(super) fn new(settings: &HotSettings) -> Result<Self> {
        let buffer_bytes = settings.write_buffer_mib.max(2) * MIB;
        // Write buffers are charged to the cache, so that this one number bounds both.
        let cache = Cache::new_hyper_clock_cache(settings.block_cache_mib * MIB + buffer_bytes, 0);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(buffer_bytes, false, cache.clone());
        let database = database_options(&buffers)?;
        Ok(Self { database, cache, buffers, write_buffer_bytes: (buffer_bytes / 2).min(WRITE_BUFFER_BYTES_MAX) })
    }

    pub(super) fn database(&self) -> &Options {
        &self.database
    }

    pub(super) fn families(&self) -> [ColumnFamilyDescriptor; 2] {
        let data = self.family(self.write_buffer_bytes);
        let cache = self.family(CACHE_FAMILY_BUFFER_BYTES);
        [
            ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, data),
            ColumnFamilyDescriptor::new(CACHE_FAMILY, cache),
        ]
    }

    fn family(&self, write_buffer_bytes: usize) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_whole_key_filtering(true);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut family = Options::default();
        family.set_block_based_table_factory(&blocks);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_write_buffer_size(write_buffer_bytes);
        family.set_max_write_buffer_number(3);
        // Most inserts ask for a unique key that is absent.
        family.set_memtable_whole_key_filtering(true);
        family.set_memtable_prefix_bloom_ratio(0.05);
        // Flushed partitions leave runs of deletions that every scan would walk over.
        family.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
        family
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.cache.get_usage().saturating_sub(self.buffers.get_usage()) as u64
    }

    pub(super) fn counters(&self, commits: u64) -> StoreCounters {
        StoreCounters {
            commits,
            syncs: self.database.get_ticker_count(Ticker::WalFileSynced),
            bytes: self.database.get_ticker_count(Ticker::WalFileBytes),
        }
    }
}

fn database_options(buffers: &WriteBufferManager) -> Result<Options> {
    // The list of files names their first and last keys, those of removed files included. With these two, which
    // have no setter, it is written anew at each change, and scrubbing can get rid of the keys.
    let mut options = Options::default()
        .get_options_from_string("max_manifest_file_size=1;max_manifest_space_amp_pct=0")
        .map_err(|e| failed("setting up the hot tier", &e))?;
    options.set_manifest_preallocation_size(64 * 1024);
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(buffers);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_wal_bytes_per_sync(LOG_BYTES_PER_SYNC);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, log));
    Ok(options)
}

/// RocksDB's own log goes to ours. Below warnings it would name keys.
fn log(level: LogLevel, message: &str) {
    match level {
        LogLevel::Warn => tracing::warn!(target: "kalamdb_store::rocks", "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "kalamdb_store::rocks", "{message}"),
        _ => tracing::debug!(target: "kalamdb_store::rocks", "{message}"),
    }
}

/// The bytes of the write-ahead log's files.
pub(super) fn log_bytes(path: &Path) -> Result<u64> {
    let io = |e: std::io::Error| StoreError::system("listing the directory of the hot tier", &e);
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            // A file that went away since it was listed occupies nothing.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(bytes)
}
