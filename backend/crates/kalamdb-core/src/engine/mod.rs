//! The engine: everything that is open while the server runs, and how it opens and closes.
//!
//! # Opening
//!
//! The store is opened (a second server on the directory is refused there), the catalog and the ceilings are read,
//! the clock is checked, every partition that was ever written to is counted, and the committer starts. Only then
//! is the first moment published. Contents that a DROP left behind and hot rows that a crash left behind a
//! published manifest are removed in the background.
//!
//! | module | does |
//! |---|---|
//! | [`execution`] | runs the statements of a request, one by one |
//! | [`audit`] | the audit log: entries by themselves, retention, verification |
//! | [`accounts`] | login, tokens, the first start |
//! | [`backups`] | BACKUP and RESTORE DATABASE |
//! | [`ddl`] | schema changes: verified against data, committed, then cleaned up after |
//! | [`storages`] | storages that SQL makes |
//! | [`figures`] | what `/metrics` and `system.stats` say |
//! | [`show`] | system tables, SHOW and DESCRIBE |
//! | [`exporting`] | EXPORT USER DATA |
//! | [`idempotency`] | requests that are safe to repeat |
//! | [`import`] | rows in bulk |
//! | [`manifest_eviction`] | partitions and manifests that are not used leave memory |
//! | [`manifest_rebuild`] | lost manifests are stored again |
//! | [`jobs`] | jobs that people submit; STORAGE FLUSH and COMPACT, KILL JOB |
//! | [`upkeep`] | what happens by itself and is no job; what DROP and TRUNCATE leave |
//! | [`checking`] | CHECK TABLE |
//! | [`weak`] | the engine as its parts hold it |

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod backups;
pub(crate) mod checking;
pub(crate) mod ddl;
pub(crate) mod execution;
pub(crate) mod exporting;
mod figures;
pub(crate) mod idempotency;
pub(crate) mod import;
pub(crate) mod jobs;
pub(crate) mod manifest_eviction;
pub(crate) mod manifest_rebuild;
pub(crate) mod show;
pub(crate) mod storages;
pub(crate) mod upkeep;
pub(crate) mod usage;
mod weak;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use kalamdb_commons::clock::{Clock, Entropy};
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::system_columns::{Ceilings, SystemColumns};
use kalamdb_commons::unique::TimeOrdered;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{ManifestService, Storages};
use kalamdb_store::{NodeCache, RocksShard, ShardStore, Snapshot, keys};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Param;
use crate::audit::chain::Chain;
use crate::catalog::{self, Catalog};
use crate::commit::locks::Locks;
use crate::commit::readers::{Published, Readers};
use crate::commit::{CEILINGS, Committer, Shard};
use crate::dml::constraints::Constraints;
use crate::jobs::{JobRunner, Records, executors};
use crate::live::hub::Hub;
use crate::live::lost_tails::LostTails;
use crate::metrics::Metrics;
use crate::partition::entries::NodeEntries;
use crate::partition::registry::Partitions;
use crate::partition::view::ColdTier;
use crate::query::prepare::Constants;
use crate::query::{Planner, StatementScope};
use accounts::Accounts;
use audit::Audit;
use idempotency::Idempotency;
use storages::Secrets;
use usage::Usage;
pub(crate) use weak::WeakEngine;

/// The engine.
#[derive(Debug)]
pub struct Engine {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn ShardStore>,
    system: Arc<SystemColumns>,
    committer: Arc<Committer>,
    partitions: Arc<Partitions>,
    cold: ColdTier,
    planner: Planner,
    constraints: Constraints,
    secrets: Secrets,
    locks: Arc<Locks>,
    jobs: JobRunner,
    accounts: Accounts,
    idempotency: Idempotency,
    audit: Audit,
    usage: Usage,
    metrics: Arc<Metrics>,
    live: Arc<Hub>,
    ddl: tokio::sync::Mutex<()>,
    setting_sources: Mutex<BTreeMap<String, String>>,
    address: OnceLock<SocketAddr>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    weak: WeakEngine,
}

/// Job records go through the one committer.
#[derive(Debug)]
struct CommittedRecords(Arc<Committer>);

#[async_trait]
impl Records for CommittedRecords {
    async fn put(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()> {
        self.0.records(puts, deletes).await
    }
}

impl Engine {
    /// Opens the data directory.
    ///
    /// # Errors
    /// If another server has the directory open, the clock stands too far ahead, or stored data is damaged.
    pub async fn open(settings: Arc<Settings>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Arc<Self>> {
        let hot = Path::new(&settings.storage.data_dir).join("hot");
        let store = RocksShard::open(&hot, &settings.hot)?;
        Self::open_with(settings, clock, entropy, store.clone(), store).await
    }

    /// The same on a store that is open already, and its cache.
    async fn open_with(
        settings: Arc<Settings>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        store: Arc<dyn ShardStore>,
        node_cache: Arc<dyn NodeCache>,
    ) -> Result<Arc<Self>> {
        let storages = Storages::open(&settings)?;
        let snapshot = store.snapshot().await?;
        let catalog = Arc::new(catalog::load(snapshot.as_ref()).await?);
        let secrets = Secrets::new(&settings.storage, entropy.clone());
        storages::open_all(&catalog, &storages, &secrets)?;
        let system = Arc::new(begin_time(&settings, &clock, store.as_ref(), snapshot.as_ref()).await?);
        let partitions = Arc::new(Partitions::recover(snapshot.as_ref(), &catalog).await?);
        for partition in partitions.all() {
            system.observe(partition.record().flushed_through);
        }
        let key = Arc::new(audit::open_key(&settings, &entropy, snapshot.as_ref()).await?);
        let chain = Chain::load(snapshot.as_ref(), key.clone()).await?;
        let (begins_above, durability) = (system.last_updated(), settings.hot.durability);
        let lost =
            LostTails::at_start(store.as_ref(), snapshot.as_ref(), &partitions, begins_above, durability).await?;
        let live = Hub::new(settings.live.clone(), lost);
        let first = Published { snapshot: snapshot.clone(), through: system.last_updated(), catalog };
        let readers = Readers::new(first);
        let metrics = Arc::<Metrics>::default();
        let shard = Shard { store: store.clone(), system: system.clone(), partitions: partitions.clone() };
        let (committer, committing) = Committer::start(shard, readers, &settings.hot, chain, metrics.clone());
        let records = Arc::new(CommittedRecords(committer.clone()));
        let node_id = &settings.server.node_id;
        let jobs =
            JobRunner::start(snapshot.as_ref(), records, clock.clone(), entropy.clone(), &settings.jobs, node_id)
                .await?;
        let ids = Arc::new(TimeOrdered::new(clock.clone(), entropy.clone()));
        let planner = Planner::new(&settings, system.clone(), ids)?;
        let accounts = Accounts::open(&settings, &entropy, &committer, snapshot.as_ref(), &clock).await?;
        let entries = Arc::new(NodeEntries(node_cache));
        let manifests = ManifestService::with_cache(storages, clock.clone(), &settings.manifest_cache, Some(entries));
        let memory_bytes = settings.manifest_cache.memory_mib.saturating_mul(1 << 20);
        let cold = ColdTier::new(manifests, memory_bytes, clock.clone());
        let engine = Arc::new_cyclic(|weak| Self {
            settings,
            usage: Usage::new(clock.clone()),
            clock,
            store,
            system,
            committer,
            partitions,
            cold,
            planner,
            constraints: Constraints::default(),
            secrets,
            locks: Arc::default(),
            jobs,
            accounts,
            idempotency: Idempotency::default(),
            audit: Audit::new(key),
            metrics,
            live,
            ddl: tokio::sync::Mutex::new(()),
            setting_sources: Mutex::default(),
            address: OnceLock::new(),
            stop: CancellationToken::new(),
            tasks: Mutex::new(vec![committing]),
            weak: WeakEngine::new(weak.clone()),
        });
        engine.jobs.begin(executors::all(&engine)).await?;
        engine.live.serve(&engine.weak);
        engine.begin_upkeep();
        Ok(engine)
    }

    /// Stops jobs, carries out what is queued, and closes the store. What was acknowledged is durable already.
    pub async fn close(&self) -> Result<()> {
        self.stop.cancel();
        self.jobs.shutdown(Duration::from_secs(self.settings.server.shutdown_timeout_seconds)).await;
        self.bring_audit_up().await;
        self.committer.close();
        let tasks: Vec<JoinHandle<()>> = std::mem::take(&mut *self.tasks.lock());
        // The first is the committer's, which ends with the last handle on it.
        for task in tasks.into_iter().skip(1) {
            // A task that panicked has said so; the others have ended.
            drop(task.await);
        }
        if let Err(error) = self.committer.end().await {
            // The next start takes the times and ids that were reserved for used.
            tracing::warn!(%error, "what this run has reserved and not used could not be given back");
        }
        self.store.sync().await?;
        // IMPORTANT: after that. Until it is said, clients that come back may have been told of what was lost.
        self.live.lost().nothing_more_was_lost(self.store.as_ref()).await?;
        self.store.sync().await?;
        Ok(self.store.close().await?)
    }

    /// Where the server listens, for whoever asks how to connect.
    pub fn set_address(&self, address: SocketAddr) {
        // A server listens once.
        let _first = self.address.set(address);
    }

    /// The URL under which clients reach the server.
    pub(crate) fn public_url(&self) -> String {
        let server = &self.settings.server;
        if !server.public_url.is_empty() {
            return server.public_url.trim_end_matches('/').to_owned();
        }
        let scheme = if server.tls_cert_file.is_empty() { "http" } else { "https" };
        match self.address.get() {
            Some(address) => format!("{scheme}://{address}"),
            None => format!("{scheme}://{}:{}", server.host, server.port),
        }
    }

    /// Where settings that are not at their default came from, for `system.settings`.
    pub fn set_setting_sources(&self, sources: BTreeMap<String, String>) {
        *self.setting_sources.lock() = sources;
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The hot tier's store: for tests and counters.
    pub fn store(&self) -> &Arc<dyn ShardStore> {
        &self.store
    }

    /// Whether writes are taken: not while the store is to reopen after a failed one.
    pub fn is_writable(&self) -> bool {
        self.store.is_writable()
    }

    /// The component that makes system columns.
    pub fn system_columns(&self) -> &Arc<SystemColumns> {
        &self.system
    }

    pub(crate) fn weak(&self) -> WeakEngine {
        self.weak.clone()
    }

    pub(crate) fn committer(&self) -> &Arc<Committer> {
        &self.committer
    }

    pub(crate) fn partitions(&self) -> &Arc<Partitions> {
        &self.partitions
    }

    pub(crate) fn cold(&self) -> &ColdTier {
        &self.cold
    }

    pub(crate) fn planner(&self) -> &Planner {
        &self.planner
    }

    pub(crate) fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// The right to change the schema.
    pub(crate) async fn schema_changes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.ddl.lock().await
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(crate) fn live(&self) -> &Arc<Hub> {
        &self.live
    }

    pub(crate) fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// The background jobs.
    pub fn jobs(&self) -> &JobRunner {
        &self.jobs
    }

    /// The newest catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.committer.readers().newest().catalog.clone()
    }

    /// The newest published commit time.
    pub fn published_through(&self) -> CommitTime {
        self.committer.readers().newest().through
    }

    /// What a statement's literals are made from.
    pub(crate) fn constants<'a>(&self, actor: &'a Actor, params: &'a [Param]) -> Constants<'a> {
        Constants { params, user: &actor.user, now_ns: self.clock.now_ns() }
    }

    /// Hot bytes, counted: the values of current rows, garbage that is not removed yet included.
    pub(crate) fn hot_bytes(&self) -> u64 {
        self.partitions.hot().bytes()
    }

    /// Refuses writes at the hard limit of the hot tier, until a flush has caught up.
    pub fn check_hot_limit(&self) -> Result<()> {
        if self.hot_bytes() < self.settings.hot.hard_limit_mib << 20 {
            return Ok(());
        }
        Err(Error::overloaded(format!(
            "the hot tier is at its limit of {} MiB (hot.hard_limit_mib); flushes make room, and rows \
             of STREAM tables do when they expire: try again",
            self.settings.hot.hard_limit_mib
        )))
    }

    /// Runs a plan whose result a statement needs whole, within its limits of rows and bytes.
    pub(crate) async fn collect_limited(&self, scope: &StatementScope, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
        let limits = &self.settings.limits;
        let mut stream = crate::query::stream::run(scope, plan).await?;
        let (mut batches, mut rows, mut bytes) = (Vec::new(), 0usize, 0usize);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            if rows > limits.statement_rows_max {
                return Err(Error::too_large(format!(
                    "the statement would write more than {} rows (limits.statement_rows_max); split it",
                    limits.statement_rows_max
                )));
            }
            // Arrow's buffers are larger than the rows they hold; the exact limit is applied to encoded rows.
            if bytes > limits.statement_bytes_max.saturating_mul(4) {
                return Err(Error::too_large(format!(
                    "the statement would write more than {} bytes of rows (limits.statement_bytes_max); split it",
                    limits.statement_bytes_max
                )));
            }
            batches.push(batch);
        }
        Ok(batches)
    }
}

/// Both sequences of time, above everything that a run before used, with their ceilings durable.
async fn begin_time(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    store: &dyn ShardStore,
    snapshot: &dyn Snapshot,
) -> Result<SystemColumns> {
    let key = keys::system(CEILINGS.0, CEILINGS.1);
    let ceilings: Ceilings = match snapshot.get(&key).await? {
        Some(value) => serde_json::from_slice(&value)
            .map_err(|error| Error::corrupt("the record of the clock's ceilings is damaged").with_source(error))?,
        None => Ceilings::default(),
    };
    let jump_max_ns = i64::try_from(settings.clock.jump_max_seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
    let ahead = clock.now_ns() - ceilings.updated_ns;
    let jumped = ceilings.updated_ns > 0 && ahead > jump_max_ns;
    if jumped && !settings.clock.accept_jump {
        return Err(Error::invalid_input(format!(
            "the clock is {} s ahead of the last commit, more than clock.jump_max_seconds = {}; set the clock right, or \
             start once with clock.accept_jump = true",
            ahead / 1_000_000_000,
            settings.clock.jump_max_seconds
        )));
    }
    let ceilings = if jumped { Ceilings { updated_ns: clock.now_ns(), id_ms: clock.now_ms() } } else { ceilings };
    let system = SystemColumns::new(clock.clone(), &settings.server.node_id, ceilings, jump_max_ns);
    if let Some(next) = system.reserve() {
        let mut batch = kalamdb_store::Batch::default();
        batch.put(key, serde_json::to_vec(&next).unwrap_or_else(|_| unreachable!("two numbers")));
        // IMPORTANT: durable before any value below the new ceilings is used.
        store.commit(store.token(), batch).await?;
        store.sync().await?;
        system.reserved(next);
    }
    Ok(system)
}
