//! What SQL says about live queries: SUBSCRIBE TO, KILL LIVE QUERY, and the rows of `system.live`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use kalamdb_commons::{Error, Result};

use super::subscription::Subscription;
use crate::access::sees_everything;
use crate::engine::Engine;
use crate::query::{StatementScope, arrow_error};
use crate::system::LiveInfo;

const ID_PREFIX: &str = "LQ-";

fn live_id(subscription: &Subscription) -> String {
    format!("{ID_PREFIX}{:x}", subscription.number)
}

impl Engine {
    /// How to connect for a live query, which has been found to be one.
    pub(crate) fn how_to_subscribe(&self, scope: &StatementScope, sql: &str) -> Result<RecordBatch> {
        let parsed = super::plan::parse(&self.settings().limits, sql).map_err(|refused| refused.error)?;
        self.live().plan(scope, parsed).map_err(|refused| refused.error)?;
        let address = format!("{}/v1/ws", self.public_url().replacen("http", "ws", 1));
        let cells = [
            ("status", "subscription_required".to_owned()),
            ("ws_url", address),
            ("sql", sql.to_owned()),
            ("message", "connect to ws_url and send {\"type\":\"subscribe\"} with this sql".to_owned()),
        ];
        let columns = cells.into_iter().map(|(name, text)| (name, Arc::new(StringArray::from(vec![text])) as ArrayRef));
        RecordBatch::try_from_iter(columns).map_err(arrow_error)
    }

    /// Ends a live query: one's own, or anybody's from `dba` on.
    pub(crate) fn kill_live(&self, scope: &StatementScope, live: &str) -> Result<String> {
        let number = live.strip_prefix(ID_PREFIX).and_then(|number| u64::from_str_radix(number, 16).ok());
        let seen = number.filter(|number| self.visible(scope).iter().any(|seen| seen.number == *number));
        if seen.is_some_and(|number| self.live().kill(number)) {
            return Ok(format!("Live query '{live}' has been ended"));
        }
        Err(Error::not_found(format!("there is no live query '{live}'")))
    }

    /// The rows of `system.live`.
    pub(crate) fn live_infos(&self, scope: &StatementScope) -> Vec<LiveInfo> {
        let info = |subscription: &Arc<Subscription>| LiveInfo {
            live_id: live_id(subscription),
            subscription_id: subscription.id().to_string(),
            table: subscription.query().map(|query| query.table.name.clone()),
            user: subscription.owner.actor.user.to_string(),
            query: subscription.sql.to_string(),
            status: subscription.status().as_str().to_owned(),
            changes: subscription.changes(),
        };
        self.visible(scope).iter().map(info).collect()
    }

    fn visible(&self, scope: &StatementScope) -> Vec<Arc<Subscription>> {
        let mut all = self.live().all();
        if !sees_everything(scope.subject().role) {
            all.retain(|subscription| subscription.owner.actor.user == scope.subject().user);
        }
        all
    }
}
