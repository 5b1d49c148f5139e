//! `system.storages`, `jobs`, `stats`, `settings` and `cluster`: the server as a whole, for `dba`; `live`, `manifest` and
//! `manifest_cache`, of which others see what is about themselves.

use arrow::array::RecordBatch;
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::types::ColumnType::{BigInt, Boolean, Json, Text, Timestamp};
use kalamdb_filestore::StorageCheck;
use serde_json::Value;

use super::SystemView;
use super::sheet::{self, Cell, Columns, Row};

/// What is shown in the place of a secret that is set.
const MASK: &str = "***";

pub(super) const STORAGES: Columns = &[
    ("storage_id", Text),
    ("storage_name", Text),
    ("storage_type", Text),
    ("base_directory", Text),
    ("shared_tables_template", Text),
    ("user_tables_template", Text),
];

pub(super) fn storages(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.storages.iter().map(|storage| {
        vec![
            storage.id.as_str().into(),
            storage.name.clone().into(),
            storage.storage_type.clone().into(),
            storage.base_directory.clone().into(),
            "{namespace}/{table}/shared".into(),
            "{namespace}/{table}/user_{user}".into(),
        ]
    });
    Ok(rows.collect())
}

const STORAGE_CHECK: Columns = &[
    ("storage_id", Text),
    ("status", Text),
    ("writable", Boolean),
    ("readable", Boolean),
    ("listable", Boolean),
    ("deletable", Boolean),
    ("conditional_writes", Boolean),
    ("extended", Boolean),
    ("tables", BigInt),
    ("latency_ms", BigInt),
    ("error", Text),
];

/// The answer to STORAGE CHECK. `tables` use the storage; the check took `latency_ms`.
pub(crate) fn storage_check(
    id: &StorageId,
    check: &StorageCheck,
    tables: usize,
    latency_ms: i64,
) -> Result<RecordBatch> {
    let status = if check.error.is_none() { "healthy" } else { "failed" };
    let row = vec![
        id.as_str().into(),
        status.into(),
        check.writable.into(),
        check.readable.into(),
        check.listable.into(),
        check.deletable.into(),
        check.conditional_writes.into(),
        check.extended.into(),
        i64::try_from(tables).unwrap_or(i64::MAX).into(),
        latency_ms.into(),
        check.error.clone().into(),
    ];
    sheet::batch(STORAGE_CHECK, vec![row])
}

pub(super) const JOBS: Columns = &[
    ("job_id", Text),
    ("job_type", Text),
    ("status", Text),
    ("parameters", Json),
    ("message", Text),
    ("progress", Json),
    ("created_at", Timestamp),
    ("started_at", Timestamp),
    ("finished_at", Timestamp),
    ("node_id", Text),
    ("attempts", BigInt),
    ("next_attempt_at", Timestamp),
    ("submitted_by", Text),
    ("idempotency_key", Text),
];

pub(super) fn jobs(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.jobs.iter().map(|job| {
        let progress = serde_json::json!({ "rows": job.progress.rows, "bytes": job.progress.bytes });
        vec![
            job.job_id.as_str().into(),
            job.job_type.as_str().into(),
            job.status.as_str().into(),
            job.parameters.to_string().into(),
            job.message.as_str().into(),
            progress.to_string().into(),
            Cell::Time(job.created_at_ms),
            job.started_at_ms.map_or(Cell::Null, Cell::Time),
            job.finished_at_ms.map_or(Cell::Null, Cell::Time),
            job.node_id.as_str().into(),
            i64::from(job.attempts).into(),
            job.next_attempt_at_ms.map_or(Cell::Null, Cell::Time),
            job.submitted_by.as_ref().map(|user| user.as_str()).into(),
            job.idempotency_key.as_deref().into(),
        ]
    });
    Ok(rows.collect())
}

pub(super) const MANIFEST: Columns =
    &[("namespace_id", Text), ("table_name", Text), ("scope", Text), ("manifest_json", Json)];

pub(super) fn manifest(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.manifests.iter().map(|(table, scope, json)| {
        let scope = scope.user().map_or("shared", |user| user.as_str());
        vec![table.namespace.as_str().into(), table.table.as_str().into(), scope.into(), json.as_str().into()]
    });
    Ok(rows.collect())
}

pub(super) const MANIFEST_CACHE: Columns = &[
    ("namespace", Text),
    ("table", Text),
    ("user_id", Text),
    ("etag", Text),
    ("last_refreshed", Timestamp),
    ("last_accessed", Timestamp),
    ("ttl", BigInt),
    ("source", Text),
    ("sync_state", Text),
];

pub(super) fn manifest_cache(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.manifest_cache.iter().map(|entry| {
        vec![
            entry.table.namespace.as_str().into(),
            entry.table.table.as_str().into(),
            entry.scope.user().map(|user| user.as_str()).into(),
            entry.etag.as_deref().into(),
            Cell::Time(entry.last_refreshed_ms),
            entry.last_accessed_ms.map_or(Cell::Null, Cell::Time),
            Cell::Int(entry.ttl_seconds),
            entry.source.as_str().into(),
            entry.sync_state.as_str().into(),
        ]
    });
    Ok(rows.collect())
}

pub(super) const LIVE: Columns = &[
    ("live_id", Text),
    ("subscription_id", Text),
    ("namespace_id", Text),
    ("table_name", Text),
    ("user_id", Text),
    ("query", Text),
    ("status", Text),
    ("changes", BigInt),
];

pub(super) fn live(view: &SystemView) -> Result<Vec<Row>> {
    let rows = view.live.iter().map(|live| {
        let table = live.table.as_ref();
        vec![
            live.live_id.as_str().into(),
            live.subscription_id.as_str().into(),
            table.map(|table| table.namespace.as_str()).into(),
            table.map(|table| table.table.as_str()).into(),
            live.user.as_str().into(),
            live.query.as_str().into(),
            live.status.as_str().into(),
            i64::try_from(live.changes).unwrap_or(i64::MAX).into(),
        ]
    });
    Ok(rows.collect())
}

pub(super) const STATS: Columns = &[("metric_name", Text), ("metric_value", Text)];

pub(super) fn stats(view: &SystemView) -> Result<Vec<Row>> {
    Ok(view.stats.iter().map(|(name, value)| vec![name.as_str().into(), value.as_str().into()]).collect())
}

pub(super) const SETTINGS: Columns = &[("name", Text), ("value", Text), ("source", Text), ("description", Text)];

pub(super) fn settings(view: &SystemView) -> Result<Vec<Row>> {
    let values = serde_json::to_value(&*view.settings)
        .map_err(|error| Error::internal("the settings cannot be written as JSON").with_source(error))?;
    let mut rows = Vec::new();
    for (section, keys) in Settings::SECTIONS {
        for (key, description) in *keys {
            let name = format!("{section}.{key}");
            let shown = match &values[*section][*key] {
                Value::String(text) if Settings::SECRETS.contains(&name.as_str()) && !text.is_empty() => {
                    MASK.to_owned()
                }
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let source = view.setting_sources.get(&name).map_or("default", String::as_str);
            rows.push(vec![name.as_str().into(), shown.into(), source.into(), description.trim().into()]);
        }
    }
    Ok(rows)
}

pub(super) const CLUSTER: Columns =
    &[("node_id", Text), ("role", Text), ("is_leader", Boolean), ("is_self", Boolean), ("api_addr", Text)];

pub(super) fn cluster(view: &SystemView) -> Result<Vec<Row>> {
    let node = &view.node;
    Ok(vec![vec![
        node.node_id.as_str().into(),
        "leader".into(),
        true.into(),
        true.into(),
        node.api_addr.as_str().into(),
    ]])
}
