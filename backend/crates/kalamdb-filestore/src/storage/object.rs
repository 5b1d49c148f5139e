//! An object store, through the `object_store` crate, which retries by itself.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::settings::{ColdSettings, StorageSettings};
use kalamdb_commons::{Error, Result};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion, WriteMultipart,
};

use super::{PutError, Tag};
use crate::failure;

/// Ranges at most this far apart are one request: its latency costs more than transferring that much.
pub(super) const JOIN_GAP_BYTES: u64 = 256 << 10;
/// Requests for one read under way at once.
const READS_PARALLEL: usize = 10;
/// Uploads up to this size are one request, larger ones go in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at once.
const PARTS_PARALLEL: usize = 2;

/// An object store as a storage.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    base: String,
}

impl ObjectStorage {
    /// Wraps a store; all keys begin with `prefix`.
    ///
    /// # Errors
    /// If the prefix is no path.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let prefix = Path::parse(prefix).map_err(|error| {
            Error::invalid_input(format!("storage.s3_prefix '{prefix}' cannot be a key prefix")).with_source(error)
        })?;
        let base = format!("{store}/{prefix}");
        Ok(Self { store, prefix, base })
    }

    /// A bucket as the settings describe it. Conditional writes go by ETag.
    ///
    /// # Errors
    /// If the settings make no client.
    pub fn s3(settings: &StorageSettings, cold: &ColdSettings) -> Result<Self> {
        let timeout = Duration::from_secs(cold.request_timeout_seconds);
        let client = ClientOptions::new()
            .with_timeout(timeout)
            .with_connect_timeout(timeout.min(Duration::from_secs(10)))
            .with_allow_http(settings.s3_allow_http);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.s3_bucket)
            .with_region(&settings.s3_region)
            .with_client_options(client)
            .with_allow_http(settings.s3_allow_http)
            .with_retry(RetryConfig { max_retries: 5, retry_timeout: timeout * 3, ..RetryConfig::default() })
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        if !settings.s3_endpoint.is_empty() {
            builder = builder.with_endpoint(&settings.s3_endpoint);
        }
        if !settings.s3_access_key_id.is_empty() {
            builder = builder
                .with_access_key_id(&settings.s3_access_key_id)
                .with_secret_access_key(&settings.s3_secret_access_key);
        }
        let store = builder.build().map_err(|error| {
            Error::invalid_input(format!("the settings of the S3 bucket '{}' make no client", settings.s3_bucket))
                .with_source(error)
        })?;
        let mut storage = Self::new(Arc::new(store), &settings.s3_prefix)?;
        storage.base = format!("s3://{}/{}", settings.s3_bucket, storage.prefix);
        Ok(storage)
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    fn at(&self, path: &str) -> Result<Path> {
        let whole = if self.prefix.as_ref().is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) };
        Path::parse(whole).map_err(|error| Error::internal(format!("'{path}' is no object key")).with_source(error))
    }

    pub(super) async fn create_exclusive(&self, path: &str) -> Result<ObjectUpload> {
        if self.size(path).await?.is_some() {
            return Err(Error::already_exists(format!("creating '{path}' failed: an object of that name exists")));
        }
        Ok(ObjectUpload {
            storage: self.clone(),
            at: self.at(path)?,
            path: path.to_owned(),
            held: Vec::new(),
            held_bytes: 0,
            parts: None,
        })
    }

    pub(super) async fn read(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let at = self.at(path)?;
        let requests: Vec<_> = ranges.iter().map(|range| self.store.get_range(&at, range.clone())).collect();
        let answers = futures::stream::iter(requests).buffered(READS_PARALLEL).try_collect().await;
        answers.map_err(|error| match error {
            StoreError::NotFound { .. } => failure::corrupt(path, "the object is missing").with_source(error),
            _ => failure::object("reading", path, error),
        })
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&self.at(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure::object("looking at", path, error)),
        }
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let at = self.at(directory)?;
        let found = self.store.list_with_delimiter(Some(&at)).await;
        let found = found.map_err(|error| failure::object("listing", directory, error))?;
        let name = |meta: &object_store::ObjectMeta| meta.location.filename().map(|name| (name.to_owned(), meta.size));
        Ok(found.objects.iter().filter_map(name).collect())
    }

    pub(super) async fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            match self.store.delete(&self.at(path)?).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(failure::object("deleting", path, error)),
            }
        }
        Ok(())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let answer = match self.store.get(&self.at(path)?).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failure::object("reading", path, error)),
        };
        let Some(tag) = answer.meta.e_tag.clone() else {
            return Err(Error::io(format!(
                "reading '{path}' failed: the object store gives no ETag, which manifests need"
            )));
        };
        let parts: Vec<Bytes> =
            answer.into_stream().try_collect().await.map_err(|error| failure::object("reading", path, error))?;
        Ok(Some((parts.concat().into(), Tag(tag))))
    }

    pub(super) async fn put_if(&self, path: &str, bytes: Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        let mode = match expected {
            None => PutMode::Create,
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.0.clone()), version: None }),
        };
        fail::fail_point!("manifest::before_rename", |_| Err(PutError::Failed(Error::io("stopped by a fail point"))));
        let options = PutOptions { mode, ..PutOptions::default() };
        let done = self.store.put_opts(&self.at(path)?, PutPayload::from_bytes(bytes.clone()), options).await;
        fail::fail_point!("manifest::after_rename", |_| Err(PutError::Failed(Error::io("stopped by a fail point"))));
        match done {
            Ok(result) => match result.e_tag {
                Some(tag) => Ok(Tag(tag)),
                None => Err(PutError::Failed(Error::io(format!("writing '{path}': the object store gave no ETag")))),
            },
            // A retry of a write whose first answer was lost finds its own content.
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. }) => {
                match self.get(path).await? {
                    Some((found, tag)) if found == bytes => Ok(tag),
                    _ => Err(PutError::Conflict),
                }
            }
            Err(error) => Err(PutError::Failed(failure::object("replacing", path, error))),
        }
    }
}

/// An object that is being written: held back until it is too large for one request, then in parts.
#[derive(Debug)]
pub(super) struct ObjectUpload {
    storage: ObjectStorage,
    at: Path,
    path: String,
    held: Vec<Bytes>,
    held_bytes: usize,
    parts: Option<WriteMultipart>,
}

impl ObjectUpload {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            let ready = parts.wait_for_capacity(PARTS_PARALLEL).await;
            ready.map_err(|error| failure::object("writing", &self.path, error))?;
            parts.put(bytes);
            return Ok(());
        }
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        if self.held_bytes > PART_BYTES {
            let upload = self.storage.store.put_multipart(&self.at).await;
            let upload = upload.map_err(|error| failure::object("writing", &self.path, error))?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            self.held.drain(..).for_each(|piece| parts.put(piece));
            self.parts = Some(parts);
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        let Some(parts) = self.parts.take() else {
            let payload: PutPayload = self.held.drain(..).collect();
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let done = self.storage.store.put_opts(&self.at, payload, options).await;
            return done.map(|_| ()).map_err(|error| failure::object("writing", &self.path, error));
        };
        // Completing an upload in parts has no condition. Numbers are reserved durably before they are used, so the
        // name can only be taken by a mistake, which this look finds.
        if self.storage.size(&self.path).await?.is_some() {
            let taken = Error::already_exists(format!("writing '{}' failed: an object of that name exists", self.path));
            discard(parts, &self.path).await;
            return Err(taken);
        }
        parts.finish().await.map(|_| ()).map_err(|error| failure::object("writing", &self.path, error))
    }

    pub(super) async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            discard(parts, &self.path).await;
        }
    }
}

async fn discard(parts: WriteMultipart, path: &str) {
    if let Err(error) = parts.abort().await {
        tracing::warn!(%error, path, "an upload in parts could not be discarded");
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        if let (Some(parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current()) {
            let path = std::mem::take(&mut self.path);
            runtime.spawn(async move { discard(parts, &path).await });
        }
    }
}
