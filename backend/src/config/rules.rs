//! What each setting may be: one line per key whose kind of value does not say enough, and the rules between
//! keys. A test proves that every number has its range.

use std::net::IpAddr;

use kalamdb_auth::sealing::KEY_BYTES_MIN;
use kalamdb_auth::tokens::SECRET_BYTES_MIN;
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::settings::Settings;
use toml::Value;
use tracing_subscriber::EnvFilter;

use crate::fail_points;

/// What a key may be.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// A whole number in this range.
    Range(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text that passes; otherwise says what is allowed.
    Text(fn(&str) -> Result<(), String>),
}

const YEAR_SECONDS: i64 = 31_536_000;
const TIB_IN_MIB: i64 = 1_048_576;
const GIB: i64 = 1_073_741_824;
/// The least memory that OWASP recommends for Argon2id, with more passes.
const ARGON2_MEMORY_KIB_SOUND: u32 = 7_168;

/// The one table of ranges and words.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("server.node_id", Rule::Text(not_empty)),
    ("server.host", Rule::Text(host)),
    ("server.port", Rule::Range(0, 65_535)),
    ("server.public_url", Rule::Text(endpoint)),
    ("server.http_workers", Rule::Range(1, 256)),
    ("server.drain_seconds", Rule::Range(0, 3_600)),
    ("server.shutdown_timeout_seconds", Rule::Range(0, 3_600)),
    ("storage.data_dir", Rule::Text(not_empty)),
    ("storage.secrets_key", Rule::Text(secrets_key)),
    ("storage.s3_id", Rule::Text(storage_id)),
    ("storage.s3_endpoint", Rule::Text(endpoint)),
    ("hot.durability", Rule::OneOf(&["sync", "buffered"])),
    ("hot.block_cache_mib", Rule::Range(1, TIB_IN_MIB)),
    ("hot.write_buffer_mib", Rule::Range(1, TIB_IN_MIB)),
    ("hot.flush_at_mib", Rule::Range(1, TIB_IN_MIB)),
    ("hot.hard_limit_mib", Rule::Range(1, TIB_IN_MIB)),
    ("hot.commit_queue_max", Rule::Range(1, 1_000_000)),
    ("hot.group_changes_max", Rule::Range(1, 10_000_000)),
    ("hot.change_log_retention_seconds", Rule::Range(0, 10 * YEAR_SECONDS)),
    ("hot.change_log_trim_interval_seconds", Rule::Range(1, 86_400)),
    ("flush.rows", Rule::Range(1, 1_000_000_000)),
    ("flush.interval_seconds", Rule::Range(1, 10 * YEAR_SECONDS)),
    ("flush.check_interval_seconds", Rule::Range(1, 86_400)),
    ("flush.row_group_rows", Rule::Range(1, 100_000_000)),
    ("flush.page_rows", Rule::Range(1, 1_000_000)),
    ("compaction.check_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("compaction.batches_min", Rule::Range(2, 1_000_000)),
    ("compaction.small_rows", Rule::Range(0, 1_000_000_000)),
    ("compaction.dead_percent", Rule::Range(1, 100)),
    ("compaction.rows_max", Rule::Range(1, 4_000_000_000)),
    ("cold.metadata_cache_mib", Rule::Range(1, TIB_IN_MIB)),
    ("cold.open_files_max", Rule::Range(1, 1_000_000)),
    ("cold.request_timeout_seconds", Rule::Range(1, 3_600)),
    ("cold.request_retries_max", Rule::Range(0, 100)),
    ("cold.request_backoff_max_seconds", Rule::Range(1, 3_600)),
    ("cold.request_retry_seconds", Rule::Range(0, 3_600)),
    ("manifest_cache.ttl_seconds", Rule::Range(1, 10 * YEAR_SECONDS)),
    ("manifest_cache.eviction_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("manifest_cache.max_entries", Rule::Range(1, 10_000_000)),
    ("manifest_cache.last_accessed_memory_window", Rule::Range(1, 10 * YEAR_SECONDS)),
    ("manifest_cache.memory_mib", Rule::Range(1, TIB_IN_MIB)),
    ("manifest_cache.disk_mib", Rule::Range(1, TIB_IN_MIB)),
    ("limits.sql_bytes_max", Rule::Range(1, GIB)),
    ("limits.statements_max", Rule::Range(1, 100_000)),
    ("limits.params_max", Rule::Range(0, 65_535)),
    ("limits.param_bytes_max", Rule::Range(1, GIB)),
    ("limits.body_bytes_max", Rule::Range(1, 4 * GIB)),
    ("limits.import_bytes_max", Rule::Range(1, 1_024 * GIB)),
    ("limits.statement_rows_max", Rule::Range(1, 1_000_000_000)),
    ("limits.statement_bytes_max", Rule::Range(1, 64 * GIB)),
    ("limits.chunk_rows", Rule::Range(1, 1_000_000)),
    ("limits.response_buffer_bytes", Rule::Range(0, GIB)),
    ("limits.statement_timeout_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("limits.snapshot_age_max_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("limits.concurrent_statements_max", Rule::Range(1, 100_000)),
    ("limits.query_memory_mib", Rule::Range(1, TIB_IN_MIB)),
    ("limits.user_requests_per_second_max", Rule::Range(0, i64::MAX)),
    ("limits.user_parallel_statements_max", Rule::Range(0, i64::MAX)),
    ("limits.user_rows_scanned_per_minute_max", Rule::Range(0, i64::MAX)),
    ("limits.user_bytes_scanned_per_minute_max", Rule::Range(0, i64::MAX)),
    ("limits.user_subscriptions_max", Rule::Range(0, i64::MAX)),
    ("limits.user_storage_bytes_max", Rule::Range(0, i64::MAX)),
    ("limits.connection_requests_per_second_max", Rule::Range(0, i64::MAX)),
    ("limits.idempotency_hours", Rule::Range(1, 8_760)),
    ("limits.idempotency_answer_bytes_max", Rule::Range(1, GIB)),
    ("live.connections_max", Rule::Range(1, 1_000_000)),
    ("live.subscriptions_per_connection_max", Rule::Range(1, 1_000_000)),
    ("live.batch_rows", Rule::Range(1, 1_000_000)),
    ("live.batch_rows_max", Rule::Range(1, 1_000_000)),
    ("live.queue_rows_max", Rule::Range(1, 10_000_000)),
    ("live.message_bytes_max", Rule::Range(1, GIB)),
    ("live.messages_per_second_max", Rule::Range(1, 1_000_000)),
    ("live.idle_timeout_seconds", Rule::Range(1, 86_400)),
    ("live.send_timeout_seconds", Rule::Range(1, 86_400)),
    ("live.behind_seconds_max", Rule::Range(1, 31_536_000)),
    ("auth.token_secret", Rule::Text(token_secret)),
    ("auth.access_token_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("auth.refresh_token_seconds", Rule::Range(1, 10 * YEAR_SECONDS)),
    ("auth.password_length_min", Rule::Range(1, 128)),
    ("auth.argon2_memory_kib", Rule::Range(8, 4_194_304)),
    ("auth.dropped_user_hours", Rule::Range(0, 87_600)),
    ("auth.argon2_passes", Rule::Range(1, 1_000)),
    ("auth.logins_parallel_max", Rule::Range(1, 256)),
    ("auth.login_failures_per_minute_max", Rule::Range(1, 1_000_000)),
    ("auth.address_failures_per_minute_max", Rule::Range(1, 1_000_000)),
    ("audit.retention_days", Rule::Range(0, 36_500)),
    ("audit.refusals_per_minute_max", Rule::Range(1, 1_000_000)),
    ("audit.key", Rule::Text(token_secret)),
    ("jobs.parallel_max", Rule::Range(1, 256)),
    ("jobs.flush_parallel_max", Rule::Range(1, 256)),
    ("jobs.table_parallel_max", Rule::Range(1, 256)),
    ("jobs.queue_max", Rule::Range(1, 1_000_000)),
    ("jobs.attempts_max", Rule::Range(1, 1_000)),
    ("jobs.retry_seconds", Rule::Range(0, 86_400)),
    ("jobs.retry_seconds_max", Rule::Range(0, YEAR_SECONDS)),
    ("jobs.jitter_percent", Rule::Range(0, 90)),
    ("jobs.history_max", Rule::Range(0, 10_000_000)),
    ("jobs.history_days", Rule::Range(0, 36_500)),
    ("jobs.history_interval_seconds", Rule::Range(0, YEAR_SECONDS)),
    ("jobs.orphan_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("jobs.user_purge_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("jobs.stream_eviction_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("jobs.deleted_row_retention_interval_seconds", Rule::Range(0, YEAR_SECONDS)),
    ("jobs.audit_retention_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("jobs.answer_retention_interval_seconds", Rule::Range(1, YEAR_SECONDS)),
    ("jobs.integrity_check_interval_seconds", Rule::Range(0, YEAR_SECONDS)),
    ("clock.jump_max_seconds", Rule::Range(1, 10 * YEAR_SECONDS)),
    ("logging.level", Rule::Text(log_level)),
    ("logging.format", Rule::OneOf(&["text", "json"])),
    ("logging.slow_statement_ms", Rule::Range(0, YEAR_SECONDS)),
    ("tracing.otlp_endpoint", Rule::Text(plain_endpoint)),
    ("tracing.sample_percent", Rule::Range(0, 100)),
    ("tracing.service_name", Rule::Text(not_empty)),
    ("testing.fail_points", Rule::Text(fail_point_list)),
];

/// Every section and key, in the order of the file.
pub(super) fn paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    Settings::SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |(key, _)| (*section, *key)))
}

pub(super) fn rule(path: &str) -> Option<Rule> {
    RULES.iter().find(|(known, _)| *known == path).map(|(_, rule)| *rule)
}

/// What is allowed, if the value is not: its kind is that of the default, and the key's rule decides the rest.
pub(super) fn refusal(path: &str, default: &Value, value: &Value) -> Option<String> {
    let of_kind = std::mem::discriminant(default) == std::mem::discriminant(value);
    match (rule(path), value) {
        (Some(Rule::Range(min, max)), Value::Integer(n)) if (min..=max).contains(n) => None,
        (Some(Rule::Range(min, max)), _) => Some(format!("it must be a whole number from {min} to {max}")),
        (Some(Rule::OneOf(words)), Value::String(word)) if words.contains(&word.as_str()) => None,
        (Some(Rule::OneOf(words)), _) => Some(format!("it must be one of {}", quoted(words))),
        (Some(Rule::Text(check)), Value::String(text)) => check(text).err(),
        _ if of_kind => None,
        _ => Some(format!("it must be {}", kind(default))),
    }
}

/// What is allowed, for the example file. `None` if the documentation says it all.
pub(super) fn allowed(path: &str) -> Option<String> {
    match rule(path)? {
        Rule::Range(min, max) => Some(format!("{min} to {max}")),
        Rule::OneOf(words) => Some(quoted(words)),
        Rule::Text(_) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text, in quotes",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        _ => "a plain value",
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// What single keys cannot say. Each sentence names the keys, their values and what is allowed.
pub(super) fn conflicts(settings: &Settings) -> Vec<String> {
    let Settings { server, storage, hot, limits, auth, .. } = settings;
    let mut found = Vec::new();
    let mut require = |holds: bool, otherwise: &dyn Fn() -> String| {
        if !holds {
            found.push(otherwise());
        }
    };
    let speaks_tls = !server.tls_cert_file.is_empty();
    require(is_loopback(&server.host) || speaks_tls || server.allow_plaintext_remote, &|| {
        format!(
            "server.host = \"{}\" is not allowed: without TLS passwords would cross the network in the clear beyond \
             loopback (127.0.0.1, ::1, localhost); set server.tls_cert_file and server.tls_key_file, or put a TLS proxy \
             in front and set server.allow_plaintext_remote = true",
            server.host
        )
    });
    require(server.tls_cert_file.is_empty() == server.tls_key_file.is_empty(), &|| {
        "server.tls_cert_file and server.tls_key_file must both be set, or both be empty".to_owned()
    });
    require(hot.hard_limit_mib > hot.flush_at_mib, &|| {
        let (hard, flush) = (hot.hard_limit_mib, hot.flush_at_mib);
        format!("hot.hard_limit_mib = {hard} is not allowed: it must be greater than hot.flush_at_mib = {flush}")
    });
    require(auth.refresh_token_seconds >= auth.access_token_seconds, &|| {
        let (refresh, access) = (auth.refresh_token_seconds, auth.access_token_seconds);
        format!(
            "auth.refresh_token_seconds = {refresh} is not allowed: it must be at least auth.access_token_seconds = \
             {access}"
        )
    });
    require(limits.sql_bytes_max <= limits.body_bytes_max, &|| {
        let (sql, body) = (limits.sql_bytes_max, limits.body_bytes_max);
        format!("limits.sql_bytes_max = {sql} is not allowed: it must be at most limits.body_bytes_max = {body}")
    });
    require(limits.chunk_rows <= limits.statement_rows_max, &|| {
        let (chunk, statement) = (limits.chunk_rows, limits.statement_rows_max);
        format!(
            "limits.chunk_rows = {chunk} is not allowed: it must be at most limits.statement_rows_max = {statement}"
        )
    });
    let root = &auth.root_password;
    require(root.is_empty() || root.chars().count() >= auth.password_length_min, &|| {
        let min = auth.password_length_min;
        format!(
            "auth.root_password = \"***\" is not allowed: it must have at least auth.password_length_min = {min} characters"
        )
    });
    require(storage.s3_access_key_id.is_empty() == storage.s3_secret_access_key.is_empty(), &|| {
        "storage.s3_access_key_id and storage.s3_secret_access_key must both be set, or both be empty".to_owned()
    });
    require(storage.s3_bucket.is_empty() || storage.s3_id != "local", &|| {
        "storage.s3_id = \"local\" is not allowed: that is the storage in the data directory; choose another id"
            .to_owned()
    });
    found
}

/// What is allowed and hardly meant. Each is a whole sentence.
pub(super) fn warnings(settings: &Settings) -> Option<String> {
    let memory = settings.auth.argon2_memory_kib;
    (memory < ARGON2_MEMORY_KIB_SOUND).then(|| {
        format!(
            "auth.argon2_memory_kib = {memory} makes stolen hashes of passwords cheap to guess; at least \
             {ARGON2_MEMORY_KIB_SOUND} is sound"
        )
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("it must not be empty".to_owned()) } else { Ok(()) }
}

fn host(text: &str) -> Result<(), String> {
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if !text.is_empty() && (text.parse::<IpAddr>().is_ok() || is_name(text)) {
        return Ok(());
    }
    Err("it must be an IP address or a host name, without a port".to_owned())
}

fn storage_id(text: &str) -> Result<(), String> {
    StorageId::new(text).map(drop).map_err(|error| error.message().to_owned())
}

fn endpoint(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with("http://") || text.starts_with("https://") {
        return Ok(());
    }
    Err("it must be empty, or an address that begins with http:// or https://".to_owned())
}

fn plain_endpoint(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("http://").is_some_and(|rest| !rest.trim_matches('/').is_empty());
    if text.is_empty() || host {
        return Ok(());
    }
    Err("it must be empty, or an address that begins with http://".to_owned())
}

fn token_secret(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    Err(format!("it must be empty, or have at least {SECRET_BYTES_MIN} bytes; it has {}", text.len()))
}

fn secrets_key(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() >= KEY_BYTES_MIN {
        return Ok(());
    }
    Err(format!("it must be empty, or have at least {KEY_BYTES_MIN} bytes; it has {}", text.len()))
}

fn log_level(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text).map(drop).map_err(|error| {
        format!(
            "it must be error, warn, info, debug or trace, or such per module as in info,kalamdb_core=debug ({error})"
        )
    })
}

fn fail_point_list(text: &str) -> Result<(), String> {
    fail_points::parse(text).map(drop)
}
