//! A partition's subscribers, and the one reader of its change log that serves those who keep up.
//!
//! # A change's way
//!
//! The committer publishes a group and calls [`Watcher::published`]. That starts the channel's reader, unless it runs:
//! it reads the log from where it stands through the published U, asks each query that the page may concern, and hands
//! the changes to the query's subscribers. One whose connection has no room leaves the channel, keeps its cursor, and
//! reads the log by itself until it has caught up.
//!
//! # Joining
//!
//! Whoever reads the log by itself joins between two pages ([`Channel::pause`]), where what it has read and what the
//! channel has served are the same: nothing is missed and nothing is sent twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::{Error, Result};
use kalamdb_store::rows::key_bytes;
use parking_lot::Mutex;

use super::change::{PageCache, changes_for};
use super::hub::Hub;
use super::log::{self, ChangePage, LogRange};
use super::outbox::Changes;
use super::plan::LiveQuery;
use super::subscription::{Status, Subscription};
use super::{LiveError, feeder, guard};
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::partition::log_pins::LogPin;
use crate::partition::{Partition, Watcher};

/// How many queries are asked about a page before others get a turn.
const QUERIES_PER_TURN: usize = 256;

type QueryId = usize;

/// The subscribers of one query.
#[derive(Debug)]
struct Group {
    query: Arc<LiveQuery>,
    /// By their subscriptions' numbers.
    members: BTreeMap<u64, Member>,
}

#[derive(Debug, Clone)]
struct Member {
    subscription: Arc<Subscription>,
    /// What it had when it joined.
    from: CommitTime,
}

#[derive(Debug, Default)]
struct State {
    /// Where the reader stands; `None` while nobody subscribes.
    pin: Option<LogPin>,
    groups: HashMap<QueryId, Group>,
    /// Queries by the value that they ask of a column.
    routed: HashMap<usize, HashMap<Vec<u8>, BTreeSet<QueryId>>>,
    /// Queries that every change may concern.
    unrouted: BTreeSet<QueryId>,
    /// The version of the catalog by which the subscribers' rights were looked at.
    checked_at: u64,
}

/// Whether the reader runs. It has a lock of its own, so that a committer that publishes never waits for a delivery.
#[derive(Debug, Default)]
struct Reader {
    runs: bool,
    /// Something was published since it looked.
    again: bool,
}

/// A partition's subscribers.
#[derive(Debug)]
pub(crate) struct Channel {
    me: Weak<Channel>,
    hub: Weak<Hub>,
    partition: Arc<Partition>,
    state: Mutex<State>,
    reader: Mutex<Reader>,
    delivery: tokio::sync::Mutex<()>,
}

impl Channel {
    pub(crate) fn new(hub: Weak<Hub>, partition: Arc<Partition>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            hub,
            partition,
            state: Mutex::default(),
            reader: Mutex::default(),
            delivery: tokio::sync::Mutex::default(),
        })
    }

    /// Holds the reader between two pages. Who holds it may read the log up to [`Self::through`] and join.
    pub(crate) async fn pause(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.delivery.lock().await
    }

    /// How far the reader has served; `None` while nobody subscribes.
    pub(crate) fn through(&self) -> Option<CommitTime> {
        self.state.lock().pin.as_ref().map(LogPin::cursor)
    }

    /// Adds a subscriber who has read the log through its pin, which is not before [`Self::through`]. The reader is
    /// paused.
    pub(crate) fn join(self: &Arc<Self>, query: &Arc<LiveQuery>, subscription: &Arc<Subscription>, pin: LogPin) {
        let from = pin.cursor();
        let id = Arc::as_ptr(query) as QueryId;
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.pin.is_none() {
            state.pin = Some(pin);
            self.partition.set_watcher(Some(self.clone()));
        }
        let group = state.groups.entry(id).or_insert_with(|| {
            match &query.route {
                Some(route) => {
                    let values = state.routed.entry(route.column).or_default();
                    values.entry(route.value.clone()).or_default().insert(id);
                }
                None => drop(state.unrouted.insert(id)),
            }
            Group { query: query.clone(), members: BTreeMap::new() }
        });
        group.members.insert(subscription.number, Member { subscription: subscription.clone(), from });
        subscription.set_status(Status::Live);
        subscription.set_channel(self.me.upgrade());
    }

    /// Removes a subscriber, if it is there.
    pub(crate) fn leave(&self, subscription: &Arc<Subscription>) {
        let Some(query) = subscription.query() else { return };
        let mut state = self.state.lock();
        self.remove(&mut state, query, subscription);
    }

    fn remove(&self, state: &mut State, query: &Arc<LiveQuery>, subscription: &Arc<Subscription>) {
        let id = Arc::as_ptr(query) as QueryId;
        let Some(group) = state.groups.get_mut(&id) else { return };
        group.members.remove(&subscription.number);
        if !group.members.is_empty() {
            return;
        }
        state.groups.remove(&id);
        state.unrouted.remove(&id);
        if let Some(route) = &query.route
            && let Some(values) = state.routed.get_mut(&route.column)
        {
            if let Some(ids) = values.get_mut(&route.value) {
                ids.remove(&id);
                if ids.is_empty() {
                    values.remove(&route.value);
                }
            }
            if values.is_empty() {
                state.routed.remove(&route.column);
            }
        }
        if state.groups.is_empty() {
            state.pin = None;
            self.partition.set_watcher(None);
        }
    }

    /// Whether it serves this partition, and not one of the same name that was purged.
    pub(crate) fn is_of(&self, partition: &Arc<Partition>) -> bool {
        Arc::ptr_eq(&self.partition, partition)
    }

    /// Whether nobody subscribes.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().groups.is_empty()
    }

    async fn serve(self: Arc<Self>) {
        loop {
            let outcome = {
                let _reading = self.delivery.lock().await;
                // IMPORTANT: a panic must not leave a reader that is taken for running.
                guard::caught(self.serve_page()).await
            };
            let more = match outcome {
                Ok(more) => more,
                Err(error) => {
                    tracing::error!(%error, partition = %self.partition.id(), "the change log could not be read");
                    self.end_all(|| LiveError::from(error_again(&error)));
                    false
                }
            };
            let mut reader = self.reader.lock();
            if !more && !std::mem::take(&mut reader.again) {
                reader.runs = false;
                return;
            }
        }
    }

    /// Serves the next page. Returns whether there may be more.
    async fn serve_page(&self) -> Result<bool> {
        let Some(hub) = self.hub.upgrade() else { return Ok(false) };
        let Some(engine) = hub.engine() else { return Ok(false) };
        let Some(after) = self.through() else { return Ok(false) };
        let point = engine.committer().readers().enter();
        if point.through() <= after {
            return Ok(false);
        }
        let Some(table) = point.catalog().table_by_incarnation(self.partition.id().incarnation).cloned() else {
            self.end_all(LiveError::dropped);
            return Ok(false);
        };
        self.end_the_unentitled(point.catalog());
        let through = point.through();
        let (partition, merge) = (&self.partition, false);
        let range = LogRange { engine: &engine, partition, table: &table, point: &point, after, through, merge };
        let page = log::read(&range).await?;
        self.deliver(&engine, &hub, &page, after).await;
        Ok(page.through < through)
    }

    async fn deliver(&self, engine: &Engine, hub: &Arc<Hub>, page: &ChangePage, after: CommitTime) {
        let mut cache = PageCache::default();
        let mut told: Vec<(QueryId, Result<Changes>)> = Vec::new();
        for (count, query) in self.concerned(page).into_iter().enumerate() {
            if count % QUERIES_PER_TURN == QUERIES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            match guard::caught_now(|| changes_for(engine.planner(), &query, page, &mut cache)) {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => told.push((Arc::as_ptr(&query) as QueryId, Ok(changes.into()))),
                Err(error) => told.push((Arc::as_ptr(&query) as QueryId, Err(error))),
            }
        }
        let mut failed = Vec::new();
        let mut slow = Vec::new();
        {
            let mut state = self.state.lock();
            for (id, changes) in &told {
                let Some(group) = state.groups.get(id) else { continue };
                for member in group.members.values() {
                    match changes {
                        Ok(changes) if !hand_over(member, changes) => {
                            slow.push((group.query.clone(), member.subscription.clone(), member.from.max(after)));
                        }
                        Ok(_) => {}
                        Err(error) => failed.push((member.subscription.clone(), LiveError::conversion(error))),
                    }
                }
            }
            // IMPORTANT: their pins before the channel's own moves on: what they have not got stays in the log.
            let pin = state.pin.as_ref().map(|pin| (pin.again(), pin.partition().clone()));
            let mut lagging = Vec::new();
            for (query, subscription, from) in slow {
                self.remove(&mut state, &query, &subscription);
                if let Some((pin, _)) = &pin {
                    let mut own = pin.again();
                    own.advance(from);
                    lagging.push((subscription, own));
                }
            }
            if let Some(pin) = &mut state.pin {
                pin.advance(page.through);
            }
            drop(state);
            for (subscription, pin) in lagging {
                subscription.set_channel(None);
                subscription.set_status(Status::Behind);
                hub.counters().fell_behind();
                feeder::begin_catching_up(hub, subscription, pin);
            }
        }
        for (subscription, reason) in failed {
            hub.end(&subscription, Some(reason));
        }
    }

    /// The queries that a page may concern.
    fn concerned(&self, page: &ChangePage) -> Vec<Arc<LiveQuery>> {
        if page.changes.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let mut ids = state.unrouted.clone();
        for (column, values) in &state.routed {
            let Some(array) = page.versions.columns().get(*column) else { continue };
            for row in 0..array.len() {
                // A value that has no key bytes equals nothing.
                if let Ok(Some(bytes)) = key_bytes(&[array], row)
                    && let Some(routed) = values.get(&bytes)
                {
                    ids.extend(routed);
                }
            }
        }
        ids.iter().filter_map(|id| state.groups.get(id)).map(|group| group.query.clone()).collect()
    }

    /// Ends the subscriptions that a schema or account that has changed ends, before they get anything that came later.
    fn end_the_unentitled(&self, catalog: &Catalog) {
        if std::mem::replace(&mut self.state.lock().checked_at, catalog.version()) == catalog.version() {
            return;
        }
        for subscription in self.members() {
            if let (Some(reason), Some(hub)) = (subscription.what_ends_it(catalog), self.hub.upgrade()) {
                hub.end(&subscription, Some(reason));
            }
        }
    }

    fn end_all(&self, reason: impl Fn() -> LiveError) {
        let Some(hub) = self.hub.upgrade() else { return };
        for subscription in self.members() {
            hub.end(&subscription, Some(reason()));
        }
    }

    fn members(&self) -> Vec<Arc<Subscription>> {
        let state = self.state.lock();
        state
            .groups
            .values()
            .flat_map(|group| group.members.values())
            .map(|member| member.subscription.clone())
            .collect()
    }
}

/// Gives a subscriber its changes. `false` if its connection has no room.
fn hand_over(member: &Member, changes: &Changes) -> bool {
    let known = changes.iter().filter(|change| change.seq() <= member.from.0).count();
    match known {
        0 => member.subscription.owner.outbox.offer(&member.subscription, changes),
        known if known == changes.len() => true,
        _ => {
            let fresh = changes.iter().filter(|change| change.seq() > member.from.0).cloned().collect();
            member.subscription.owner.outbox.offer(&member.subscription, &fresh)
        }
    }
}

fn error_again(error: &Error) -> Error {
    Error::new(error.kind(), error.message().to_owned())
}

impl Watcher for Channel {
    fn published(&self) {
        let (Some(me), Some(hub)) = (self.me.upgrade(), self.hub.upgrade()) else { return };
        let mut reader = self.reader.lock();
        if reader.runs {
            reader.again = true;
            return;
        }
        reader.runs = true;
        hub.spawn(me.serve());
    }
}
