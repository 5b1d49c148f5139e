//! An answer on its way from the engine's threads to the HTTP worker that sends it.
//!
//! What the engine's side writes is held back up to a limit, so that an error that comes early still gets its
//! status code. Beyond the limit the head goes out with 200 and the rest streams, a piece at a time, no faster
//! than the client reads. When the client is gone, [`Reply::gone`] says so, and whoever works for it stops.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for the client.
const PIECES_WAITING_MAX: usize = 2;
/// What a short answer takes.
const BUFFER_BYTES: usize = 1_024;
/// The size of a piece once the answer streams.
const PIECE_BYTES: usize = 64 * 1024;

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The answer ended before its end: the connection is cut, so that no client takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut short by an error")]
pub(crate) struct CutShort;

/// How an answer begins.
#[derive(Debug)]
pub(crate) enum Head {
    /// All of it.
    Whole {
        /// The status code.
        status: u16,
        /// The body's type.
        content_type: &'static str,
        /// The body.
        body: Bytes,
        /// After how many seconds to try again.
        retry_after_seconds: Option<u32>,
    },
    /// The first of many pieces; the rest come from [`Incoming::pieces`].
    Streaming {
        /// The body's type.
        content_type: &'static str,
    },
}

/// The engine's side. One that is dropped before its end cuts the answer off, so that the client sees that it is not
/// whole.
pub(crate) struct Reply {
    head: Option<oneshot::Sender<Head>>,
    pieces: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
    hold_bytes: usize,
    content_type: &'static str,
    retry_after_seconds: Option<u32>,
    copy: Option<Copy>,
}

/// A second copy of the body, to be kept under an idempotency key.
struct Copy {
    bytes: Vec<u8>,
    bytes_max: usize,
    overflowed: bool,
}

/// The HTTP worker's side. Dropping it tells the other side that nobody waits.
pub(crate) struct Incoming {
    head: oneshot::Receiver<Head>,
    pieces: mpsc::Receiver<Piece>,
}

/// Part of an answer that streams. A channel that closes without an [`Piece::End`] was left by a writer that broke down.
enum Piece {
    Data(Bytes),
    End,
}

/// The two sides of an answer of which up to `hold_bytes` are held back.
pub(crate) fn channel(hold_bytes: usize, content_type: &'static str) -> (Reply, Incoming) {
    let (head, head_receiver) = oneshot::channel();
    let (pieces, pieces_receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let reply = Reply {
        head: Some(head),
        pieces,
        buffer: Vec::with_capacity(BUFFER_BYTES),
        hold_bytes,
        content_type,
        retry_after_seconds: None,
        copy: None,
    };
    (reply, Incoming { head: head_receiver, pieces: pieces_receiver })
}

impl Incoming {
    /// Waits for the beginning. `None` if the engine's side broke down without a word.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        std::future::poll_fn(|context| self.poll_head(context)).await
    }

    /// The same for whoever waits for something else too.
    pub(crate) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Option<Head>> {
        Pin::new(&mut self.head).poll(context).map(Result::ok)
    }

    /// What follows [`Head::Streaming`].
    pub(crate) fn pieces(self) -> impl Stream<Item = Result<Bytes, CutShort>> {
        futures::stream::unfold(Some(self.pieces), |pieces| async {
            let mut pieces = pieces?;
            match pieces.recv().await {
                Some(Piece::Data(bytes)) => Some((Ok(bytes), Some(pieces))),
                Some(Piece::End) => None,
                None => Some((Err(CutShort), None)),
            }
        })
    }
}

impl Reply {
    /// Where the answer is written.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether the head is out, and the status with it.
    pub(crate) fn has_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Sets the type of the body; without effect once it has begun.
    pub(crate) fn set_content_type(&mut self, content_type: &'static str) {
        self.content_type = content_type;
    }

    /// Says when to try again; without effect once it has begun.
    pub(crate) fn set_retry_after_seconds(&mut self, seconds: Option<u32>) {
        self.retry_after_seconds = seconds;
    }

    /// Keeps a copy of the body, up to `bytes_max`. Such an answer is written to its end although nobody waits: the
    /// copy is for the client's next attempt.
    pub(crate) fn keep_copy(&mut self, bytes_max: usize) {
        self.copy = Some(Copy { bytes: Vec::new(), bytes_max, overflowed: false });
    }

    /// Resolves when nobody waits for the answer any more.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let pieces = self.pieces.clone();
        async move { pieces.closed().await }
    }

    /// Sends what is more than may be held back, and waits while the client is slow. To be called often.
    pub(crate) async fn flow(&mut self) -> Result<(), Gone> {
        let limit = if self.has_begun() { PIECE_BYTES } else { self.hold_bytes };
        if self.buffer.len() <= limit { Ok(()) } else { self.send().await }
    }

    async fn send(&mut self) -> Result<(), Gone> {
        let mut outcome = Ok(());
        if let Some(head) = self.head.take() {
            outcome = head.send(Head::Streaming { content_type: self.content_type }).map_err(|_| Gone);
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4));
        if let Some(copy) = &mut self.copy {
            copy.add(&piece);
        }
        if outcome.is_ok() {
            outcome = self.pieces.send(Piece::Data(piece.into())).await.map_err(|_| Gone);
        }
        if self.copy.is_some() { Ok(()) } else { outcome }
    }

    /// The copy that was asked for, as it will be when what is held back now has been sent; `None` if it is too long.
    pub(crate) fn whole_copy(&self) -> Option<Bytes> {
        let copy = self.copy.as_ref().filter(|copy| !copy.overflowed)?;
        let fits = copy.bytes.len() + self.buffer.len() <= copy.bytes_max;
        fits.then(|| [copy.bytes.as_slice(), self.buffer.as_slice()].concat().into())
    }

    /// Ends the answer. The status counts if nothing was sent yet. Gives back the copy that was asked for, if it
    /// fitted, whether or not the client is still there.
    pub(crate) async fn finish(mut self, status: u16) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            let body = Bytes::from(std::mem::take(&mut self.buffer));
            let copy = self.copy.take().filter(|copy| body.len() <= copy.bytes_max).map(|_| body.clone());
            let (content_type, retry_after_seconds) = (self.content_type, self.retry_after_seconds);
            let _gone = head.send(Head::Whole { status, content_type, body, retry_after_seconds });
            return copy;
        }
        if self.send().await.is_ok() {
            let _gone = self.pieces.send(Piece::End).await;
        }
        self.copy.take().filter(|copy| !copy.overflowed).map(|copy| copy.bytes.into())
    }
}

impl Copy {
    fn add(&mut self, piece: &[u8]) {
        if self.overflowed || self.bytes.len() + piece.len() > self.bytes_max {
            self.overflowed = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(piece);
        }
    }
}

#[cfg(test)]
mod tests;
