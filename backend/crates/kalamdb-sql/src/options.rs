//! The options of a table: one entry each in [`TABLE_OPTIONS`], with its name, its documentation, the values that
//! it takes and how it is read.

use kalamdb_commons::ids::StorageId;
use kalamdb_commons::schema::{AccessLevel, Compression, FlushPolicy, TableKind, TableOptions};
use kalamdb_commons::{Error, Result};

/// The options that a statement sets; what is `None` it did not mention.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TableOptionSet {
    /// TYPE.
    pub kind: Option<TableKind>,
    /// STORAGE_ID.
    pub storage: Option<StorageId>,
    /// FLUSH_POLICY, `FLUSH ROW_THRESHOLD n INTERVAL Ss`.
    pub flush: Option<FlushPolicy>,
    /// TTL_SECONDS, `TTL n`.
    pub ttl_seconds: Option<u64>,
    /// ACCESS_LEVEL.
    pub access_level: Option<AccessLevel>,
    /// DELETED_RETENTION_HOURS.
    pub deleted_retention_hours: Option<u64>,
    /// BLOOM_FILTER_COLUMNS, by name; the caller turns them into ids.
    pub bloom_filter_columns: Option<Vec<String>>,
    /// BLOOM_FILTER_FPP.
    pub bloom_filter_fpp: Option<f64>,
    /// COMPRESSION.
    pub compression: Option<Compression>,
}

impl TableOptionSet {
    /// Sets everything that was mentioned, but the kind and the columns of Bloom filters.
    pub fn apply(&self, options: &mut TableOptions) {
        let Self {
            kind: _,
            storage,
            flush,
            ttl_seconds,
            access_level,
            deleted_retention_hours,
            bloom_filter_columns: _,
            bloom_filter_fpp,
            compression,
        } = self;
        if let Some(storage) = storage {
            options.storage = storage.clone();
        }
        options.flush = flush.unwrap_or(options.flush);
        options.ttl_seconds = ttl_seconds.or(options.ttl_seconds);
        options.access_level = access_level.unwrap_or(options.access_level);
        options.deleted_retention_hours = deleted_retention_hours.unwrap_or(options.deleted_retention_hours);
        options.bloom_filter_fpp = bloom_filter_fpp.unwrap_or(options.bloom_filter_fpp);
        options.compression = compression.unwrap_or(options.compression);
    }

    /// Refuses an option that means nothing for a table of the kind, by name.
    pub fn check(&self, kind: TableKind) -> Result<()> {
        let refused = |name: &str, only: &str| {
            Err(Error::invalid_input(format!(
                "the option {name} is for {only} tables; this is a {} table",
                kind.as_str()
            )))
        };
        if self.access_level.is_some() && kind != TableKind::Shared {
            return refused("ACCESS_LEVEL", "SHARED");
        }
        if self.ttl_seconds.is_some() && kind != TableKind::Stream {
            return refused("TTL_SECONDS", "STREAM");
        }
        if kind == TableKind::Stream {
            let cold = [
                ("STORAGE_ID", self.storage.is_some()),
                ("FLUSH_POLICY", self.flush.is_some()),
                ("DELETED_RETENTION_HOURS", self.deleted_retention_hours.is_some()),
                ("BLOOM_FILTER_COLUMNS", self.bloom_filter_columns.is_some()),
                ("BLOOM_FILTER_FPP", self.bloom_filter_fpp.is_some()),
                ("COMPRESSION", self.compression.is_some()),
            ];
            if let Some((name, _)) = cold.iter().find(|(_, set)| *set) {
                return refused(name, "USER and SHARED");
            }
        }
        Ok(())
    }
}
