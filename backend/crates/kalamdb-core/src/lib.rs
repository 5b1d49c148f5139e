//! The engine: catalog, commits, partitions, queries, changes, flush, jobs.
//!
//! A row's way: [`engine`] takes a statement; [`dml`] turns it into a write set; [`commit`] makes that durable and
//! visible in one order; [`flush`] moves it into history; [`query`] and [`tables`] read both tiers as one.
//!
//! | module | holds |
//! |---|---|
//! | [`access`] | which right a statement or an object needs, who sees what |
//! | [`audit`] | who did what on whose behalf: entries, their seals, verification |
//! | [`api`], [`stats`] | what the server says to the engine and hears back |
//! | [`engine`] | opening, closing, requests, accounts, schema changes, upkeep |
//! | [`catalog`], [`system`], [`functions`] | what exists; what the server shows of itself; functions of our own |
//! | [`commit`] | the committer, read points, locks |
//! | [`partition`] | a partition in memory: counts, overlay, cold views, lookups |
//! | [`dml`] | INSERT, UPDATE, DELETE, transactions |
//! | [`query`], [`tables`] | planning and running queries; partitions as DataFusion sees them |
//! | [`metrics`], [`watched`] | the figures of the server; statements, counted and logged when they have ended |
//! | [`threads`] | on which thread a request is carried out |
//! | [`live`] | live queries, on the change log that commits write |
//! | [`flush`], [`compaction`], [`jobs`] | from hot to cold; fewer batches of the cold; the job runner |
//!
//! When you change how a version is found (hot row, overlay, cold view), these must agree: `tables::provider` for
//! scans, `partition::lookup` for single rows, `flush` and `compaction` for what is written, `commit::group` for what is
//! compared.

pub mod access;
pub mod api;
pub(crate) mod audit;
pub(crate) mod backup;
pub mod catalog;
pub(crate) mod commit;
pub(crate) mod compaction;
pub(crate) mod dml;
pub mod engine;
pub(crate) mod flush;
pub mod functions;
pub mod jobs;
pub mod live;
pub mod metrics;
pub(crate) mod partition;
pub(crate) mod query;
pub mod stats;
pub mod system;
pub(crate) mod tables;
pub mod threads;
pub(crate) mod watched;

pub use engine::Engine;
pub use engine::execution::Execution;
pub use engine::idempotency::IdempotencyClaim;
pub use engine::import::Import;
