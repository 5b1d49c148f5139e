//! The catalog in the hot store: one JSON record per entity, under the system keys of its kind.
//!
//! Fields that a record has and this build does not know are ignored, and optional ones that it lacks get their
//! default, so that records of earlier and later builds can be read. Names in keys are escaped; the true ones are
//! in the records.

use bytes::Bytes;
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{Incarnation, NamespaceId, StorageId, TableRef, UserId, escape_component};
use kalamdb_store::{Snapshot, keys};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::edit::Draft;
use super::model::{Dropped, Namespace, StorageDefinition, User, View};
use super::snapshot::{Catalog, Counters};
use kalamdb_commons::schema::Table;

const COUNTERS: &str = "catalog";
const NAMESPACE: &str = "namespace";
const TABLE: &str = "table";
const VIEW: &str = "view";
const USER: &str = "user";
const DROPPED: &str = "dropped";
const STORAGE: &str = "storage";

const PAGE_ENTRIES: usize = 1_024;
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn counters_key() -> Bytes {
    keys::system(COUNTERS, "counters")
}

pub(super) fn namespace_key(id: &NamespaceId) -> Bytes {
    keys::system(NAMESPACE, &escape_component(id.as_str()))
}

pub(super) fn table_key(name: &TableRef) -> Bytes {
    keys::system(TABLE, &path(name))
}

pub(super) fn view_key(name: &TableRef) -> Bytes {
    keys::system(VIEW, &path(name))
}

pub(super) fn user_key(id: &UserId) -> Bytes {
    keys::system(USER, &escape_component(id.as_str()))
}

pub(super) fn dropped_key(incarnation: Incarnation) -> Bytes {
    keys::system(DROPPED, &format!("{:010}", incarnation.0))
}

pub(super) fn storage_key(id: &StorageId) -> Bytes {
    keys::system(STORAGE, &escape_component(id.as_str()))
}

fn path(name: &TableRef) -> String {
    format!("{}/{}", escape_component(name.namespace.as_str()), escape_component(name.table.as_str()))
}

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(record: &T) -> Bytes {
    let bytes =
        serde_json::to_vec(record).unwrap_or_else(|_| unreachable!("records have text keys and no failing serializer"));
    Bytes::from(bytes)
}

/// Every record of a kind.
pub(crate) async fn read_all<T: DeserializeOwned>(snapshot: &dyn Snapshot, kind: &str) -> Result<Vec<T>> {
    let prefix = keys::system_prefix(kind);
    let end = keys::prefix_end(&prefix);
    let mut start = prefix;
    let mut found = Vec::new();
    loop {
        let page = snapshot.scan(&start, &end, PAGE_ENTRIES, PAGE_BYTES).await?;
        for (key, value) in &page.entries {
            found.push(decode(kind, key, value)?);
        }
        match page.next {
            Some(next) => start = next,
            None => return Ok(found),
        }
    }
}

fn decode<T: DeserializeOwned>(kind: &str, key: &[u8], value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| {
        Error::corrupt(format!("the catalog's {kind} record '{}' cannot be read", String::from_utf8_lossy(key)))
            .with_source(error)
    })
}

/// Reads the catalog as it was committed. An empty store gives an empty catalog of version 0.
pub async fn load(snapshot: &dyn Snapshot) -> Result<Catalog> {
    let mut draft = Draft::new(&Catalog::default());
    for namespace in read_all::<Namespace>(snapshot, NAMESPACE).await? {
        draft.put_namespace(namespace);
    }
    for table in read_all::<Table>(snapshot, TABLE).await? {
        draft.put_table(check_table(table)?);
    }
    for view in read_all::<View>(snapshot, VIEW).await? {
        draft.put_view(view);
    }
    for user in read_all::<User>(snapshot, USER).await? {
        draft.put_user(user);
    }
    for dropped in read_all::<Dropped>(snapshot, DROPPED).await? {
        draft.put_dropped(dropped);
    }
    for storage in read_all::<StorageDefinition>(snapshot, STORAGE).await? {
        draft.put_storage(storage);
    }
    let counters = read_all::<Counters>(snapshot, COUNTERS).await?.pop().unwrap_or_default();
    let catalog = Catalog { counters, ..draft.into_catalog() };
    check_counters(&catalog)?;
    Ok(catalog)
}

/// What the rest of the code takes for granted of a stored table.
fn check_table(table: Table) -> Result<Table> {
    if table.columns_at(table.version).is_none() {
        return Err(Error::corrupt(format!("table '{}' has no columns for its version {}", table.name, table.version)));
    }
    Ok(table)
}

/// A number at or above a counter would be given again.
fn check_counters(catalog: &Catalog) -> Result<()> {
    let tables = catalog.tables.values().map(|table| (table.id, table.incarnation));
    let dropped = catalog.dropped.values().map(|dropped| (dropped.table.id, dropped.successor));
    for (id, incarnation) in tables.chain(dropped) {
        if id >= catalog.counters.next_table || incarnation >= catalog.counters.next_incarnation {
            return Err(Error::corrupt(format!(
                "the catalog's counters are behind table {id}, incarnation {incarnation}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
