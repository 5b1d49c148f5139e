//! What waits to be sent on one connection, in order, and bounded: who finds it full does not wait inside it, but reads
//! the change log later. What has been taken to be sent counts until it has been.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{Notify, Semaphore};

use super::change::LiveChange;
use super::subscription::Subscription;
use super::{LiveDelivery, LiveEvent};

/// Changes that go out together, shared by all who get the same.
pub(crate) type Changes = Arc<[Arc<LiveChange>]>;

/// Subscriptions of one connection that are read for at once.
const READERS_MAX: usize = 4;

/// An event that waits.
#[derive(Debug)]
struct Queued {
    subscription: Arc<Subscription>,
    event: LiveEvent,
    weight: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Queued>,
    /// Of the events together, and of those that are being sent.
    weight: usize,
    closed: bool,
}

/// The queue of a connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    drained: Notify,
    places: Semaphore,
    weight_max: usize,
    /// What waits for all connections.
    waiting_in_all: IntGauge,
}

/// The place of an event that is being sent. Dropping it makes room for others.
#[derive(Debug)]
pub(crate) struct Held {
    outbox: Arc<Outbox>,
    weight: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.outbox.relieve(&mut self.outbox.waiting.lock(), self.weight);
    }
}

impl Outbox {
    pub(crate) fn new(weight_max: usize, waiting_in_all: IntGauge) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            places: Semaphore::new(READERS_MAX),
            weight_max: weight_max.max(1),
            waiting_in_all,
        }
    }

    /// Adds changes, unless there is no room for them. A queue that is empty has room for anything.
    pub(crate) fn offer(&self, subscription: &Arc<Subscription>, changes: &Changes) -> bool {
        let event = LiveEvent::Changes(changes.clone());
        let mut waiting = self.waiting.lock();
        if waiting.weight > 0 && waiting.weight + event.weight() > self.weight_max {
            return waiting.closed;
        }
        self.add(&mut waiting, subscription, event);
        true
    }

    /// Adds an event whatever waits already: for who has asked for [`Self::room`] before, and for the end.
    pub(crate) fn put(&self, subscription: &Arc<Subscription>, event: LiveEvent) {
        self.add(&mut self.waiting.lock(), subscription, event);
    }

    fn add(&self, waiting: &mut Waiting, subscription: &Arc<Subscription>, event: LiveEvent) {
        if !waiting.closed {
            let weight = event.weight();
            waiting.weight += weight;
            self.waiting_in_all.add(as_gauge(weight));
            waiting.events.push_back(Queued { subscription: subscription.clone(), event, weight });
            self.filled.notify_one();
        }
    }

    fn relieve(&self, waiting: &mut Waiting, weight: usize) {
        let was = waiting.weight;
        waiting.weight -= weight;
        self.waiting_in_all.sub(as_gauge(weight));
        if was > self.weight_max / 2 && waiting.weight <= self.weight_max / 2 {
            self.drained.notify_waiters();
        }
    }

    /// Places for those who read something for the connection: each may find room, and each fills some.
    pub(crate) fn places(&self) -> &Semaphore {
        &self.places
    }

    /// Waits until at most half of what may wait does.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }

    fn has_room(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.closed || waiting.weight <= self.weight_max / 2
    }

    /// The next event for a subscription that still goes on; waits for one.
    pub(crate) async fn next(self: &Arc<Self>) -> LiveDelivery {
        loop {
            if let Some(delivery) = self.try_next() {
                return delivery;
            }
            self.filled.notified().await;
        }
    }

    /// The same if one waits already.
    pub(crate) fn try_next(self: &Arc<Self>) -> Option<LiveDelivery> {
        let mut waiting = self.waiting.lock();
        while let Some(Queued { subscription, event, weight }) = waiting.events.pop_front() {
            if event.is_for_the_ended() || !subscription.has_ended() {
                let held = Held { outbox: self.clone(), weight };
                let id = subscription.id().clone();
                return Some(LiveDelivery { subscription: id, event, of: subscription, _held: held });
            }
            self.relieve(&mut waiting, weight);
        }
        None
    }

    /// Forgets why a subscription ended: its name is given to another, or its client does not want to know.
    pub(crate) fn forget_the_end_of(&self, id: &str) {
        let is_its_end = |queued: &Queued| queued.event.is_for_the_ended() && **queued.subscription.id() == *id;
        // What tells of an end weighs nothing.
        self.waiting.lock().events.retain(|queued| !is_its_end(queued));
    }

    /// Takes nothing more and forgets what waits.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let forgotten = waiting.events.drain(..).map(|queued| queued.weight).sum();
        self.relieve(&mut waiting, forgotten);
        drop(waiting);
        self.drained.notify_waiters();
    }
}

fn as_gauge(weight: usize) -> i64 {
    i64::try_from(weight).unwrap_or(i64::MAX)
}
