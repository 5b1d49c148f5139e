//! Who does not get changes from the channel: a subscription that begins, resumes, or whose client is slow. It reads
//! the change log by itself, at its client's pace, until it has caught up and joins the channel.

use std::sync::Arc;
use std::time::Duration;

use kalamdb_commons::Error;
use kalamdb_commons::ids::{CommitTime, NamespaceId};
use kalamdb_sql::{Parsed, Subject};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::change::{PageCache, changes_for};
use super::hub::Hub;
use super::log::{self, LogRange};
use super::plan::{self, LiveQuery};
use super::snapshot;
use super::subscription::{Status, Subscription};
use super::{BatchControl, LiveError, LiveEvent, LiveOptions, guard};
use crate::audit::{Entry, Origin, describe};
use crate::commit::readers::ReadPoint;
use crate::engine::Engine;
use crate::engine::accounts::DEFAULT_NAMESPACE;
use crate::engine::usage::UserUsage;
use crate::partition::log_pins::LogPin;
use crate::partition::{Partition, Watcher};
use crate::query::StatementScope;
use crate::query::scope::Caller;
use crate::stats::StatementStats;

/// The kind of statement that the audit log says.
const SUBSCRIBE: &str = "SUBSCRIBE";

/// A subscription that is being fed, and what that takes.
pub(crate) struct Feeder {
    pub(crate) hub: Arc<Hub>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) subscription: Arc<Subscription>,
    usage: Arc<UserUsage>,
}

/// The right to read something for a client: of its connection, of its user, and of all.
pub(crate) struct Turn<'a> {
    _places: [SemaphorePermit<'a>; 3],
}

/// Starts a subscription. `options` is what the client said: nothing means changes only.
pub(crate) fn begin(hub: &Arc<Hub>, subscription: Arc<Subscription>, options: Option<LiveOptions>) {
    let Some(feeder) = Feeder::new(hub, &subscription) else { return };
    subscription.feed(|| {
        hub.spawn(async move {
            let outcome = guard::caught(feeder.begin(options)).await;
            feeder.conclude(outcome);
        })
    });
}

/// Lets a subscription whose client is slow read the log from where it stands.
pub(crate) fn begin_catching_up(hub: &Arc<Hub>, subscription: Arc<Subscription>, pin: LogPin) {
    let Some(feeder) = Feeder::new(hub, &subscription) else { return };
    subscription.feed(|| {
        hub.spawn(async move {
            let outcome = guard::caught(feeder.go_on(pin)).await;
            feeder.conclude(outcome);
        })
    });
}

impl Feeder {
    fn new(hub: &Arc<Hub>, subscription: &Arc<Subscription>) -> Option<Self> {
        let engine = hub.engine()?;
        let usage = engine.usage().of(&subscription.owner.actor.user);
        Some(Self { hub: hub.clone(), engine, subscription: subscription.clone(), usage })
    }

    fn conclude(&self, outcome: Result<(), LiveError>) {
        if let Err(error) = outcome {
            self.hub.end(&self.subscription, Some(error));
        }
    }

    async fn begin(&self, options: Option<LiveOptions>) -> Result<(), LiveError> {
        let turn = self.turn().await?;
        // On the heap: many wait here, and what they would read with is large.
        let (query, pin, turn) = Box::pin(self.load(options, turn)).await?;
        Box::pin(self.catch_up(&query, pin, turn, false)).await
    }

    async fn go_on(&self, pin: LogPin) -> Result<(), LiveError> {
        let query = self.subscription.query().cloned().ok_or_else(|| Error::internal("behind, and never begun"))?;
        self.catch_up(&query, pin, None, true).await
    }

    /// Everything up to the moment from which the log is read. Returns the turn too if it has not been given up.
    async fn load<'t>(
        &'t self,
        options: Option<LiveOptions>,
        turn: Turn<'t>,
    ) -> Result<(Arc<LiveQuery>, LogPin, Option<Turn<'t>>), LiveError> {
        let point = self.engine.committer().readers().enter();
        let parsed = plan::parse(&self.engine.settings().limits, &self.subscription.sql)?;
        let caller = self.caller(&parsed, &point).await?;
        let scope = self.scope(point.clone(), caller.clone())?;
        let (query, source) = self.hub.plan(&scope, parsed)?;
        self.subscription.set_caller(caller);
        self.subscription.set_query(query.clone());
        // IMPORTANT: after that. Who looks at the rights of subscriptions passes over one without a query.
        if let Some(reason) = self.subscription.what_ends_it(&self.engine.catalog()) {
            return Err(reason);
        }
        let partition = self.engine.partitions().get(&query.table, &scope.scope_in(&query.table));
        let Some(options) = options else {
            let pin = pinned(&partition, point.through())?;
            self.acknowledge(&query, 0, false, Some(pin.cursor()));
            return Ok((query, pin, Some(turn)));
        };
        let pin = match options.from {
            Some(from) => {
                let resume = snapshot::Resume {
                    feeder: self,
                    scope: &scope,
                    query: &query,
                    source: &source,
                    partition: &partition,
                };
                if let Some(pin) = resume.from(CommitTime(from), turn).await? {
                    return Ok((query, pin, None));
                }
                self.hub.counters().resynced();
                pinned(&partition, point.through())?
            }
            None => {
                drop(turn);
                pinned(&partition, point.through())?
            }
        };
        snapshot::send(self, scope, (&query, &source), &options).await?;
        Ok((query, pin, None))
    }

    /// Who the statement runs as. Somebody else is said in the audit log first.
    async fn caller(&self, parsed: &Parsed, point: &ReadPoint) -> Result<Caller, LiveError> {
        let actor = &self.subscription.owner.actor;
        let named = match &parsed.as_user {
            None => return Ok(Caller::own(actor)),
            Some(Subject::Name(named)) => named,
            Some(Subject::Param(_)) => return Err(Error::invalid_sql("AS USER must name the user").into()),
        };
        let request_id = format!("live-{:x}", self.subscription.number);
        let origin = Origin { actor, request_id: &request_id, address: self.subscription.owner.address.as_deref() };
        let object = describe::object(parsed, &NamespaceId::new(DEFAULT_NAMESPACE)?);
        let entry = Entry::new(&origin, self.engine.clock().now_ns(), SUBSCRIBE, object).on_behalf_of(named);
        match Caller::acting_as(actor, named, point.catalog()) {
            Ok(caller) => {
                self.engine.audit(vec![entry]).await?;
                Ok(caller)
            }
            Err(refused) => Err(self.engine.audit_failure(entry, refused).await.into()),
        }
    }

    fn scope(&self, point: Arc<ReadPoint>, caller: Caller) -> Result<StatementScope, LiveError> {
        Ok(StatementScope {
            engine: self.engine.clone(),
            caller,
            namespace: NamespaceId::new(DEFAULT_NAMESPACE)?,
            point,
            now_ns: self.engine.clock().now_ns(),
            writes: None,
            stats: Arc::new(StatementStats::begin_for(self.engine.usage().of(&self.subscription.owner.actor.user))),
        })
    }

    /// Tells the client that it is subscribed, and at which moment if no rows will say so, unless it has been told. From
    /// here on nothing is missed: the log is pinned already.
    pub(crate) fn acknowledge(&self, query: &LiveQuery, total_rows: u64, has_more: bool, at: Option<CommitTime>) {
        self.subscription.acknowledge(LiveEvent::Ack {
            total_rows,
            control: BatchControl { number: 0, has_more, last_seq: at.map(|at| at.0) },
            schema: query.shape.schema.clone(),
            flags: query.shape.flags.clone().into(),
        });
    }

    /// The same after a while, without knowing of how many rows, unless what is returned is dropped by then.
    pub(crate) fn acknowledge_after(&self, wait: Duration, query: &LiveQuery) -> oneshot::Sender<()> {
        let subscription = self.subscription.clone();
        let event = LiveEvent::Ack {
            total_rows: 0,
            control: BatchControl { number: 0, has_more: true, last_seq: None },
            schema: query.shape.schema.clone(),
            flags: query.shape.flags.clone().into(),
        };
        let (finding, found) = oneshot::channel();
        self.hub.spawn(async move {
            if tokio::time::timeout(wait, found).await.is_err() {
                subscription.acknowledge(event);
            }
        });
        finding
    }

    /// Queues an event. Who has read rows for it has waited for [`Self::turn`] before.
    pub(crate) fn put(&self, event: LiveEvent) {
        self.subscription.owner.outbox.put(&self.subscription, event);
    }

    /// Waits for the right to read something short for the client: until it has taken most of what waits for it, and
    /// until the server has time. To be given up before the client is waited for again.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, LiveError> {
        self.turn_among(self.hub.reads()).await
    }

    /// The same to read what may be a whole partition.
    pub(crate) async fn long_turn(&self) -> Result<Turn<'_>, LiveError> {
        self.turn_among(self.hub.loads()).await
    }

    async fn turn_among<'a>(&'a self, all: &'a Semaphore) -> Result<Turn<'a>, LiveError> {
        let ended = |_| Error::internal("the live queries have ended");
        let outbox = &self.subscription.owner.outbox;
        let of_connection = outbox.places().acquire().await.map_err(ended)?;
        outbox.room().await;
        let of_user = self.usage.live_places().acquire().await.map_err(ended)?;
        let of_all = all.acquire().await.map_err(ended)?;
        Ok(Turn { _places: [of_connection, of_user, of_all] })
    }

    /// A turn to read the next page of the log, unless the client has been behind for too long: the log is pinned for it.
    async fn turn_in_time(&self, pin: &LogPin, since_ns: i64) -> Result<Turn<'_>, LiveError> {
        let seconds = self.hub.settings().behind_seconds_max;
        let too_slow = || LiveError::too_slow(seconds);
        let turn = tokio::time::timeout(Duration::from_secs(seconds), self.turn()).await.map_err(|_| too_slow())??;
        let now_ns = self.engine.clock().now_ns();
        let allowed_ns = i64::try_from(Duration::from_secs(seconds).as_nanos()).unwrap_or(i64::MAX);
        let is_long = |from_ns: i64| now_ns.saturating_sub(from_ns) > allowed_ns;
        if is_long(since_ns) && is_long(pin.cursor().0) { Err(too_slow()) } else { Ok(turn) }
    }

    /// Reads the log until nothing is left, then joins the channel.
    async fn catch_up<'t>(
        &'t self,
        query: &Arc<LiveQuery>,
        mut pin: LogPin,
        mut turn: Option<Turn<'t>>,
        merge: bool,
    ) -> Result<(), LiveError> {
        let partition = pin.partition().clone();
        if !Arc::ptr_eq(&partition, &self.engine.partitions().get(&query.table, &partition.id().scope)) {
            // It has been purged since, and whoever commits to it now does not know this one.
            return Err(LiveError::unauthorized());
        }
        let channel = self.hub.channel(&partition);
        let since_ns = self.engine.clock().now_ns();
        loop {
            let turn = match turn.take() {
                Some(turn) => turn,
                None => self.turn_in_time(&pin, since_ns).await?,
            };
            let point = self.engine.committer().readers().enter();
            let through = point.through();
            if Box::pin(self.read_page(query, &mut pin, &point, through, merge)).await? {
                continue;
            }
            drop(turn);
            let paused = channel.pause().await;
            // The channel stands where it stands until the pause is over.
            let point = self.engine.committer().readers().enter();
            let served = channel.through().unwrap_or(point.through());
            while Box::pin(self.read_page(query, &mut pin, &point, served, merge)).await? {}
            // From here on nothing waits, so there is nothing to abort.
            self.subscription.feeds_itself_no_more();
            channel.join(query, &self.subscription, pin);
            drop(paused);
            if self.subscription.has_ended() {
                channel.leave(&self.subscription);
            }
            // What was committed before the channel had a subscriber to tell.
            channel.published();
            return Ok(());
        }
    }

    /// Sends the next page of the log. Returns whether there is more.
    async fn read_page(
        &self,
        query: &Arc<LiveQuery>,
        pin: &mut LogPin,
        point: &Arc<ReadPoint>,
        through: CommitTime,
        merge: bool,
    ) -> Result<bool, LiveError> {
        let (partition, after) = (pin.partition().clone(), pin.cursor());
        if let Some(reason) = self.subscription.what_ends_it(point.catalog()) {
            return Err(reason);
        }
        let table = point.catalog().table_by_incarnation(partition.id().incarnation).ok_or_else(LiveError::dropped)?;
        if through <= after {
            return Ok(false);
        }
        let engine = &*self.engine;
        let range = LogRange { engine, partition: &partition, table, point, after, through, merge };
        let page = log::read(&range).await?;
        let changes = changes_for(engine.planner(), query, &page, &mut PageCache::default())
            .map_err(|error| LiveError::conversion(&error))?;
        if !changes.is_empty() {
            self.put(LiveEvent::Changes(changes.into()));
        }
        pin.advance(page.through);
        Ok(page.through < through)
    }

    /// It has its snapshot, and follows the log from now on.
    pub(crate) fn loaded(&self) {
        self.subscription.set_status(Status::Behind);
    }
}

/// Pins the log at a moment that is being read.
pub(crate) fn pinned(partition: &Arc<Partition>, at: CommitTime) -> Result<LogPin, LiveError> {
    let pin = partition.pin_log(at);
    pin.ok_or_else(|| Error::internal("the change log was trimmed above a moment that is being read").into())
}

#[cfg(test)]
mod tests;
