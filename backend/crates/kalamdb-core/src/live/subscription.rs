//! One subscription: whose it is, what it asks, and how it stands.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::Actor;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::channel::Channel;
use super::outbox::Outbox;
use super::plan::LiveQuery;
use super::{LiveError, LiveEvent};
use crate::access::sees_table;
use crate::catalog::Catalog;
use crate::engine::usage::Counted;
use crate::metrics::Metrics;
use crate::query::scope::Caller;

/// Batches that a client may have asked for ahead: more than any snapshot has.
const WISHES_MAX: usize = 1 << 40;
/// The end of a subscription that its client ended, as metrics say it.
const BY_CLIENT: &str = "client";
/// The same for one that an administrator ended.
const KILLED: &str = "killed";

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Its snapshot, or what it missed, is being sent.
    Loading,
    /// It gets each change as it is committed.
    Live,
    /// Its client is slow: it reads the change log.
    Behind,
    /// Its client does not ask for the next batch: nothing is held for it but its place.
    Waiting,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Live => "live",
            Self::Behind => "behind",
            Self::Waiting => "waiting",
        }
    }
}

/// On whose behalf a subscription runs, and where to.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Who is signed in.
    pub(crate) actor: Actor,
    /// What the account's tokens carried when it signed in.
    pub(crate) generation: u64,
    /// From where, for the audit log.
    pub(crate) address: Option<Arc<str>>,
    /// What waits for the connection.
    pub(crate) outbox: Arc<Outbox>,
    /// Where what is sent and ends is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The server's number of it.
    pub(crate) number: u64,
    id: Arc<str>,
    pub(crate) owner: Owner,
    /// As the client sent it.
    pub(crate) sql: Arc<str>,
    query: OnceLock<Arc<LiveQuery>>,
    caller: OnceLock<Caller>,
    channel: Mutex<Option<Arc<Channel>>>,
    status: AtomicU8,
    acknowledged: Mutex<bool>,
    changes: AtomicU64,
    ended: AtomicBool,
    feeder: Mutex<Option<AbortHandle>>,
    /// Batches that the client has asked for and not got.
    wishes: Semaphore,
    /// After which `_seq` it asked for one last.
    wished_after: Mutex<Option<i64>>,
    counted: Mutex<Option<Counted>>,
}

impl Subscription {
    pub(crate) fn new(number: u64, id: Arc<str>, owner: Owner, sql: Arc<str>, counted: Counted) -> Arc<Self> {
        Arc::new(Self {
            number,
            id,
            owner,
            sql,
            query: OnceLock::new(),
            caller: OnceLock::new(),
            channel: Mutex::default(),
            status: AtomicU8::new(0),
            acknowledged: Mutex::default(),
            changes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            feeder: Mutex::default(),
            wishes: Semaphore::new(0),
            wished_after: Mutex::default(),
            counted: Mutex::new(Some(counted)),
        })
    }

    /// The client's name of it.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Its query, once that is planned.
    pub(crate) fn query(&self) -> Option<&Arc<LiveQuery>> {
        self.query.get()
    }

    pub(crate) fn set_query(&self, query: Arc<LiveQuery>) {
        // A subscription is planned once.
        let _first = self.query.set(query);
    }

    /// Who it runs as, once that is decided.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }

    pub(crate) fn set_caller(&self, caller: Caller) {
        // It is decided once.
        let _first = self.caller.set(caller);
    }

    /// Why it must end, by a catalog: its account or its subject's is not what it was, its table is gone, may no longer
    /// be read, or has other columns.
    pub(crate) fn what_ends_it(&self, catalog: &Catalog) -> Option<LiveError> {
        let (query, caller) = (self.query()?, self.caller()?);
        let Owner { actor, generation, .. } = &self.owner;
        let account = catalog.user(&actor.user).filter(|account| account.is_active());
        let role = match (account.filter(|account| account.generation == *generation), &caller.impersonator) {
            (None, _) => None,
            (Some(_), None) => Some(actor.role),
            (Some(_), Some(_)) => {
                let again = Caller::acting_as(actor, caller.subject.user.as_str(), catalog);
                again.ok().map(|caller| caller.subject.role)
            }
        };
        match catalog.table_by_incarnation(query.table.incarnation) {
            _ if role.is_none() => Some(LiveError::unauthorized()),
            None => Some(LiveError::dropped()),
            Some(table) if !role.is_some_and(|role| sees_table(role, table)) => Some(LiveError::unauthorized()),
            Some(table) if table.version != query.table.version => Some(LiveError::altered()),
            Some(_) => None,
        }
    }

    /// Queues the word that it stands, the first time.
    pub(crate) fn acknowledge(self: &Arc<Self>, word: LiveEvent) {
        // Queued under the lock: whoever finds that it has been said puts nothing before it.
        let mut acknowledged = self.acknowledged.lock();
        if !std::mem::replace(&mut *acknowledged, true) {
            self.owner.outbox.put(self, word);
        }
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Relaxed) {
            0 => Status::Loading,
            1 => Status::Live,
            2 => Status::Behind,
            _ => Status::Waiting,
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.status.store(status as u8, Ordering::Relaxed);
    }

    /// Changes sent so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A message of so many bytes has been sent: a change, if the event is changes.
    pub(crate) fn sent(&self, event: &LiveEvent, bytes: usize) {
        let metrics = &self.owner.metrics;
        metrics.live_messages_sent.inc();
        metrics.live_sent_bytes.inc_by(bytes as u64);
        if matches!(event, LiveEvent::Changes(_)) {
            metrics.live_changes_sent.inc();
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_channel(&self, channel: Option<Arc<Channel>>) {
        *self.channel.lock() = channel;
    }

    /// Starts a task that feeds it, and that ends with it.
    pub(crate) fn feed(&self, start: impl FnOnce() -> AbortHandle) {
        // Started under the lock, so that [`Self::feeds_itself_no_more`] finds it.
        let mut current = self.feeder.lock();
        let feeder = start();
        if self.has_ended() {
            feeder.abort();
        }
        *current = Some(feeder);
    }

    /// The task that feeds it has come to its end: the memory of a task lasts as long as a handle on it.
    pub(crate) fn feeds_itself_no_more(&self) {
        *self.feeder.lock() = None;
    }

    /// The client wants one more batch of its snapshot: the one after a `_seq`, if it says so. To ask again for what comes
    /// after the same one says nothing new.
    pub(crate) fn wish(&self, after: Option<i64>) {
        if after.is_some() {
            let mut last = self.wished_after.lock();
            if *last >= after {
                return;
            }
            *last = after;
        }
        if self.wishes.available_permits() < WISHES_MAX {
            self.wishes.add_permits(1);
        }
    }

    /// Waits until the client wants the next batch.
    pub(crate) async fn wished(&self) {
        if let Ok(wish) = self.wishes.acquire().await {
            wish.forget();
        }
    }

    /// Whether nothing more is sent for it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Ends it. Returns whether it had not ended before.
    pub(crate) fn end(self: &Arc<Self>, reason: Option<LiveError>) -> bool {
        if self.ended.swap(true, Ordering::SeqCst) {
            return false;
        }
        let why = match &reason {
            None => BY_CLIENT,
            Some(reason) if reason.error.kind() == ErrorKind::Cancelled => KILLED,
            Some(reason) => reason.code.as_str(),
        };
        self.owner.metrics.live_ended.with_label_values(&[why]).inc();
        if let Some(reason) = reason {
            self.owner.outbox.put(self, LiveEvent::Ended(reason));
        }
        let channel = self.channel.lock().take();
        if let Some(channel) = channel {
            channel.leave(self);
        }
        if let Some(feeder) = self.feeder.lock().take() {
            feeder.abort();
        }
        drop(self.counted.lock().take());
        true
    }
}
