//! The engine as a whole, on a real data directory: every statement goes through parsing, committing, flushing and
//! reading as it does in the server.
#![expect(clippy::unwrap_used, missing_docs, reason = "tests")]

mod db;
mod life;
