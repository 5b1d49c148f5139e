//! All subscriptions of the server: their queries, channels, numbers and limits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use kalamdb_commons::ids::{Incarnation, PartitionId, SchemaVersion};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::Parsed;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::channel::Channel;
use super::lost_tails::LostTails;
use super::plan::{self, LiveQuery, Shape, Source};
use super::subscription::{Owner, Subscription};
use super::{LiveCode, LiveError, LiveSettings};
use crate::engine::{Engine, WeakEngine};
use crate::partition::Partition;
use crate::query::StatementScope;

/// Snapshots, and resumptions that the log does not reach, that are read at once. The others wait their turn.
const LOADS_MAX: usize = 8;
/// Short works that are done at once: a query is compiled, or a page of the log is read.
const READS_MAX: usize = 8;
/// Sorted snapshots that are held at once while their clients may ask for more.
const HELD_MAX: usize = 32;
/// From how many known queries on those that nobody has any more are forgotten.
const QUERIES_KEPT: usize = 1_024;

type QueryKey = (Incarnation, SchemaVersion, String);

/// Counts what the live queries did since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    fell_behind: AtomicU64,
    resyncs: AtomicU64,
    begun: AtomicU64,
}

impl Counters {
    pub(crate) fn fell_behind(&self) {
        self.fell_behind.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn resynced(&self) {
        self.resyncs.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) connections: u64,
    pub(crate) begun: u64,
    pub(crate) fell_behind: u64,
    pub(crate) resyncs: u64,
}

/// The live queries of the server.
#[derive(Debug)]
pub(crate) struct Hub {
    me: Weak<Hub>,
    engine: OnceLock<WeakEngine>,
    runtime: Handle,
    settings: LiveSettings,
    channels: DashMap<PartitionId, Arc<Channel>>,
    subscriptions: DashMap<u64, Arc<Subscription>>,
    queries: Mutex<HashMap<QueryKey, Weak<LiveQuery>>>,
    shapes: Mutex<HashMap<QueryKey, Weak<Shape>>>,
    forget_at: AtomicUsize,
    next: AtomicU64,
    connections: AtomicUsize,
    lost: LostTails,
    loads: Semaphore,
    reads: Semaphore,
    held: Semaphore,
    counters: Counters,
}

impl Hub {
    /// For an engine that is being opened on the present runtime.
    pub(crate) fn new(settings: LiveSettings, lost: LostTails) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            engine: OnceLock::new(),
            runtime: Handle::current(),
            settings,
            channels: DashMap::new(),
            subscriptions: DashMap::new(),
            queries: Mutex::default(),
            shapes: Mutex::default(),
            forget_at: AtomicUsize::new(QUERIES_KEPT),
            next: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            lost,
            loads: Semaphore::new(LOADS_MAX),
            reads: Semaphore::new(READS_MAX),
            held: Semaphore::new(HELD_MAX),
            counters: Counters::default(),
        })
    }

    pub(crate) fn serve(&self, engine: &WeakEngine) {
        // An engine opens once.
        let _first = self.engine.set(engine.clone());
    }

    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.get()?.upgrade()
    }

    pub(crate) fn settings(&self) -> &LiveSettings {
        &self.settings
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Places for what may read a whole partition.
    pub(crate) fn loads(&self) -> &Semaphore {
        &self.loads
    }

    /// Places for what is short.
    pub(crate) fn reads(&self) -> &Semaphore {
        &self.reads
    }

    /// Places for results that wait, sorted, for their clients.
    pub(crate) fn held(&self) -> &Semaphore {
        &self.held
    }

    /// The commit times that were lost.
    pub(crate) fn lost(&self) -> &LostTails {
        &self.lost
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(work).abort_handle()
    }

    /// A connection begins.
    pub(crate) fn connect(&self) -> Result<()> {
        let max = self.settings.connections_max;
        if self.connections.fetch_add(1, Ordering::SeqCst) >= max {
            self.connections.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::overloaded(format!("{max} live connections are open (live.connections_max)")));
        }
        Ok(())
    }

    /// A connection has ended.
    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    /// Makes a subscription, within its user's limit.
    pub(crate) fn subscribe(&self, id: Arc<str>, owner: Owner, sql: Arc<str>) -> Result<Arc<Subscription>, LiveError> {
        let engine = self.engine().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
        let limited = |error| LiveError::new(LiveCode::SubscriptionLimitExceeded, error);
        let counted = engine.begin_subscription(&owner.actor).map_err(limited)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let subscription = Subscription::new(number, id, owner, sql, counted);
        self.subscriptions.insert(number, subscription.clone());
        self.counters.begun.fetch_add(1, Ordering::Relaxed);
        Ok(subscription)
    }

    /// Ends a subscription and forgets it.
    pub(crate) fn end(&self, subscription: &Arc<Subscription>, reason: Option<LiveError>) {
        if !subscription.end(reason) {
            return;
        }
        self.subscriptions.remove(&subscription.number);
    }

    /// Ends the live query with a number, as KILL does.
    pub(crate) fn kill(&self, number: u64) -> bool {
        let Some(found) = self.subscriptions.get(&number).map(|found| found.clone()) else { return false };
        let reason = Error::new(kalamdb_commons::ErrorKind::Cancelled, "the live query was killed");
        self.end(&found, Some(LiveError::new(LiveCode::SubscriptionFailed, reason)));
        true
    }

    /// All subscriptions, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Subscription>> {
        let mut all: Vec<_> = self.subscriptions.iter().map(|entry| entry.value().clone()).collect();
        all.sort_unstable_by_key(|subscription| subscription.number);
        all
    }

    /// The subscribers of a partition.
    pub(crate) fn channel(&self, partition: &Arc<Partition>) -> Arc<Channel> {
        let make = || Channel::new(self.me.clone(), partition.clone());
        let mut channel = self.channels.entry(partition.id().clone()).or_insert_with(make);
        if !channel.is_of(partition) {
            // The other one was purged, and its name was given again.
            *channel = make();
        }
        channel.clone()
    }

    /// Forgets the channels of a life of a table that has ended.
    pub(crate) fn forget(&self, life: Incarnation) {
        self.channels.retain(|id, _| id.incarnation != life);
    }

    /// Forgets the channels that nobody uses.
    pub(crate) fn forget_unused(&self) {
        // Whoever is about to join one holds it, and gets one only under the same lock.
        self.channels.retain(|_, channel| Arc::strong_count(channel) > 1 || !channel.is_empty());
    }

    /// The live query of a statement, shared with everybody who asks the same of the same table, and what its snapshot is
    /// read from.
    pub(crate) fn plan(&self, scope: &StatementScope, parsed: Parsed) -> Result<(Arc<LiveQuery>, Source), LiveError> {
        let wanted = plan::read(scope, parsed)?;
        let (planner, source) = (scope.engine.planner(), wanted.source()?);
        let (life, version) = (wanted.table().incarnation, wanted.table().version);
        let key = (life, version, wanted.text.clone());
        if let Some(known) = self.queries.lock().get(&key).and_then(Weak::upgrade) {
            return Ok((known, source));
        }
        let shape_key = (life, version, wanted.list_text());
        let known = self.shapes.lock().get(&shape_key).and_then(Weak::upgrade);
        let shape = match known {
            Some(shape) => shape,
            None => {
                let shape = Arc::new(plan::shape(planner, &wanted)?);
                self.shapes.lock().insert(shape_key, Arc::downgrade(&shape));
                shape
            }
        };
        let query = Arc::new(plan::compile(planner, wanted, shape)?);
        self.remember(key, &query);
        Ok((query, source))
    }

    fn remember(&self, key: QueryKey, query: &Arc<LiveQuery>) {
        let mut queries = self.queries.lock();
        if queries.len() >= self.forget_at.load(Ordering::Relaxed) {
            queries.retain(|_, query| query.strong_count() > 0);
            self.shapes.lock().retain(|_, shape| shape.strong_count() > 0);
            self.forget_at.store(queries.len().max(QUERIES_KEPT) * 2, Ordering::Relaxed);
        }
        queries.insert(key, Arc::downgrade(query));
    }

    /// What the metrics show.
    pub(crate) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            connections: self.connections.load(Ordering::Relaxed) as u64,
            begun: read(&self.counters.begun),
            fell_behind: read(&self.counters.fell_behind),
            resyncs: read(&self.counters.resyncs),
        }
    }
}
