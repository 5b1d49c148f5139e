//! What panics while it works for live queries ends them with an error; it takes nobody else with it, and leaves nobody
//! waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use kalamdb_commons::Error;

fn broken() -> Error {
    Error::internal("a live query panicked; the log says where")
}

/// Does some work; an error if it panics.
pub(super) async fn caught<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(broken().into()))
}

/// The same for work that does not wait.
pub(super) fn caught_now<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(broken().into()))
}

#[cfg(test)]
mod tests;
