//! The words of KalamDB: what every other crate means by a namespace, a scope, a row id, a schema, a
//! manifest or an error.
//!
//! Nothing here does I/O, and nothing here knows RocksDB, Parquet, DataFusion or HTTP. The map:
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | typed names and numbers; validation of names; the escaping that makes them safe in paths |
//! | [`system_columns`] | the one component that makes `_id`, `_updated` and `_deleted` |
//! | [`types`] | column types and their Arrow form |
//! | [`schema`] | tables, their versioned columns, constraints and options |
//! | [`manifest`] | the manifest of a partition, as it is stored |
//! | [`clock`] | the only reader of time, and the injected source of randomness |
//! | [`digest`] | SHA-256 of what is copied |
//! | [`error`] | the one public error and its kinds |
//! | [`settings`] | every setting with its default and what it trades |
//! | [`storage`] | what a storage that SQL made is, and its sealed credentials |
//! | [`unique`] | UUIDs and ULIDs that grow with time |

pub mod clock;
pub mod digest;
pub mod error;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod rate;
pub mod schema;
pub mod settings;
pub mod storage;
pub mod system_columns;
pub mod types;
pub mod unique;

pub use error::{Error, ErrorKind, Result};
