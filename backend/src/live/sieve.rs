//! Holds back the frames of a client that are too large, before anything collects them: their length stands at their
//! beginning. Everything else passes as it is; what is wrong with it in other ways is for the WebSocket library to say.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use tokio::sync::Notify;

/// The most bytes before a frame's payload.
const HEAD_BYTES_MAX: usize = 14;

/// How many times too large a message may be that is dropped, and not the connection with it.
const DROPPED_TIMES_MAX: u64 = 16;

/// Where in the stream of frames it is.
#[derive(Debug)]
enum At {
    /// In the head of a frame, of which this much has come.
    Head(Vec<u8>),
    /// In a payload that passes, with so much left.
    Passing(u64),
    /// In one that does not.
    Dropping(u64),
    /// In what is no sequence of frames.
    Elsewhere,
}

/// Which messages were held back.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    messages: Cell<usize>,
    is_final: Cell<bool>,
    more: Notify,
}

impl HeldBack {
    /// Waits for the next message that is held back. A future that is dropped has taken nothing.
    pub(super) async fn next(&self) {
        while self.messages.get() == 0 {
            self.more.notified().await;
        }
        self.messages.set(self.messages.get() - 1);
    }

    /// Holds a frame back, and says where that leads to.
    fn hold(&self, first: u8, length: u64, bytes_max: u64) -> Result<At, PayloadError> {
        let is_whole_message = matches!(first, 0x81 | 0x82);
        if !is_whole_message || length / DROPPED_TIMES_MAX > bytes_max {
            self.is_final.set(true);
            return Err(PayloadError::Overflow);
        }
        self.messages.set(self.messages.get() + 1);
        self.more.notify_one();
        Ok(At::Dropping(length))
    }

    /// Whether a part of a message was held back, or one that is out of all proportion: nothing comes after it.
    pub(super) fn is_final(&self) -> bool {
        self.is_final.get()
    }
}

/// What a client sends, without frames of more than so many bytes.
pub(super) struct Sieve {
    payload: Payload,
    at: At,
    bytes_max: u64,
    held_back: Rc<HeldBack>,
}

impl Sieve {
    pub(super) fn new(payload: Payload, bytes_max: usize) -> Self {
        Self { payload, at: At::Head(Vec::new()), bytes_max: bytes_max as u64, held_back: Rc::default() }
    }

    pub(super) fn held_back(&self) -> Rc<HeldBack> {
        self.held_back.clone()
    }

    /// What passes of the next bytes.
    fn sift(&mut self, mut bytes: &[u8]) -> Result<Bytes, PayloadError> {
        let mut passed = BytesMut::with_capacity(bytes.len() + HEAD_BYTES_MAX);
        let Self { at, bytes_max, held_back, .. } = self;
        while let Some((first, rest)) = bytes.split_first() {
            match at {
                At::Head(head) => {
                    head.push(*first);
                    bytes = rest;
                    if let Some(next) = after(head, *bytes_max, held_back, &mut passed)? {
                        *at = next;
                    }
                }
                At::Passing(left) => {
                    let (taken, others) = bytes.split_at(within(*left, bytes.len()));
                    passed.put_slice(taken);
                    *left -= taken.len() as u64;
                    bytes = others;
                    if *left == 0 {
                        *at = At::Head(Vec::new());
                    }
                }
                At::Dropping(left) => {
                    let dropped = within(*left, bytes.len());
                    *left -= dropped as u64;
                    bytes = &bytes[dropped..];
                    if *left == 0 {
                        *at = At::Head(Vec::new());
                    }
                }
                At::Elsewhere => {
                    passed.put_slice(bytes);
                    bytes = &[];
                }
            }
        }
        Ok(passed.freeze())
    }
}

/// Where a head leads to, once there is enough of it.
fn after(head: &[u8], bytes_max: u64, held_back: &HeldBack, passed: &mut BytesMut) -> Result<Option<At>, PayloadError> {
    let [first, second, extended @ ..] = head else { return Ok(None) };
    let (is_plain, is_masked) = (first & 0x70 == 0, second & 0x80 != 0);
    if !is_plain || !is_masked {
        passed.put_slice(head);
        return Ok(Some(At::Elsewhere));
    }
    let extended_bytes = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if extended.len() < extended_bytes + 4 {
        return Ok(None);
    }
    let length = match extended_bytes {
        0 => u64::from(second & 0x7f),
        _ => extended[..extended_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    if length > bytes_max {
        return held_back.hold(*first, length, bytes_max).map(Some);
    }
    passed.put_slice(head);
    Ok(Some(if length == 0 { At::Head(Vec::new()) } else { At::Passing(length) }))
}

fn within(left: u64, bytes: usize) -> usize {
    usize::try_from(left).map_or(bytes, |left| left.min(bytes))
}

impl Stream for Sieve {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.payload).poll_next(context).map(|next| next.map(|bytes| self.sift(&bytes?)))
    }
}

#[cfg(test)]
mod tests;
