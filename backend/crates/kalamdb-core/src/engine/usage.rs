//! What each user uses, and how much of it is allowed.
//!
//! Limits come from the settings (`limits.user_...`) for everybody below `dba`, and from ALTER USER ... SET LIMIT for
//! anybody. What is used is counted since the start: requests and running ones when they begin, what statements scan
//! where they scan it, handed over when the statement has ended, storage by a look at all partitions every few seconds.
//! A request is refused at its beginning: what is running is never cut off, and what it used too much is waited off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use kalamdb_commons::clock::Clock;
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::limits::UserLimit;
use kalamdb_commons::rate::{Bucket, Rate};
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Engine;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;
/// When to come back about what has no time of its own.
const RETRY_SECONDS: u32 = 1;
/// What live queries of one user may read at once.
const LIVE_PLACES: usize = 4;

/// The users that have done anything since the start.
#[derive(Debug)]
pub(crate) struct Usage {
    users: DashMap<UserId, Arc<UserUsage>>,
    clock: Arc<dyn Clock>,
}

/// What one user has used since the start, and uses now.
#[derive(Debug)]
pub(crate) struct UserUsage {
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
    refused: AtomicU64,
    running: AtomicU64,
    subscriptions: AtomicU64,
    rows_scanned: AtomicU64,
    bytes_scanned: AtomicU64,
    storage_bytes: AtomicU64,
    rates: Mutex<Rates>,
    live_places: Semaphore,
}

#[derive(Debug, Default)]
struct Rates {
    requests: Bucket,
    /// With the rate that was in force when the last request began.
    rows: (Bucket, Option<Rate>),
    bytes: (Bucket, Option<Rate>),
}

/// What `system.user_usage` shows of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageInfo {
    /// Requests that were let in.
    pub requests: u64,
    /// Requests that were refused because of a limit.
    pub refused: u64,
    /// Requests that run now.
    pub running: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Rows that statements looked at.
    pub rows_scanned: u64,
    /// Bytes that statements read from the cold tier.
    pub bytes_scanned: u64,
    /// Bytes of rows and files in the user's partitions.
    pub storage_bytes: u64,
    /// The limits in force; what is not here has none.
    pub limits: BTreeMap<UserLimit, u64>,
}

/// What all users use now.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) running: u64,
    pub(crate) subscriptions: u64,
}

/// A request or subscription that counts until it is dropped.
#[derive(Debug)]
pub struct Counted {
    usage: Arc<UserUsage>,
    counter: fn(&UserUsage) -> &AtomicU64,
}

impl Counted {
    /// Counts one more, unless that is more than `max`.
    fn below(usage: &Arc<UserUsage>, max: Option<u64>, counter: fn(&UserUsage) -> &AtomicU64) -> Result<Self, u64> {
        let next = |now: u64| max.is_none_or(|max| now < max).then_some(now + 1);
        match counter(usage).fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) {
            Ok(_) => Ok(Self { usage: usage.clone(), counter }),
            Err(now) => Err(now),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.usage).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Usage {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { users: DashMap::new(), clock }
    }

    /// What a user uses.
    pub(crate) fn of(&self, user: &UserId) -> Arc<UserUsage> {
        if let Some(found) = self.users.get(user) {
            return found.clone();
        }
        let new = || {
            Arc::new(UserUsage {
                clock: self.clock.clone(),
                requests: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                running: AtomicU64::new(0),
                subscriptions: AtomicU64::new(0),
                rows_scanned: AtomicU64::new(0),
                bytes_scanned: AtomicU64::new(0),
                storage_bytes: AtomicU64::new(0),
                rates: Mutex::default(),
                live_places: Semaphore::new(LIVE_PLACES),
            })
        };
        self.users.entry(user.clone()).or_insert_with(new).clone()
    }

    /// What all of them use now.
    pub(crate) fn totals(&self) -> Totals {
        self.users.iter().fold(Totals::default(), |sum, usage| Totals {
            running: sum.running + usage.running.load(Ordering::Relaxed),
            subscriptions: sum.subscriptions + usage.subscriptions.load(Ordering::Relaxed),
        })
    }

    /// Forgets a user who is gone.
    pub(crate) fn forget(&self, user: &UserId) {
        self.users.remove(user);
    }
}

impl UserUsage {
    /// Places for what live queries of the user read, so that one user does not keep all the others waiting.
    pub(crate) fn live_places(&self) -> &Semaphore {
        &self.live_places
    }

    /// A statement has ended, and has scanned so much.
    pub(crate) fn scanned(&self, rows: u64, bytes: u64) {
        self.rows_scanned.fetch_add(rows, Ordering::Relaxed);
        self.bytes_scanned.fetch_add(bytes, Ordering::Relaxed);
        let now_ms = self.clock.now_ms();
        let mut rates = self.rates.lock();
        let Rates { rows: (row_bucket, row_rate), bytes: (byte_bucket, byte_rate), .. } = &mut *rates;
        for (bucket, rate, amount) in [(row_bucket, row_rate, rows), (byte_bucket, byte_rate, bytes)] {
            if let Some(rate) = rate {
                bucket.spend(*rate, amount, now_ms);
            }
        }
    }

    fn check_rates(&self, limits: &BTreeMap<UserLimit, u64>, now_ms: i64) -> Result<()> {
        let rate = |limit, per_ms| limits.get(&limit).map(|amount| Rate { amount: *amount, per_ms });
        let mut rates = self.rates.lock();
        rates.rows.1 = rate(UserLimit::RowsScannedPerMinute, MINUTE_MS);
        rates.bytes.1 = rate(UserLimit::BytesScannedPerMinute, MINUTE_MS);
        let Rates { rows, bytes, requests } = &mut *rates;
        for ((bucket, rate), limit) in
            [(rows, UserLimit::RowsScannedPerMinute), (bytes, UserLimit::BytesScannedPerMinute)]
        {
            if let Some(rate) = rate {
                bucket.check(*rate, now_ms).map_err(|seconds| over(limit, rate.amount, seconds))?;
            }
        }
        if let Some(rate) = rate(UserLimit::RequestsPerSecond, SECOND_MS) {
            let taken = requests.take(rate, now_ms);
            taken.map_err(|seconds| over(UserLimit::RequestsPerSecond, rate.amount, seconds))?;
        }
        Ok(())
    }

    pub(crate) fn info(&self) -> UsageInfo {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UsageInfo {
            requests: read(&self.requests),
            refused: read(&self.refused),
            running: read(&self.running),
            subscriptions: read(&self.subscriptions),
            rows_scanned: read(&self.rows_scanned),
            bytes_scanned: read(&self.bytes_scanned),
            storage_bytes: read(&self.storage_bytes),
            limits: BTreeMap::new(),
        }
    }
}

fn over(limit: UserLimit, max: u64, seconds: u32) -> Error {
    Error::rate_limited(
        format!("over the limit of {max} {} of this user; try again in {seconds} seconds", limit.describe()),
        seconds,
    )
}

impl Engine {
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The limits in force for a user: those of the account, and below `dba` the settings' for what it does not set.
    fn limits_of(&self, user: &UserId, role: Role) -> BTreeMap<UserLimit, u64> {
        let catalog = self.catalog();
        let own = catalog.user(user).map(|account| &account.limits);
        let settings = &self.settings.limits;
        let limit = |limit: UserLimit| {
            let common = (role < Role::Dba).then(|| settings.of_user(limit));
            let max = own.and_then(|own| own.get(&limit).copied()).or(common);
            // Zero is no limit.
            max.filter(|max| *max > 0).map(|max| (limit, max))
        };
        UserLimit::ALL.into_iter().filter_map(limit).collect()
    }

    /// Lets a request in. It counts as running until what is returned is dropped.
    ///
    /// # Errors
    /// `RateLimited`, with when to try again.
    pub fn begin_request(&self, actor: &Actor) -> Result<Counted> {
        let usage = self.usage.of(&actor.user);
        let limits = self.limits_of(&actor.user, actor.role);
        let max = limits.get(&UserLimit::ParallelStatements).copied();
        let begun = Counted::below(&usage, max, |usage| &usage.running)
            .map_err(|now| over(UserLimit::ParallelStatements, now, RETRY_SECONDS))
            .and_then(|running| usage.check_rates(&limits, self.clock.now_ms()).map(|()| running));
        let counter = if begun.is_ok() { &usage.requests } else { &usage.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        if begun.is_err() {
            self.metrics.requests_limited.inc();
        }
        begun
    }

    /// Lets a subscription in. It counts until what is returned is dropped.
    ///
    /// # Errors
    /// `RateLimited` if the user has as many as are allowed.
    pub fn begin_subscription(&self, actor: &Actor) -> Result<Counted> {
        let usage = self.usage.of(&actor.user);
        let max = self.limits_of(&actor.user, actor.role).get(&UserLimit::Subscriptions).copied();
        Counted::below(&usage, max, |usage| &usage.subscriptions)
            .map_err(|now| over(UserLimit::Subscriptions, now, RETRY_SECONDS))
    }

    /// Refuses to store more for a user who has as much as is allowed, as of the last look.
    pub(crate) fn check_storage_limit(&self, actor: &Actor) -> Result<()> {
        let Some(max) = self.limits_of(&actor.user, actor.role).get(&UserLimit::StorageBytes).copied() else {
            return Ok(());
        };
        let usage = self.usage.of(&actor.user);
        if usage.storage_bytes.load(Ordering::Relaxed) < max {
            return Ok(());
        }
        usage.refused.fetch_add(1, Ordering::Relaxed);
        self.metrics.requests_limited.inc();
        let seconds = u32::try_from(self.settings.flush.check_interval_seconds).unwrap_or(u32::MAX);
        Err(over(UserLimit::StorageBytes, max, seconds))
    }

    /// Looks how much each user stores whose storage is limited.
    pub async fn measure_storage(&self) -> Result<()> {
        let catalog = self.catalog();
        let is_limited = |user: &UserId| {
            let role = catalog.user(user).map_or(Role::User, |account| account.role);
            self.limits_of(user, role).contains_key(&UserLimit::StorageBytes)
        };
        for (user, bytes) in self.storage_by_user(is_limited).await? {
            self.usage.of(&user).storage_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The bytes of hot rows and of active files in the partitions of users.
    async fn storage_by_user(&self, wanted: impl Fn(&UserId) -> bool) -> Result<BTreeMap<UserId, u64>> {
        let mut bytes: BTreeMap<UserId, u64> = BTreeMap::new();
        for partition in self.partitions.all() {
            let Some(user) = partition.id().scope.user().filter(|user| wanted(user)) else { continue };
            let cold = match partition.cold_bytes() {
                Some(known) => known,
                None => {
                    partition.view_at(CommitTime::MAX, &self.cold).await?;
                    partition.cold_bytes().unwrap_or_default()
                }
            };
            *bytes.entry(user.clone()).or_default() += partition.hot().bytes + cold;
        }
        Ok(bytes)
    }

    /// What users use: everybody, or one.
    pub(crate) async fn usage_infos(&self, only: Option<&UserId>) -> Result<Vec<(UserId, UsageInfo)>> {
        let wanted = |user: &UserId| only.is_none_or(|only| only == user);
        let storage = self.storage_by_user(wanted).await?;
        let catalog = self.catalog();
        let users = catalog.users().filter(|user| user.is_active() && wanted(&user.id));
        let info = users.map(|user| {
            let storage_bytes = storage.get(&user.id).copied().unwrap_or_default();
            let limits = self.limits_of(&user.id, user.role);
            let used = self.usage.users.get(&user.id).map(|usage| usage.info()).unwrap_or_default();
            (user.id.clone(), UsageInfo { storage_bytes, limits, ..used })
        });
        Ok(info.collect())
    }
}
