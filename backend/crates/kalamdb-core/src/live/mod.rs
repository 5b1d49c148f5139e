//! Live queries: a snapshot, then each change in commit order, for as long as the client listens.
//!
//! # What is promised
//!
//! Snapshot and changes join at one commit time: no gap, no duplicate. A row that starts or stops matching the filter is
//! an insert or a delete, judged from the row before and after. Nothing is delivered that is not durable. Whoever
//! resumes from a cursor gets everything that came after it, deletions included, or is told that it cannot be
//! ([`LiveCode::ResyncRequired`]). A slow client costs bounded memory and loses nothing.
//!
//! # How
//!
//! The change log that each commit writes with its rows is the one source. [`log`] reads it. A partition's
//! [`channel`] reads it once for all subscribers that keep up, routed by the values that their filters ask for;
//! whoever does not keep up, or has just begun, reads it alone ([`feeder`]) until it can join the channel between
//! two pages. What waits for a connection is bounded ([`outbox`]). The log is not trimmed above the oldest cursor
//! (`partition::log_pins`).
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | what a connection asks: subscribe, next batch, unsubscribe; its rights |
//! | [`hub`] | all subscriptions, their shared queries, limits, numbers |
//! | [`plan`] | from SQL to a projection and a predicate over one row |
//! | [`channel`], [`feeder`] | the two readers of the log |
//! | [`log`], [`change`] | the log; what a change is in the eyes of a filter |
//! | [`guard`] | what panics ends, and nobody else |
//! | [`snapshot`] | the first load, and what a cursor older than the log missed |
//! | [`outbox`], [`subscription`] | what waits to be sent; how a subscription stands |
//! | [`statements`] | SUBSCRIBE TO, KILL LIVE QUERY, the rows of `system.live` |
//! | [`lost_tails`] | cursors into commits that an unclean end lost |
//!
//! When you change what a change-log entry leads to, look at `commit::group` (which writes it), at [`log`], and at
//! `flush::removal` (which trims it).

pub mod change;
pub(crate) mod channel;
pub(crate) mod feeder;
mod guard;
pub(crate) mod hub;
pub(crate) mod log;
pub(crate) mod lost_tails;
pub(crate) mod outbox;
pub(crate) mod plan;
pub mod session;
pub(crate) mod snapshot;
pub(crate) mod statements;
pub(crate) mod subscription;

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, ErrorKind};

pub use change::{ChangeKind, FORMATS, LiveCell, LiveChange};
pub use kalamdb_commons::settings::LiveSettings;
pub use session::{LivePlace, LiveSession, Rights};

use self::outbox::Held;
use self::subscription::Subscription;
use crate::api::ColumnFlags;

/// What a client asks for when it subscribes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveOptions {
    /// Rows in a batch of the snapshot; the setting's default if `None`.
    pub batch_rows: Option<usize>,
    /// Only the newest rows, so many.
    pub last_rows: Option<usize>,
    /// The last `_seq` that the client has.
    pub from: Option<i64>,
}

/// Why a subscription failed or ended, as the protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveCode {
    /// The id is not acceptable, or nobody subscribed with it.
    InvalidSubscriptionId,
    /// Too many subscriptions.
    SubscriptionLimitExceeded,
    /// The right has gone.
    Unauthorized,
    /// The table is absent or hidden.
    NotFound,
    /// The SQL is not understood.
    InvalidSql,
    /// The SQL is understood and cannot be live.
    Unsupported,
    /// Anything else went wrong.
    SubscriptionFailed,
    /// A row could not be judged or shown.
    ConversionError,
    /// The next batch could not be read.
    BatchFetchFailed,
    /// What came after the cursor is not all there: a full snapshot follows.
    ResyncRequired,
}

impl LiveCode {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSubscriptionId => "INVALID_SUBSCRIPTION_ID",
            Self::SubscriptionLimitExceeded => "SUBSCRIPTION_LIMIT_EXCEEDED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidSql => "INVALID_SQL",
            Self::Unsupported => "UNSUPPORTED",
            Self::SubscriptionFailed => "SUBSCRIPTION_FAILED",
            Self::ConversionError => "CONVERSION_ERROR",
            Self::BatchFetchFailed => "BATCH_FETCH_FAILED",
            Self::ResyncRequired => "RESYNC_REQUIRED",
        }
    }
}

/// An error of a subscription.
#[derive(Debug)]
pub struct LiveError {
    /// What the client must do.
    pub code: LiveCode,
    /// The words, and the cause for the log.
    pub error: Error,
}

impl LiveError {
    pub(crate) fn new(code: LiveCode, error: Error) -> Self {
        Self { code, error }
    }

    pub(crate) fn limit(what: String) -> Self {
        let message = format!("{what} are the limit");
        Self::new(LiveCode::SubscriptionLimitExceeded, Error::new(ErrorKind::RateLimited, message))
    }

    pub(crate) fn dropped() -> Self {
        Self::new(LiveCode::NotFound, Error::not_found("the table was dropped or truncated"))
    }

    pub(crate) fn altered() -> Self {
        let message = "the columns of the table were changed; subscribe again";
        Self::new(LiveCode::SubscriptionFailed, Error::new(ErrorKind::Conflict, message))
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "the right to read the table has been taken back";
        Self::new(LiveCode::Unauthorized, Error::permission_denied(message))
    }

    /// The log is not kept for good for a client that does not get nearer to its end.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        let message = format!(
            "the client was behind for more than {seconds} s (live.behind_seconds_max); \
             resume from the last cursor that it has"
        );
        Self::new(LiveCode::SubscriptionFailed, Error::timeout(message))
    }

    pub(crate) fn conversion(error: &Error) -> Self {
        Self::new(LiveCode::ConversionError, Error::new(error.kind(), error.message().to_owned()))
    }
}

impl From<Error> for LiveError {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::InvalidSql | ErrorKind::EmptySql | ErrorKind::InvalidInput => LiveCode::InvalidSql,
            ErrorKind::NotFound => LiveCode::NotFound,
            ErrorKind::PermissionDenied => LiveCode::Unauthorized,
            _ => LiveCode::SubscriptionFailed,
        };
        Self { code, error }
    }
}

/// How far a snapshot has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchControl {
    /// The batch's number, from 0.
    pub number: u64,
    /// Whether the client must ask for more.
    pub has_more: bool,
    /// The last `_seq` that was sent.
    pub last_seq: Option<i64>,
}

/// What a subscriber gets.
#[derive(Debug)]
pub enum LiveEvent {
    /// The subscription stands.
    Ack {
        /// Rows in the snapshot.
        total_rows: u64,
        /// Whether a snapshot follows.
        control: BatchControl,
        /// The columns of rows.
        schema: SchemaRef,
        /// What is known of each.
        flags: Arc<[ColumnFlags]>,
    },
    /// Rows of the snapshot, by rising `_seq`.
    Batch {
        /// The rows.
        rows: RecordBatch,
        /// How far it has come.
        control: BatchControl,
    },
    /// Changes in commit order.
    Changes(Arc<[Arc<LiveChange>]>),
    /// What came after the cursor is not all there: a full snapshot follows.
    ResyncRequired,
    /// It has ended.
    Ended(LiveError),
}

/// A row that waits weighs one, and one more for each so many bytes that wait with it.
const BYTES_PER_WEIGHT: usize = 4_096;

impl LiveEvent {
    fn weight(&self) -> usize {
        match self {
            Self::Batch { rows, .. } => rows.num_rows() + rows.get_array_memory_size() / BYTES_PER_WEIGHT,
            // Changes that come together are of one page.
            Self::Changes(changes) => {
                changes.len() + changes.first().map_or(0, |change| change.bytes()) / BYTES_PER_WEIGHT
            }
            _ => 0,
        }
    }

    fn is_for_the_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// An event and whose it is. It counts as waiting until it is dropped: whoever sends it keeps it until that is done.
#[derive(Debug)]
pub struct LiveDelivery {
    /// The client's name of the subscription.
    pub subscription: Arc<str>,
    /// What happened.
    pub event: LiveEvent,
    of: Arc<Subscription>,
    _held: Held,
}

impl LiveDelivery {
    /// Whether it must not be sent, nor the rest of it: the subscription has ended since it was taken.
    pub fn is_void(&self) -> bool {
        !self.event.is_for_the_ended() && self.of.has_ended()
    }

    /// A message of so many bytes has been made of it and sent: a change, if it is changes.
    pub fn sent(&self, bytes: usize) {
        self.of.sent(&self.event, bytes);
    }
}
