//! The options of a table: one entry each in [`TABLE_OPTIONS`], with its name, its documentation, the values that
//! it takes and how it is read. CREATE TABLE, ALTER TABLE, their tests and the reference all go by that list.

use kalamdb_commons::ids::StorageId;
use kalamdb_commons::schema::{AccessLevel, Compression, FlushPolicy, TableKind, TableOptions};
use kalamdb_commons::{Error, Result};

use crate::cursor::first_duplicate;

/// The longest time to live, in seconds: a hundred years.
const TTL_SECONDS_MAX: u64 = 3_155_760_000;
/// The longest retention of deletions, in hours: a hundred years.
const RETENTION_HOURS_MAX: u64 = 876_600;
/// The longest flush interval, in seconds: a hundred years.
const INTERVAL_SECONDS_MAX: u64 = TTL_SECONDS_MAX;
/// The smallest target rate of false positives: smaller ones only make filters large.
const FPP_MIN: f64 = 0.000_001;

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
    /// BLOOM_FILTER_COLUMNS, by name, each once; the caller turns them into ids.
    pub bloom_filter_columns: Option<Vec<String>>,
    /// BLOOM_FILTER_OFF, in the same way.
    pub bloom_filter_off: Option<Vec<String>>,
    /// BLOOM_FILTER_FPP.
    pub bloom_filter_fpp: Option<f64>,
    /// COMPRESSION.
    pub compression: Option<Compression>,
}

/// One option of a table.
pub struct TableOption {
    /// Its name, in upper case; statements may write it in any.
    pub name: &'static str,
    /// What it does.
    pub documentation: &'static str,
    /// The values that it takes, in words.
    pub allowed: &'static str,
    /// One of them.
    pub example: &'static str,
    /// Reads a value into the set; `None` if it is not allowed.
    set: fn(&mut TableOptionSet, &str) -> Option<()>,
}

/// Every option of a table.
pub const TABLE_OPTIONS: &[TableOption] = &[
    TableOption {
        name: "TYPE",
        documentation: "The kind of the table, if CREATE TABLE does not begin with it.",
        allowed: "USER, SHARED or STREAM",
        example: "USER",
        set: |set, value| put(&mut set.kind, table_kind(value)),
    },
    TableOption {
        name: "STORAGE_ID",
        documentation: "The storage that holds the table's cold tier.",
        allowed: "the id of a storage, 1 to 64 bytes",
        example: "local",
        set: |set, value| put(&mut set.storage, StorageId::new(value).ok()),
    },
    TableOption {
        name: "FLUSH_POLICY",
        documentation: "When a partition is flushed without being asked: at a number of hot rows, or when the oldest \
                        hot row has an age.",
        allowed: "'rows:N', 'interval:S' or 'rows:N,interval:S', N rows and S seconds from 1",
        example: "rows:10000,interval:300",
        set: |set, value| put(&mut set.flush, flush_policy(value)),
    },
    TableOption {
        name: "TTL_SECONDS",
        documentation: "How long the rows of a STREAM table live.",
        allowed: "a whole number of seconds from 1 to 3155760000",
        example: "3600",
        set: |set, value| put(&mut set.ttl_seconds, whole(value, 1, TTL_SECONDS_MAX)),
    },
    TableOption {
        name: "ACCESS_LEVEL",
        documentation: "Who may use a SHARED table.",
        allowed: "public, private or restricted",
        example: "private",
        set: |set, value| put(&mut set.access_level, access_level(value)),
    },
    TableOption {
        name: "DELETED_RETENTION_HOURS",
        documentation: "How long deletions are kept for clients that come back.",
        allowed: "a whole number of hours from 0 to 876600",
        example: "168",
        set: |set, value| put(&mut set.deleted_retention_hours, whole(value, 0, RETENTION_HOURS_MAX)),
    },
    TableOption {
        name: "BLOOM_FILTER_COLUMNS",
        documentation: "Columns with Bloom filters in batch files, besides keys and indexes.",
        allowed: "the names of columns of the table between commas, each once, or nothing",
        example: "email,city",
        set: |set, value| put(&mut set.bloom_filter_columns, column_names(value)),
    },
    TableOption {
        name: "BLOOM_FILTER_OFF",
        documentation: "Columns without Bloom filters, though a key or an index has them; the rows' ids may be one.",
        allowed: "the names of columns of the table, that of the rows' ids too, between commas, each once, or nothing",
        example: "email",
        set: |set, value| put(&mut set.bloom_filter_off, column_names(value)),
    },
    TableOption {
        name: "BLOOM_FILTER_FPP",
        documentation: "The target rate of false positives of Bloom filters. Smaller reads fewer files and takes more \
                        memory.",
        allowed: "a number from 0.000001 to below 1",
        example: "0.01",
        set: |set, value| put(&mut set.bloom_filter_fpp, rate(value)),
    },
    TableOption {
        name: "COMPRESSION",
        documentation: "How batch files are compressed: lz4 is the fastest to read, zstd the smallest.",
        allowed: "none, snappy, lz4 or zstd",
        example: "zstd",
        set: |set, value| put(&mut set.compression, compression(value)),
    },
];

impl TableOptionSet {
    /// Sets an option by its name and value, each as the statement writes them. An unknown name and a bad value are
    /// errors that say what is allowed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let Some(option) = TABLE_OPTIONS.iter().find(|option| option.name.eq_ignore_ascii_case(name)) else {
            let names: Vec<&str> = TABLE_OPTIONS.iter().map(|option| option.name).collect();
            return Err(Error::invalid_input(format!(
                "unknown table option '{}'; allowed are {}",
                shown(name),
                names.join(", ")
            )));
        };
        (option.set)(self, value).ok_or_else(|| {
            let TableOption { name, allowed, .. } = option;
            Error::invalid_input(format!("the option {name} cannot be '{}'; allowed is {allowed}", shown(value)))
        })
    }

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
            bloom_filter_off: _,
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
        let Self {
            kind: _,
            storage,
            flush,
            ttl_seconds,
            access_level,
            deleted_retention_hours,
            bloom_filter_columns,
            bloom_filter_off,
            bloom_filter_fpp,
            compression,
        } = self;
        let (shared, stream) = (kind == TableKind::Shared, kind == TableKind::Stream);
        let uses = [
            ("STORAGE_ID", storage.is_some(), !stream, "USER and SHARED"),
            ("FLUSH_POLICY", flush.is_some(), !stream, "USER and SHARED"),
            ("TTL_SECONDS", ttl_seconds.is_some(), stream, "STREAM"),
            ("ACCESS_LEVEL", access_level.is_some(), shared, "SHARED"),
            ("DELETED_RETENTION_HOURS", deleted_retention_hours.is_some(), !stream, "USER and SHARED"),
            ("BLOOM_FILTER_COLUMNS", bloom_filter_columns.is_some(), !stream, "USER and SHARED"),
            ("BLOOM_FILTER_OFF", bloom_filter_off.is_some(), !stream, "USER and SHARED"),
            ("BLOOM_FILTER_FPP", bloom_filter_fpp.is_some(), !stream, "USER and SHARED"),
            ("COMPRESSION", compression.is_some(), !stream, "USER and SHARED"),
        ];
        match uses.iter().find(|(_, set, fits, _)| *set && !fits) {
            None => Ok(()),
            Some((name, _, _, kinds)) => Err(Error::invalid_input(format!(
                "the option {name} is for {kinds} tables; this is a {} table",
                kind.as_str().to_uppercase()
            ))),
        }
    }
}

fn put<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    *place = Some(value?);
    Some(())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn table_kind(value: &str) -> Option<TableKind> {
    [TableKind::User, TableKind::Shared, TableKind::Stream]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(value))
}

/// Reads an access level, in any case.
pub(crate) fn access_level(value: &str) -> Option<AccessLevel> {
    [AccessLevel::Public, AccessLevel::Private, AccessLevel::Restricted]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(value))
}

fn compression(value: &str) -> Option<Compression> {
    [
        ("none", Compression::None),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ]
    .into_iter()
    .find_map(|(name, compression)| name.eq_ignore_ascii_case(value).then_some(compression))
}

fn whole(value: &str, min: u64, max: u64) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| digits && (min..=max).contains(number))
}

fn rate(value: &str) -> Option<f64> {
    value.parse().ok().filter(|rate| (FPP_MIN..1.0).contains(rate))
}

/// `rows:N,interval:S`, in either order, each once.
fn flush_policy(value: &str) -> Option<FlushPolicy> {
    let mut policy = FlushPolicy::default();
    for part in value.split(',') {
        let (name, amount) = part.split_once(':')?;
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "rows" if policy.rows.is_none() => &mut policy.rows,
            "interval" if policy.interval_seconds.is_none() => &mut policy.interval_seconds,
            _ => return None,
        };
        let max = if name.trim().eq_ignore_ascii_case("rows") { u64::MAX } else { INTERVAL_SECONDS_MAX };
        *place = Some(whole(amount.trim(), 1, max)?);
    }
    Some(policy)
}

/// Names between commas: folded, unless in double quotes. No text is no names.
fn column_names(value: &str) -> Option<Vec<String>> {
    if value.trim().is_empty() {
        return Some(Vec::new());
    }
    let name = |part: &str| {
        let part = part.trim();
        let quoted = part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let name = quoted.map_or_else(|| part.to_ascii_lowercase(), str::to_owned);
        (!name.is_empty()).then_some(name)
    };
    let names: Vec<String> = value.split(',').map(name).collect::<Option<_>>()?;
    first_duplicate(&names).is_none().then_some(names)
}

#[cfg(test)]
mod tests;
