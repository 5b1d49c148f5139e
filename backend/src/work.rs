//! The work of a request, between the HTTP worker that received it and the engine's threads.
//!
//! It begins on the worker, and stays there as long as it does nothing that takes long ([`kalamdb_core::threads`]): a
//! lookup by key ends there, and the INSERT of a row waits there for its commit. Whatever else it comes to is done among
//! the engine's threads. Work that is dropped with its request is cancelled, wherever it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Context;

use kalamdb_core::threads::{Visit, poll_as_guest};
use tokio::runtime::Handle;

use crate::reply::{Head, Incoming};

/// Begins work that answers to `incoming`, and waits for the beginning of the answer. What is left of the work then
/// goes on among the engine's threads. `None` if the work broke down without a word.
pub(crate) async fn begin_here(
    engine: &Handle,
    work: impl Future<Output = ()> + Send + 'static,
    incoming: &mut Incoming,
) -> Option<Head> {
    let mut here = Here { work: Some(Box::pin(work)), engine };
    let head = std::future::poll_fn(|context| {
        here.go_on(context);
        incoming.poll_head(context)
    });
    let head = head.await;
    here.leave();
    head
}

/// Work on this thread. Everything that it calls finds the engine's runtime as its own, its end included.
struct Here<'a> {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    engine: &'a Handle,
}

impl Here<'_> {
    fn go_on(&mut self, context: &mut Context<'_>) {
        let Some(work) = &mut self.work else { return };
        let _entered = self.engine.enter();
        match catch_unwind(AssertUnwindSafe(|| poll_as_guest(work.as_mut(), context))) {
            Ok(Visit::Waits) => {}
            Ok(Visit::Leaves) => self.leave(),
            // As a task that panics: its other end is told by the reply that is dropped.
            Ok(Visit::Done(())) | Err(_) => self.work = None,
        }
    }

    fn leave(&mut self) {
        if let Some(work) = self.work.take() {
            self.engine.spawn(work);
        }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let _entered = self.engine.enter();
        self.work = None;
    }
}

#[cfg(test)]
mod tests;
