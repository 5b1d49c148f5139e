//! On which thread a request is carried out.
//!
//! Handing a request to another thread costs more than a lookup by key does, so it may begin on the thread that received
//! it, as a guest: [`poll_as_guest`]. A guest does nothing there that takes long or reads the cold tier. It
//! [leaves](leave) first, and whoever polls it has it go on among the engine's own threads.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static GUEST: Cell<Guest> = const { Cell::new(Guest::None) };
}

/// What this thread polls now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Work that may take as long as it likes.
    None,
    /// Work that has to leave before it takes long.
    Here,
    /// The same, and it is about to.
    Leaving,
}

/// How far a guest has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Visit<T> {
    /// To its end.
    Done(T),
    /// To something that it waits for here.
    Waits,
    /// To something that takes long: it is to be polled elsewhere, and not as a guest.
    Leaves,
}

/// Polls work that has to [leave] this thread before it takes long.
pub fn poll_as_guest<F: Future + ?Sized>(work: Pin<&mut F>, context: &mut Context<'_>) -> Visit<F::Output> {
    /// Also if the work panics.
    struct Gone;
    impl Drop for Gone {
        fn drop(&mut self) {
            GUEST.set(Guest::None);
        }
    }
    let _gone = Gone;
    GUEST.set(Guest::Here);
    match work.poll(context) {
        Poll::Ready(done) => Visit::Done(done),
        Poll::Pending if GUEST.get() == Guest::Leaving => Visit::Leaves,
        Poll::Pending => Visit::Waits,
    }
}

/// To be awaited before whatever takes long. Whoever is no guest goes on at once.
pub async fn leave() {
    std::future::poll_fn(|_| match GUEST.get() {
        Guest::None => Poll::Ready(()),
        // Nobody is to be woken: whoever polls the guest has it polled again elsewhere.
        Guest::Here | Guest::Leaving => {
            GUEST.set(Guest::Leaving);
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
