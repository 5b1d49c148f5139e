//! What clients are told: the messages of the protocol in JSON and MessagePack. A change is encoded once for each
//! format, but for the few bytes that name the subscription.

use std::io::Write;

use arrow::array::RecordBatch;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::ColumnFlags;
use kalamdb_core::live::{BatchControl, ChangeKind, LiveChange};
use serde_json::{Value, json};

use crate::encode::{RowWriter, names, separate, write_cell, write_json, write_schema};

/// From how many bytes on a message is worth compressing.
const COMPRESSED_FROM_BYTES: usize = 8_192;

/// A form of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Text frames.
    Json,
    /// Binary frames of maps with names.
    MessagePack,
}

/// How a client is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) format: Format,
    /// Whether long JSON messages may be compressed.
    pub(super) compresses: bool,
}

/// A message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

impl Frame {
    /// The bytes of the message, without what frames it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

impl Protocol {
    fn words(self) -> (&'static str, &'static str) {
        let serialization = match self.format {
            Format::Json => "json",
            Format::MessagePack => "msgpack",
        };
        (serialization, if self.compresses { "gzip" } else { "none" })
    }

    /// The answer to signing in: always text, because it says what the others will be.
    pub(super) fn auth_success(self, actor: &Actor) -> Frame {
        let (serialization, compression) = self.words();
        let message = json!({
            "type": "auth_success", "user": actor.user, "role": actor.role.as_str(),
            "protocol": {"serialization": serialization, "compression": compression},
        });
        Frame::Text(message.to_string())
    }

    /// The refusal of signing in.
    pub(super) fn auth_error(message: &str) -> Frame {
        Frame::Text(json!({"type": "auth_error", "message": message}).to_string())
    }

    /// An error of a subscription, or of the connection if there is none.
    pub(super) fn error(self, subscription: &str, code: &str, message: &str) -> Result<Frame> {
        self.value(&json!({"type": "error", "subscription_id": subscription, "code": code, "message": message}))
    }

    /// The subscription stands.
    pub(super) fn ack(
        self,
        subscription: &str,
        total_rows: u64,
        control: BatchControl,
        schema: &SchemaRef,
        flags: &[ColumnFlags],
    ) -> Result<Frame> {
        let mut out = begun("subscription_ack", subscription);
        out.extend_from_slice(format!(",\"total_rows\":{total_rows},\"batch_control\":").as_bytes());
        write_json(&control_of(control), &mut out);
        out.extend_from_slice(b",\"schema\":");
        write_schema(schema, flags, &mut out);
        out.push(b'}');
        self.whole(out)
    }

    /// Rows of a snapshot.
    pub(super) fn batch(self, subscription: &str, rows: &RecordBatch, control: BatchControl) -> Result<Frame> {
        let mut out = begun("initial_data_batch", subscription);
        out.extend_from_slice(b",\"rows\":[");
        let schema = rows.schema();
        let (writer, names) = (RowWriter::new(&schema, rows)?, names(schema.fields()));
        for row in 0..writer.rows() {
            separate(row, &mut out);
            writer.write_object(&names, row, &mut out);
        }
        out.extend_from_slice(b"],\"batch_control\":");
        write_json(&control_of(control), &mut out);
        out.push(b'}');
        self.whole(out)
    }

    /// A change.
    pub(super) fn change(self, subscription: &str, change: &LiveChange) -> Result<Frame> {
        // What cannot be encoded is not kept: the next who asks hears the same.
        let mut failed = None;
        let mut keep = |encoded: Result<Vec<u8>>| match encoded {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                failed = Some(error);
                Bytes::new()
            }
        };
        let shared = match self.format {
            Format::Json => change.encoded(0, || keep(json_of(change))),
            Format::MessagePack => change.encoded(1, || keep(message_pack_of(change))),
        };
        if let Some(error) = failed {
            return Err(error);
        }
        match (self.format, shared.split_first()) {
            (_, None) => Err(Error::internal("a change could not be encoded")),
            (Format::Json, _) => {
                let mut out = begun("change", subscription);
                out.extend_from_slice(&shared);
                text(out)
            }
            (Format::MessagePack, Some((fields, pairs))) => {
                let mut out = vec![0x80 | (fields + 2)];
                for word in ["type", "change", "subscription_id", subscription] {
                    out.extend_from_slice(&packed(&word)?);
                }
                out.extend_from_slice(pairs);
                Ok(Frame::Binary(out.into()))
            }
        }
    }

    fn whole(self, json: Vec<u8>) -> Result<Frame> {
        match self.format {
            Format::Json if self.compresses && json.len() >= COMPRESSED_FROM_BYTES => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(json.len() / 4), Compression::fast());
                let packed = encoder.write_all(&json).and_then(|()| encoder.finish());
                let packed = packed.map_err(|error| Error::internal("compressing a message").with_source(error))?;
                Ok(Frame::Binary(packed.into()))
            }
            Format::Json => text(json),
            Format::MessagePack => self.value(&as_value(&json)?),
        }
    }

    fn value(self, message: &Value) -> Result<Frame> {
        match self.format {
            Format::Json => Ok(Frame::Text(message.to_string())),
            Format::MessagePack => Ok(Frame::Binary(packed(message)?.into())),
        }
    }
}

fn text(json: Vec<u8>) -> Result<Frame> {
    let text = String::from_utf8(json).map_err(|error| Error::internal("JSON that is no text").with_source(error))?;
    Ok(Frame::Text(text))
}

fn packed(value: &(impl serde::Serialize + ?Sized)) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|error| Error::internal("encoding MessagePack").with_source(error))
}

fn as_value(json: &[u8]) -> Result<Value> {
    serde_json::from_slice(json).map_err(|error| Error::internal("our own JSON").with_source(error))
}

/// `{"type":...,"subscription_id":...`.
fn begun(kind: &str, subscription: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"subscription_id\":");
    write_json(subscription, &mut out);
    out
}

fn control_of(control: BatchControl) -> Value {
    let status = match (control.has_more, control.number) {
        (false, _) => "ready",
        (true, 0) => "loading",
        (true, _) => "loading_batch",
    };
    let mut value = json!({"batch_num": control.number, "has_more": control.has_more, "status": status});
    if let Some(last) = control.last_seq {
        value["last_seq_id"] = last.into();
    }
    value
}

fn kind_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "insert",
        ChangeKind::Update => "update",
        ChangeKind::Delete => "delete",
    }
}

/// What all receivers of a change share, the closing brace included.
fn json_of(change: &LiveChange) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b",\"change_type\":\"");
    out.extend_from_slice(kind_word(change.kind()).as_bytes());
    out.push(b'"');
    if let Some((rows, row)) = change.row() {
        out.extend_from_slice(b",\"rows\":[");
        let schema = rows.schema();
        RowWriter::new(&schema, &rows.slice(row, 1))?.write_object(&names(schema.fields()), 0, &mut out);
        out.push(b']');
    }
    if let Some(cells) = change.old_values() {
        out.extend_from_slice(b",\"old_values\":[{");
        for (index, cell) in cells.iter().enumerate() {
            separate(index, &mut out);
            write_json(cell.field.name(), &mut out);
            out.push(b':');
            write_cell(&cell.field, &cell.values, cell.row, &mut out)?;
        }
        out.extend_from_slice(b"}]");
    }
    out.push(b'}');
    Ok(out)
}

/// The same: how many fields, and the fields.
fn message_pack_of(change: &LiveChange) -> Result<Vec<u8>> {
    let mut shared = b"{".to_vec();
    shared.extend_from_slice(&json_of(change)?[1..]);
    let Value::Object(fields) = as_value(&shared)? else { return Err(Error::internal("our own JSON")) };
    let mut out = vec![u8::try_from(fields.len()).unwrap_or_default()];
    for (name, value) in &fields {
        out.extend_from_slice(&packed(name)?);
        out.extend_from_slice(&packed(value)?);
    }
    Ok(out)
}
