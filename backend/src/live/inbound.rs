//! What clients say: messages in either format, and the rate at which they may come.

use std::io::Read;

use flate2::read::GzDecoder;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_core::live::LiveOptions;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// How many seconds' worth of messages a client may send at once.
const BURST_SECONDS: f64 = 5.0;

/// More rows than this are all rows.
const ROWS_MAX: usize = u32::MAX as usize;
/// How deep a MessagePack message may nest; JSON has its own limit. Readers of either go as deep on their stack.
const DEPTH_MAX: usize = 64;

/// A message.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Message {
    /// Signs in.
    Authenticate {
        method: String,
        token: String,
        #[serde(default)]
        protocol: Option<Wish>,
    },
    /// Begins a live query.
    Subscribe { subscription: Subscribe },
    /// Asks for more of a snapshot.
    NextBatch {
        subscription_id: String,
        /// After which `_seq`.
        #[serde(default, deserialize_with = "cursor")]
        last_seq_id: Option<i64>,
    },
    /// Ends a live query.
    Unsubscribe { subscription_id: String },
    /// Says that the client is there.
    Ping,
}

/// How a client wants to be talked to.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    pub(super) serialization: Option<String>,
    #[serde(default)]
    pub(super) compression: Option<String>,
}

/// What is subscribed to.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Subscribe {
    pub(super) id: String,
    pub(super) sql: String,
    #[serde(default)]
    pub(super) options: Option<Options>,
}

/// How much of the table is wanted first.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Options {
    #[serde(default)]
    batch_size: Option<usize>,
    #[serde(default)]
    last_rows: Option<usize>,
    #[serde(default, alias = "from_seq_id", deserialize_with = "cursor")]
    from: Option<i64>,
}

impl From<Options> for LiveOptions {
    fn from(options: Options) -> Self {
        Self {
            batch_rows: options.batch_size,
            last_rows: options.last_rows.map(|rows| rows.min(ROWS_MAX)),
            from: options.from,
        }
    }
}

/// A number, or a number as text, because not every client can hold 64 bits.
fn cursor<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Cursor {
        Number(i64),
        Text(String),
    }
    match Option::<Cursor>::deserialize(from)? {
        None => Ok(None),
        Some(Cursor::Number(number)) => Ok(Some(number)),
        Some(Cursor::Text(text)) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// Why a message means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misunderstood {
    /// The subscription that it is about, if that can be read.
    pub(super) subscription: String,
    /// The reason, in words.
    pub(super) reason: String,
}

impl Misunderstood {
    fn entirely(reason: String) -> Self {
        Self { subscription: String::new(), reason }
    }
}

impl Message {
    /// The subscription that it is about, if any.
    pub(super) fn subscription(&self) -> Option<&str> {
        match self {
            Self::Subscribe { subscription } => Some(&subscription.id),
            Self::NextBatch { subscription_id, .. } | Self::Unsubscribe { subscription_id } => Some(subscription_id),
            Self::Authenticate { .. } | Self::Ping => None,
        }
    }
}

/// Reads a JSON message.
pub(super) fn json(bytes: &[u8]) -> Result<Message, Misunderstood> {
    serde_json::from_slice(bytes).map_err(|error| {
        let value = serde_json::from_slice(bytes).unwrap_or_default();
        misunderstood(&value, &error)
    })
}

/// Reads a MessagePack message.
pub(super) fn message_pack(bytes: &[u8]) -> Result<Message, Misunderstood> {
    // By way of a value: what is tagged inside can be read from anything that knows its own shape.
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(DEPTH_MAX);
    let value = Value::deserialize(&mut reader)
        .map_err(|error| Misunderstood::entirely(format!("the message is not MessagePack: {error}")))?;
    Message::deserialize(&value).map_err(|error| misunderstood(&value, &error))
}

fn misunderstood(value: &Value, error: &serde_json::Error) -> Misunderstood {
    let id = value.pointer("/subscription/id").or_else(|| value.get("subscription_id"));
    let subscription = id.and_then(Value::as_str).unwrap_or_default().to_owned();
    Misunderstood { subscription, reason: format!("the message is not understood: {error}") }
}

/// Reads a compressed JSON message that unfolds to at most `bytes_max`.
pub(super) fn gzip(bytes: &[u8], bytes_max: usize) -> Result<Message, Misunderstood> {
    let mut unfolded = Vec::new();
    let limit = bytes_max as u64 + 1;
    GzDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut unfolded)
        .map_err(|error| Misunderstood::entirely(format!("a binary message must be gzip: {error}")))?;
    if unfolded.len() > bytes_max {
        let reason = format!("the message unfolds to more than {bytes_max} bytes (live.message_bytes_max)");
        return Err(Misunderstood::entirely(reason));
    }
    json(&unfolded)
}

/// How many messages a client may still send.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    per_second: f64,
    since: Stopwatch,
}

impl Allowance {
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = per_second as f64;
        Self { left: per_second * BURST_SECONDS, per_second, since: Stopwatch::start() }
    }

    /// Whether one more is within the allowance.
    pub(super) fn take(&mut self) -> bool {
        let gained = self.since.elapsed().as_secs_f64() * self.per_second;
        self.since = Stopwatch::start();
        self.left = (self.left + gained).min(self.per_second * BURST_SECONDS);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests;
