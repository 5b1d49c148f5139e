//! What the server shows of itself: the rows of `system.*` and `information_schema.*`, SHOW and DESCRIBE.
//!
//! The engine fills a [`SystemView`] with the state of one moment and asks a [`SystemTable`] for its rows. Who may
//! not see an object gets no row of it, in no table; tables that are about the whole server are for `dba` and above
//! and do not exist for anybody else ([`SystemTable::readable_by`]). Secrets are masked here, not by who shows them.
//!
//! | module | holds |
//! |---|---|
//! | [`audit`] | `audit_log`, VERIFY AUDIT |
//! | [`catalog_tables`] | `users`, `namespaces`, `tables`, `schemas`, `columns` |
//! | [`server_tables`] | `storages`, `jobs`, `live`, `manifest`, `manifest_cache`, `stats`, `settings`, `cluster` |
//! | [`information_schema`] | `tables` and `columns` as PostgreSQL has them |
//! | [`usage_tables`] | `user_usage` |
//! | [`show`] | SHOW and DESCRIBE |
//! | [`sheet`] | rows of cells to Arrow |
//!
//! When you add a table, add it to [`tables`]; columns that are published in the specification come first and in
//! its order.

mod audit;
mod catalog_tables;
mod information_schema;
mod server_tables;
mod sheet;
pub mod show;
mod usage_tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_auth::policy::{Right, Verdict, decide};
use kalamdb_commons::error::Result;
use kalamdb_commons::ids::{Scope, StorageId, TableRef, UserId};
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::types::SchemaRef;
use kalamdb_filestore::CachedManifest;

use crate::catalog::Catalog;
use crate::engine::usage::UsageInfo;
use crate::jobs::JobRecord;
use sheet::Columns;

pub(crate) use audit::{audit_entries, verified};
pub(crate) use server_tables::storage_check;
pub(crate) use show::receipt;
pub use show::{describe, show};

/// The namespace of the server's own tables.
pub const SYSTEM: &str = "system";
/// The name of the audit log in it.
pub const AUDIT_LOG: &str = "audit_log";
/// The namespace of the tables that SQL standardises.
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// The name of the one database, where SQL wants a third part of a name.
pub const DATABASE: &str = "kalamdb";

/// The state of the server at one moment, as far as the table that is asked needs it: see [`Needs`].
#[derive(Debug, Clone)]
pub struct SystemView {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// Who asks.
    pub actor: Actor,
    /// The settings.
    pub settings: Arc<Settings>,
    /// Where settings that are not at their default came from, by `section.key`: `server.toml`, `environment`.
    pub setting_sources: BTreeMap<String, String>,
    /// The jobs, oldest first.
    pub jobs: Vec<JobRecord>,
    /// The storages.
    pub storages: Vec<StorageInfo>,
    /// Metrics of the server, by name.
    pub stats: Vec<(String, String)>,
    /// Metrics of the table that SHOW STATS FOR TABLE names, hot tier.
    pub table_stats: Vec<(String, String)>,
    /// The live queries that the actor may see.
    pub live: Vec<LiveInfo>,
    /// Manifests as JSON.
    pub manifests: Vec<(TableRef, Scope, String)>,
    /// Entries of the manifest cache.
    pub manifest_cache: Vec<CachedManifest>,
    /// What users use.
    pub usage: Vec<(UserId, UsageInfo)>,
    /// This node.
    pub node: NodeInfo,
}

impl SystemView {
    /// A view of the catalog and settings alone.
    pub fn new(catalog: Arc<Catalog>, actor: Actor, settings: Arc<Settings>) -> Self {
        let node = NodeInfo {
            node_id: settings.server.node_id.clone(),
            api_addr: format!("{}:{}", settings.server.host, settings.server.port),
        };
        Self {
            catalog,
            actor,
            settings,
            setting_sources: BTreeMap::new(),
            jobs: Vec::new(),
            storages: Vec::new(),
            stats: Vec::new(),
            table_stats: Vec::new(),
            live: Vec::new(),
            manifests: Vec::new(),
            manifest_cache: Vec::new(),
            usage: Vec::new(),
            node,
        }
    }
}

/// A storage, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageInfo {
    /// Its id.
    pub id: StorageId,
    /// Its name for people.
    pub name: String,
    /// `filesystem` or `s3`.
    pub storage_type: String,
    /// Where it begins: a directory, or `s3://bucket/prefix`.
    pub base_directory: String,
}

/// A live query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveInfo {
    /// The server's id of it, which KILL LIVE QUERY takes.
    pub live_id: String,
    /// The client's id of it.
    pub subscription_id: String,
    /// Its table, once that is known.
    pub table: Option<TableRef>,
    /// Whose.
    pub user: String,
    /// Its SQL.
    pub query: String,
    /// `loading`, `live` or `behind`.
    pub status: String,
    /// Changes sent so far.
    pub changes: u64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id.
    pub node_id: String,
    /// Where it listens.
    pub api_addr: String,
}

/// What of a [`SystemView`] a table reads besides the catalog and the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing else.
    Nothing,
    /// The jobs.
    Jobs,
    /// The storages.
    Storages,
    /// The metrics.
    Stats,
    /// The manifests.
    Manifests,
    /// The entries of the manifest cache.
    ManifestCache,
    /// What users use.
    Usage,
    /// The live queries.
    Live,
}

/// A table that the server answers by itself.
#[derive(Debug)]
pub struct SystemTable {
    /// [`SYSTEM`] or [`INFORMATION_SCHEMA`].
    pub namespace: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What its rows are made of.
    pub needs: Needs,
    right: Option<Right>,
    columns: Columns,
    fill: fn(&SystemView) -> Result<Vec<sheet::Row>>,
}

impl SystemTable {
    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        sheet::schema(self.columns)
    }

    /// Whether the table exists for a role.
    pub fn readable_by(&self, role: Role) -> bool {
        self.right.is_none_or(|right| decide(role, right) == Verdict::Allowed)
    }

    /// Its rows: those that the view's actor may see.
    pub fn rows(&self, view: &SystemView) -> Result<RecordBatch> {
        let rows = if self.readable_by(view.actor.role) { (self.fill)(view)? } else { Vec::new() };
        sheet::batch(self.columns, rows)
    }
}

const fn for_all(
    namespace: &'static str,
    name: &'static str,
    columns: Columns,
    fill: fn(&SystemView) -> Result<Vec<sheet::Row>>,
) -> SystemTable {
    SystemTable { namespace, name, needs: Needs::Nothing, right: None, columns, fill }
}

/// For everybody, who sees the rows of their own partitions.
const fn for_owners(
    name: &'static str,
    needs: Needs,
    columns: Columns,
    fill: fn(&SystemView) -> Result<Vec<sheet::Row>>,
) -> SystemTable {
    SystemTable { namespace: SYSTEM, name, needs, right: None, columns, fill }
}

const fn for_dba(
    name: &'static str,
    needs: Needs,
    columns: Columns,
    fill: fn(&SystemView) -> Result<Vec<sheet::Row>>,
) -> SystemTable {
    SystemTable { namespace: SYSTEM, name, needs, right: Some(Right::ServerTables), columns, fill }
}

static TABLES: [SystemTable; 17] = [
    // Its rows come page by page, from `tables`.
    for_dba(AUDIT_LOG, Needs::Nothing, audit::AUDIT_LOG, |_| Ok(Vec::new())),
    for_dba("cluster", Needs::Nothing, server_tables::CLUSTER, server_tables::cluster),
    for_all(SYSTEM, "columns", catalog_tables::COLUMNS, catalog_tables::columns),
    for_dba("jobs", Needs::Jobs, server_tables::JOBS, server_tables::jobs),
    for_owners("live", Needs::Live, server_tables::LIVE, server_tables::live),
    for_owners("manifest", Needs::Manifests, server_tables::MANIFEST, server_tables::manifest),
    for_owners("manifest_cache", Needs::ManifestCache, server_tables::MANIFEST_CACHE, server_tables::manifest_cache),
    for_all(SYSTEM, "namespaces", catalog_tables::NAMESPACES, catalog_tables::namespaces),
    for_all(SYSTEM, "schemas", catalog_tables::TABLES, catalog_tables::schemas),
    for_dba("settings", Needs::Nothing, server_tables::SETTINGS, server_tables::settings),
    for_dba("stats", Needs::Stats, server_tables::STATS, server_tables::stats),
    for_dba("storages", Needs::Storages, server_tables::STORAGES, server_tables::storages),
    for_all(SYSTEM, "tables", catalog_tables::TABLES, catalog_tables::tables),
    SystemTable {
        needs: Needs::Usage,
        ..for_all(SYSTEM, "user_usage", usage_tables::USER_USAGE, usage_tables::user_usage)
    },
    for_dba("users", Needs::Nothing, catalog_tables::USERS, catalog_tables::users),
    for_all(INFORMATION_SCHEMA, "columns", information_schema::COLUMNS, information_schema::columns),
    for_all(INFORMATION_SCHEMA, "tables", information_schema::TABLES, information_schema::tables),
];

/// Every system table.
pub fn tables() -> &'static [SystemTable] {
    &TABLES
}

/// A system table by name.
pub fn table(name: &TableRef) -> Option<&'static SystemTable> {
    TABLES.iter().find(|table| table.namespace == name.namespace.as_str() && table.name == name.table.as_str())
}

#[cfg(test)]
mod tests;
