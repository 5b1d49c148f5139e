//! The node's cache, in a column family of its own.

use async_trait::async_trait;
use bytes::Bytes;
use rocksdb::ReadOptions;

use super::snapshot::{family, read_page};
use super::{CACHE_FAMILY, RocksShard, failed};
use crate::error::Result;
use crate::node_cache::NodeCache;
use crate::shard::Page;

#[async_trait]
impl NodeCache for RocksShard {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let key = key.to_vec();
        self.run(move |_, db| {
            let found = db.get_cf(family(db, CACHE_FAMILY)?, key).map_err(|e| failed("reading the cache", &e))?;
            Ok(found.map(Bytes::from))
        })
        .await
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let (key, value) = (key.to_vec(), value.to_vec());
        self.run(move |shared, db| {
            shared.check_writable()?;
            db.put_cf(family(db, CACHE_FAMILY)?, key, value).map_err(|e| shared.write_failed(&e))
        })
        .await
    }

    async fn delete(&self, key: &[u8]) -> Result<()> {
        let key = key.to_vec();
        self.run(move |shared, db| {
            shared.check_writable()?;
            db.delete_cf(family(db, CACHE_FAMILY)?, key).map_err(|e| shared.write_failed(&e))
        })
        .await
    }

    async fn iterate(&self, start: &[u8], max_entries: usize) -> Result<Page> {
        let start = start.to_vec();
        self.run(move |_, db| {
            let options = ReadOptions::default();
            read_page(db, family(db, CACHE_FAMILY)?, options, &start, &[], max_entries, usize::MAX)
        })
        .await
    }
}
