//! A connection's subscriptions and its rights.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_commons::schema::Actor;
use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::hub::Hub;
use super::outbox::Outbox;
use super::subscription::{Owner, Subscription};
use super::{LiveCode, LiveDelivery, LiveError, LiveOptions, feeder};
use crate::api::Grant;
use crate::engine::Engine;

/// The longest name of a subscription, in bytes.
const ID_BYTES_MAX: usize = 256;

/// A connection that counts among `live.connections_max` until it is dropped, signed in or not.
#[derive(Debug)]
pub struct LivePlace {
    hub: Arc<Hub>,
    engine: Arc<Engine>,
}

impl Engine {
    /// Begins a connection, of which it is not yet known whose it is.
    ///
    /// # Errors
    /// If too many connections are open.
    pub fn connect_live(self: &Arc<Self>) -> Result<LivePlace> {
        let hub = self.live().clone();
        hub.connect()?;
        Ok(LivePlace { hub, engine: self.clone() })
    }
}

impl LivePlace {
    /// Signs in whom an access token stands for. The address is for the audit log.
    ///
    /// # Errors
    /// If the token is not good.
    pub fn sign_in(&self, access_token: &str, address: Option<String>) -> Result<LiveSession> {
        let (hub, engine) = (&self.hub, &self.engine);
        let waiting = engine.metrics().live_waiting.clone();
        Ok(LiveSession {
            grant: engine.authenticate(access_token)?,
            outbox: Arc::new(Outbox::new(hub.settings().queue_rows_max, waiting)),
            hub: hub.clone(),
            engine: engine.clone(),
            address: address.map(Into::into),
            checked_at: Mutex::new(engine.catalog().version()),
            subscriptions: Mutex::default(),
        })
    }

    /// Counts why the connection ends, in one of a few words.
    pub fn ends(&self, why: &'static str) {
        self.engine.metrics().live_connections_ended.with_label_values(&[why]).inc();
    }
}

impl Drop for LivePlace {
    fn drop(&mut self) {
        self.hub.disconnect();
    }
}

/// A connection that is signed in. Dropping it ends its subscriptions.
#[derive(Debug)]
pub struct LiveSession {
    hub: Arc<Hub>,
    engine: Arc<Engine>,
    outbox: Arc<Outbox>,
    grant: Grant,
    address: Option<Arc<str>>,
    checked_at: Mutex<u64>,
    subscriptions: Mutex<HashMap<Arc<str>, Arc<Subscription>>>,
}

impl LiveSession {
    /// Who is signed in.
    pub fn actor(&self) -> &Actor {
        &self.grant.actor
    }

    /// Begins a subscription under a name of the client's. One that has the name already is replaced. What follows comes
    /// through [`Self::next`], errors of the query too.
    ///
    /// # Errors
    /// If the name is not acceptable or there are too many subscriptions.
    pub fn subscribe(&self, id: &str, sql: &str, options: Option<LiveOptions>) -> Result<(), LiveError> {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let message = format!("a subscription's id must have 1 to {ID_BYTES_MAX} bytes");
            return Err(LiveError::new(LiveCode::InvalidSubscriptionId, Error::invalid_input(message)));
        }
        self.unsubscribe(id);
        let mut subscriptions = self.subscriptions.lock();
        subscriptions.retain(|_, subscription| !subscription.has_ended());
        let max = self.hub.settings().subscriptions_per_connection_max;
        if subscriptions.len() >= max {
            let what = format!("{max} subscriptions of a connection (live.subscriptions_per_connection_max)");
            return Err(LiveError::limit(what));
        }
        let id: Arc<str> = id.into();
        let owner = Owner {
            actor: self.actor().clone(),
            generation: self.grant.generation,
            address: self.address.clone(),
            outbox: self.outbox.clone(),
            metrics: self.engine.metrics().clone(),
        };
        let subscription = self.hub.subscribe(id.clone(), owner, sql.into())?;
        subscriptions.insert(id, subscription.clone());
        feeder::begin(&self.hub, subscription, options);
        Ok(())
    }

    /// Asks for one more batch of a subscription's snapshot: the one after a `_seq`, if it is named. Asking again for what
    /// comes after the same one is asking once.
    ///
    /// # Errors
    /// If there is no such subscription.
    pub fn next_batch(&self, id: &str, after: Option<i64>) -> Result<(), LiveError> {
        match self.subscriptions.lock().get(id).filter(|subscription| !subscription.has_ended()) {
            Some(subscription) => {
                subscription.wish(after);
                Ok(())
            }
            None => Err(LiveError::new(
                LiveCode::InvalidSubscriptionId,
                Error::invalid_input("there is no subscription with this id"),
            )),
        }
    }

    /// Ends a subscription. Nothing of it comes any more, nor why it ended before, if it did. Returns whether there was
    /// one.
    pub fn unsubscribe(&self, id: &str) -> bool {
        let removed = self.subscriptions.lock().remove(id);
        self.outbox.forget_the_end_of(id);
        let Some(subscription) = removed else { return false };
        let was = !subscription.has_ended();
        self.hub.end(&subscription, None);
        // It may have ended by itself meanwhile.
        self.outbox.forget_the_end_of(id);
        was
    }

    /// What comes next, in order. Waits for it; a future that is dropped has taken nothing.
    pub async fn next(&self) -> LiveDelivery {
        self.outbox.next().await
    }

    /// The same if it is there already.
    pub fn try_next(&self) -> Option<LiveDelivery> {
        self.outbox.try_next()
    }

    /// What tells that [`Self::check`] may find something. What changes before this is called is not told.
    pub fn rights(&self) -> Rights {
        let catalog = self.engine.committer().readers().catalog_versions();
        Rights { revocations: self.engine.revocations(), catalog }
    }

    /// For how much longer the token is good, by the clock of now.
    pub fn expires_in(&self) -> Duration {
        let left_ms = self.grant.expires_at_ms.saturating_sub(self.engine.clock().now_ms());
        Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())
    }

    /// Looks again at the rights of the connection, and ends the subscriptions whose tables may no longer be read, are
    /// gone, or have other columns. To be called at once when [`Self::rights`] change and when the token expires.
    ///
    /// # Errors
    /// If the token has expired, was revoked, or its account was dropped or changed: the connection must end.
    pub fn check(&self) -> Result<()> {
        self.engine.recheck(&self.grant)?;
        let catalog = self.engine.catalog();
        let mut checked_at = self.checked_at.lock();
        if catalog.version() == *checked_at {
            return Ok(());
        }
        *checked_at = catalog.version();
        let subscriptions: Vec<Arc<Subscription>> = self.subscriptions.lock().values().cloned().collect();
        for subscription in subscriptions {
            if let Some(reason) = subscription.what_ends_it(&catalog) {
                self.hub.end(&subscription, Some(reason));
            }
        }
        Ok(())
    }
}

/// What a connection's rights depend on.
#[derive(Debug)]
pub struct Rights {
    revocations: watch::Receiver<u64>,
    catalog: watch::Receiver<u64>,
}

impl Rights {
    /// Waits until something has changed that may end a right. A future that is dropped has taken nothing.
    pub async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.revocations.changed() => changed,
            changed = self.catalog.changed() => changed,
        };
        if changed.is_err() {
            // The engine is going, and nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        self.outbox.close();
        for subscription in self.subscriptions.get_mut().values() {
            self.hub.end(subscription, None);
        }
    }
}
