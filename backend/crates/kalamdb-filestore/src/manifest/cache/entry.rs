//! One entry of the persistent level: JSON that a person can read (FR-036).
//!
//! It is tolerant in both directions: a field that a build does not know is ignored, and one that an entry lacks has a
//! default with which the entry is merely read from storage again. What cannot be read at all counts as absent.

use kalamdb_commons::ids::{NamespaceId, Scope, StorageId, TableName, TableRef, escape_component};
use kalamdb_commons::manifest::{MANIFEST_FILE, Manifest};
use serde::{Deserialize, Serialize};

use crate::manifest::Loaded;
use crate::partition::PartitionSpec;

/// The format of entries that this build writes.
const ENTRY_FORMAT_VERSION: u32 = 1;

/// Whether an entry is what storage holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It was, when it was last compared.
    InSync,
    /// The last attempt to compare or to write it failed.
    Error,
    /// It has not been compared for longer than its time to live, or not since the start.
    #[default]
    #[serde(other)]
    Stale,
}

impl SyncState {
    /// As SHOW MANIFEST CACHE writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }
}

/// All of an entry but its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    #[serde(default)]
    pub(crate) format_version: u32,
    pub(crate) namespace: NamespaceId,
    pub(crate) table: TableName,
    pub(crate) scope: Scope,
    #[serde(default)]
    pub(crate) storage: Option<StorageId>,
    /// Where the manifest lies in its storage.
    #[serde(default)]
    pub(crate) source_path: String,
    #[serde(default)]
    pub(crate) etag: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub(crate) last_refreshed: String,
    #[serde(default)]
    pub(crate) sync_state: SyncState,
}

impl Head {
    /// When it was last compared with storage, ms since 1970; long ago if the entry does not say.
    pub(crate) fn last_refreshed_ms(&self) -> i64 {
        chrono::DateTime::parse_from_rfc3339(&self.last_refreshed).map_or(0, |time| time.timestamp_millis())
    }

    pub(crate) fn table_ref(&self) -> TableRef {
        TableRef { namespace: self.namespace.clone(), table: self.table.clone() }
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) manifest: Manifest,
}

/// An entry on its way to the persistent level.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    head: Head,
    manifest: &'a Manifest,
}

/// The JSON of an entry that agrees with storage.
pub(crate) fn encode(spec: &PartitionSpec, loaded: &Loaded, now_ms: i64) -> serde_json::Result<Vec<u8>> {
    let refreshed = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let head = Head {
        format_version: ENTRY_FORMAT_VERSION,
        namespace: spec.table.namespace.clone(),
        table: spec.table.table.clone(),
        scope: spec.scope.clone(),
        storage: Some(spec.storage.clone()),
        source_path: spec.path().file(MANIFEST_FILE),
        etag: loaded.tag.as_ref().map(|tag| tag.as_str().to_owned()),
        last_refreshed: refreshed.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        sync_state: SyncState::InSync,
    };
    serde_json::to_vec(&Written { head, manifest: &loaded.manifest })
}

/// The key of a partition's entry: `{namespace}:{table}:{scope}`, each part escaped (FR-035).
pub(crate) fn key(table: &TableRef, scope: &Scope) -> String {
    let [namespace, table] = [table.namespace.as_str(), table.table.as_str()].map(escape_component);
    format!("{namespace}:{table}:{}", scope.directory())
}

#[cfg(test)]
mod tests;
