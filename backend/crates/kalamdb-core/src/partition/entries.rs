//! The persistent level of the manifest cache: the node's cache in the store, under keys that are text.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::EntryStore;
use kalamdb_store::NodeCache;

/// Entries in the node's cache.
#[derive(Debug)]
pub(crate) struct NodeEntries(pub(crate) Arc<dyn NodeCache>);

#[async_trait]
impl EntryStore for NodeEntries {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.get(key.as_bytes()).await?)
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.0.put(key.as_bytes(), value).await?)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        Ok(self.0.delete(key.as_bytes()).await?)
    }

    async fn page(&self, start: &[u8], max_entries: usize) -> Result<(Vec<(String, Bytes)>, Option<Bytes>)> {
        let page = self.0.iterate(start, max_entries).await?;
        let text = |(key, value): (Bytes, Bytes)| match String::from_utf8(key.to_vec()) {
            Ok(key) => Ok((key, value)),
            Err(error) => Err(Error::corrupt("a key of the manifest cache is not text").with_source(error)),
        };
        Ok((page.entries.into_iter().map(text).collect::<Result<_>>()?, page.next))
    }
}
