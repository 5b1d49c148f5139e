//! The catalog: which namespaces, tables, views and users there are.
//!
//! The life of a change: a DDL statement and the current [`Catalog`] go into [`ddl::plan`], which gives a
//! [`CatalogEdit`]: the catalog as it will be, the records to store, and what must still be found true. The engine
//! verifies the expressions and the facts about existing data, commits the records through the committer like any
//! other write, and only then swaps the new catalog in. Whoever holds the old one goes on with it; it never changes.
//!
//! What this promises: a catalog is immutable and cheap to clone; names in it are valid; ids and incarnations are
//! never given twice, because the counters are stored in the same batch as what uses them; what is loaded after a
//! restart equals what was committed before.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | the entities: [`Namespace`], [`View`], [`User`], [`Dropped`] (tables and storages are in commons) |
//! | [`snapshot`] | [`Catalog`], the immutable whole |
//! | [`records`] | its form in the hot store, and loading |
//! | [`edit`] | [`CatalogEdit`], and the draft that makes one |
//! | [`ddl`] | the rules of each statement |
//!
//! When you add an entity, touch `records` (its kind and how it is loaded), `edit` (putting and deleting it) and
//! `system` (how it is shown).

pub mod ddl;
pub mod edit;
pub mod model;
pub mod records;
pub mod snapshot;

#[cfg(test)]
pub(crate) mod fixture;

pub use ddl::{DdlContext, Planned, plan};
pub use edit::{CatalogEdit, DataCheck, Draft, ExpressionRole, NewExpression};
pub use model::{AuthType, Dropped, Namespace, StorageDefinition, User, View, ViewColumn};
pub use records::load;
pub use snapshot::Catalog;
