//! What waits to be sent on one connection, in order, and bounded: who finds it full does not wait inside it, but reads
//! the change log later.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::change::LiveChange;
use super::subscription::Subscription;
use super::{LiveDelivery, LiveEvent};

/// Changes that go out together, shared by all who get the same.
pub(crate) type Changes = Arc<[Arc<LiveChange>]>;

/// Subscriptions of one connection that are read for at once.
const READERS_MAX: usize = 4;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(Arc<Subscription>, LiveEvent)>,
    /// Of the events together.
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
}

impl Outbox {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
            places: Semaphore::new(READERS_MAX),
            weight_max: weight_max.max(1),
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
            waiting.weight += event.weight();
            waiting.events.push_back((subscription.clone(), event));
            self.filled.notify_one();
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
    pub(crate) async fn next(&self) -> LiveDelivery {
        loop {
            if let Some(delivery) = self.try_next() {
                return delivery;
            }
            self.filled.notified().await;
        }
    }

    /// The same if one waits already.
    pub(crate) fn try_next(&self) -> Option<LiveDelivery> {
        let mut waiting = self.waiting.lock();
        while let Some((subscription, event)) = waiting.events.pop_front() {
            let was = waiting.weight;
            waiting.weight -= event.weight();
            if was > self.weight_max / 2 && waiting.weight <= self.weight_max / 2 {
                self.drained.notify_waiters();
            }
            if event.is_for_the_ended() || !subscription.has_ended() {
                subscription.delivered(&event);
                return Some(LiveDelivery { subscription: subscription.id().clone(), event });
            }
        }
        None
    }

    /// Takes nothing more and forgets what waits.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.events.clear();
        waiting.weight = 0;
        drop(waiting);
        self.drained.notify_waiters();
    }
}
