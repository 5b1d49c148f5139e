//! What the suites of this crate share.

use std::path::PathBuf;
use std::sync::Arc;

use kalamdb_commons::settings::{Durability, HotSettings};
use kalamdb_store::{Batch, RocksShard, ShardStore, StoreError};
use tempfile::TempDir;

/// A directory for a store, and its settings.
pub(crate) struct Home {
    directory: TempDir,
    settings: HotSettings,
}

impl Home {
    pub(crate) fn new(durability: Durability) -> Self {
        let settings = HotSettings { durability, block_cache_mib: 4, write_buffer_mib: 4, ..HotSettings::default() };
        Self { directory: tempfile::tempdir().unwrap(), settings }
    }

    /// The store's directory, whose parent does not exist at first either.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("deep").join("hot")
    }

    pub(crate) fn open(&self) -> Arc<RocksShard> {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Arc<RocksShard>, StoreError> {
        RocksShard::open(self.path(), &self.settings)
    }
}

pub(crate) async fn put_all(store: &dyn ShardStore, entries: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(key.to_string(), value.to_string());
    }
    store.commit(store.token(), batch).await.unwrap();
}

/// All entries but system records, as `key=value`.
pub(crate) async fn contents(store: &dyn ShardStore) -> Vec<String> {
    let page = store.snapshot().await.unwrap().scan(b"\x01", b"", 1000, 1 << 20).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    page.entries.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect()
}

/// A batch that sets one key.
pub(crate) fn one(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.to_owned(), value.to_owned());
    batch
}
