//! The way out of a connection. How much of what was sent the socket has not taken yet is known, so that nothing more is
//! made ready for a client that does not read.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_ws::{CloseReason, Closed, Session};
use bytes::Bytes;
use tokio::sync::Notify;

use super::outbound::Frame;

/// Bytes that may be on their way to the socket before the next message is made. One message may have more.
const UNTAKEN_BYTES_MAX: usize = 256 << 10;
/// Bytes that the HTTP server is given at once. When it asks for more it has written most of them.
const PIECE_BYTES: usize = 32 << 10;

/// What is on its way to the socket.
#[derive(Debug, Default)]
struct Pace {
    bytes: Cell<usize>,
    is_over: Cell<bool>,
    moved: Notify,
}

impl Pace {
    fn taken(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        self.moved.notify_waiters();
    }

    fn end(&self) {
        self.is_over.set(true);
        self.moved.notify_waiters();
    }
}

/// Sends on a connection.
#[derive(Clone)]
pub(super) struct Outflow {
    session: Session,
    pace: Rc<Pace>,
}

impl Outflow {
    /// The way out by a session, and the response that it needs for that.
    pub(super) fn of(session: Session, response: HttpResponse) -> (Self, HttpResponse) {
        let pace = Rc::<Pace>::default();
        let body = |inner| Body { inner, piece: Bytes::new(), lent: 0, pace: pace.clone() };
        let response = response.map_body(|_, inner| BoxBody::new(body(inner)));
        (Self { session, pace }, response)
    }

    /// Waits until the socket has taken enough for the next message. Fails if it takes nothing at all for so long.
    pub(super) async fn room(&self, patience: Duration) -> Result<(), Stuck> {
        loop {
            let moved = self.pace.moved.notified();
            if self.pace.is_over.get() || self.pace.bytes.get() < UNTAKEN_BYTES_MAX {
                return Ok(());
            }
            tokio::time::timeout(patience, moved).await.map_err(|_| Stuck)?;
        }
    }

    /// Sends a message; it waits while many others do.
    pub(super) async fn send(&mut self, frame: Frame) -> Result<(), Closed> {
        let bytes = frame.bytes();
        match frame {
            Frame::Text(text) => self.session.text(text).await?,
            Frame::Binary(bytes) => self.session.binary(bytes).await?,
        }
        self.sent(bytes);
        Ok(())
    }

    /// Asks whether the client is there.
    pub(super) async fn ping(&mut self) -> Result<(), Closed> {
        self.session.ping(b"").await?;
        self.sent(0);
        Ok(())
    }

    /// Answers a ping.
    pub(super) async fn pong(&mut self, payload: &[u8]) -> Result<(), Closed> {
        self.session.pong(payload).await?;
        self.sent(payload.len());
        Ok(())
    }

    /// IMPORTANT: after it was queued, with nothing awaited in between, so that it is never taken before it is counted.
    fn sent(&self, payload: usize) {
        let head = match payload {
            0..126 => 2,
            126..=65_535 => 4,
            _ => 10,
        };
        self.pace.bytes.set(self.pace.bytes.get() + head + payload);
    }

    /// Closes the connection and waits until that, and everything before it, has been taken.
    pub(super) async fn close(self, reason: Option<CloseReason>) {
        if self.session.close(reason).await.is_err() {
            return;
        }
        loop {
            let moved = self.pace.moved.notified();
            if self.pace.is_over.get() {
                return;
            }
            moved.await;
        }
    }
}

/// A client that takes nothing.
#[derive(Debug)]
pub(super) struct Stuck;

/// What the HTTP server reads frames from.
struct Body {
    inner: BoxBody,
    /// What it has not been given yet.
    piece: Bytes,
    /// What it was given last.
    lent: usize,
    pace: Rc<Pace>,
}

impl MessageBody for Body {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.inner.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        // It asks for more when it has written most of what it had.
        this.pace.taken(std::mem::take(&mut this.lent));
        if this.piece.is_empty() {
            match ready!(this.inner.as_pin_mut().poll_next(context)) {
                Some(Ok(bytes)) => this.piece = bytes,
                end => return Poll::Ready(end),
            }
        }
        let next = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
        this.lent = next.len();
        Poll::Ready(Some(Ok(next)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.pace.end();
    }
}
