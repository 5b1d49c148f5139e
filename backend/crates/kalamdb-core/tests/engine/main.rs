//! The engine as a whole, on a real data directory: every statement goes through parsing, committing, flushing and
//! reading as it does in the server.
#![expect(clippy::unwrap_used, reason = "tests")]

mod as_user;
mod audit;
mod backup;
mod checks;
mod compaction;
mod db;
mod equivalence;
mod erase;
mod forged;
mod hostile;
mod isolation;
mod jobs;
mod life;
mod live;
mod manifest_cache;
mod model;
mod pruning;
mod purge;
mod receipts;
mod requirements;
mod roles;
mod scale;
mod schema;
mod streams;
mod tiers;
