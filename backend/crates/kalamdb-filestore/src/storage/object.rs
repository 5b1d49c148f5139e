//! An object store, through the `object_store` crate, which retries by itself what may be repeated.
//!
//! Exclusive creation and compare-and-set are conditional writes. Whether the store carries out conditions is asked
//! once, before the first write ([`ObjectStorage::has_conditions`]): some ignore them and overwrite. There a write looks first,
//! one at a time, which is safe as long as no other server writes below the prefix.
//!
//! A conditional write whose answer is lost is looked for, and repeated: its condition keeps it from happening twice.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::settings::ColdSettings;
use kalamdb_commons::storage::{S3Credentials, S3Place};
use kalamdb_commons::{Error, Result};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, RetryConfig, UpdateVersion, WriteMultipart,
};
use tokio::sync::{Mutex, OnceCell};

use super::{PutError, Tag, Whereabouts};
use crate::failure;

/// Ranges at most this far apart are one request: its latency costs more than transferring that much.
pub(super) const JOIN_GAP_BYTES: u64 = 256 << 10;
/// Requests for one read under way at once.
const READS_PARALLEL: usize = 10;
/// Uploads up to this size are one request, larger ones go in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at once.
const PARTS_PARALLEL: usize = 2;
/// How often a conditional write whose answer is lost is made.
const WRITES_MAX: usize = 3;
/// The object with which conditions are tried. It stays, so that several servers can try at once.
const PROBE: &str = "kalamdb-probe";

/// An object store as a storage.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    base: String,
    whereabouts: Whereabouts,
    /// Whether the store carries out conditions, once that is known.
    conditions: Arc<OnceCell<bool>>,
    /// Held by a write to a store that does not.
    alone: Arc<Mutex<()>>,
}

impl ObjectStorage {
    /// Wraps a store; all keys begin with `prefix`.
    ///
    /// # Errors
    /// If the prefix is no path.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let prefix = self::prefix(prefix)?;
        let base = format!("{store}/{prefix}");
        let whereabouts = Whereabouts::Unknown;
        Ok(Self { store, prefix, base, whereabouts, conditions: Arc::default(), alone: Arc::default() })
    }

    /// A bucket. Conditional writes go by ETag. Without credentials, the machine's own are used.
    ///
    /// # Errors
    /// If the place makes no client.
    pub fn s3(place: &S3Place, credentials: Option<&S3Credentials>, cold: &ColdSettings) -> Result<Self> {
        let timeout = Duration::from_secs(cold.request_timeout_seconds);
        let client = ClientOptions::new()
            .with_timeout(timeout)
            .with_connect_timeout(timeout.min(Duration::from_secs(10)))
            .with_allow_http(place.allow_http);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(&place.region)
            .with_client_options(client)
            .with_allow_http(place.allow_http)
            .with_retry(retries(cold))
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        if !place.endpoint.is_empty() {
            builder = builder.with_endpoint(&place.endpoint);
        }
        if let Some(S3Credentials { access_key_id, secret_access_key, session_token }) = credentials {
            builder = builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key);
            if let Some(token) = session_token {
                builder = builder.with_token(token);
            }
        }
        let store = builder.build().map_err(|error| {
            Error::invalid_input(format!("the S3 bucket '{}' cannot be used as it is described", place.bucket))
                .with_source(error)
        })?;
        let mut storage = Self::new(Arc::new(store), &place.prefix)?;
        storage.base = format!("s3://{}/{}", place.bucket, storage.prefix);
        let (endpoint, bucket) = (place.endpoint.clone(), place.bucket.clone());
        storage.whereabouts = Whereabouts::Keys { endpoint, bucket, prefix: storage.prefix.clone() };
        Ok(storage)
    }

    pub(super) fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.clone()
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
            bytes: 0,
            parts: None,
        })
    }

    pub(super) async fn read(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let at = self.at(path)?;
        let requests: Vec<_> = ranges.iter().map(|range| self.store.get_range(&at, range.clone())).collect();
        let answers = futures::stream::iter(requests).buffered(READS_PARALLEL).try_collect().await;
        answers.map_err(|error| match error {
            StoreError::NotFound { .. } => failure::corrupt(path, "the object is missing").with_source(error),
            _ => failure::object("reading", path, &error),
        })
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&self.at(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure::object("looking at", path, &error)),
        }
    }

    pub(super) async fn is_current(&self, path: &str, tag: &Tag) -> Result<bool> {
        match self.store.head(&self.at(path)?).await {
            Ok(meta) => Ok(meta.e_tag.as_ref() == Some(&tag.0)),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(failure::object("looking at", path, &error)),
        }
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let at = self.at(directory)?;
        let found = self.store.list_with_delimiter(Some(&at)).await;
        let found = found.map_err(|error| failure::object("listing", directory, &error))?;
        let name = |meta: &object_store::ObjectMeta| meta.location.filename().map(|name| (name.to_owned(), meta.size));
        Ok(found.objects.iter().filter_map(name).collect())
    }

    pub(super) async fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            match self.store.delete(&self.at(path)?).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(failure::object("deleting", path, &error)),
            }
        }
        Ok(())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let answer = match self.store.get(&self.at(path)?).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failure::object("reading", path, &error)),
        };
        let Some(tag) = answer.meta.e_tag.clone() else {
            return Err(Error::io(format!(
                "reading '{path}' failed: the object store gives no ETag, which manifests need"
            )));
        };
        let parts: Vec<Bytes> =
            answer.into_stream().try_collect().await.map_err(|error| failure::object("reading", path, &error))?;
        Ok(Some((parts.concat().into(), Tag(tag))))
    }

    pub(super) async fn put_if(&self, path: &str, bytes: Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        fail::fail_point!("manifest::before_rename", |_| Err(PutError::Failed(Error::io("stopped by a fail point"))));
        let done = if self.has_conditions().await? {
            self.put_conditionally(path, &bytes, expected).await
        } else {
            self.put_alone(path, bytes, expected).await
        };
        fail::fail_point!("manifest::after_rename", |_| Err(PutError::Failed(Error::io("stopped by a fail point"))));
        done
    }

    async fn put_conditionally(&self, path: &str, bytes: &Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        let mut attempt = 1;
        loop {
            let failed = match self.put(path, PutPayload::from_bytes(bytes.clone()), mode(expected)).await {
                Ok(result) => return Ok(tag_of(path, result)?),
                Err(error) => error,
            };
            let is_refused = is_refusal(&failed);
            if !is_refused && !failure::is_lost(&failed) {
                return Err(PutError::Failed(failure::object("replacing", path, &failed)));
            }
            // A write whose first answer was lost finds its own content.
            match self.get(path).await {
                Ok(Some((found, tag))) if found == *bytes => return Ok(tag),
                Ok(_) if is_refused => return Err(PutError::Conflict),
                Err(error) if is_refused => return Err(PutError::Failed(error)),
                Ok(_) if attempt < WRITES_MAX => attempt += 1,
                _ => return Err(PutError::Failed(failure::object("replacing", path, &failed))),
            }
        }
    }

    async fn put_alone(&self, path: &str, bytes: Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        let _alone = self.alone.lock().await;
        let found = self.get(path).await?.map(|(_, tag)| tag);
        if found.as_ref() != expected {
            return Err(PutError::Conflict);
        }
        let done = self.put(path, PutPayload::from_bytes(bytes), PutMode::Overwrite).await;
        Ok(tag_of(path, done.map_err(|error| failure::object("replacing", path, &error))?)?)
    }

    /// Makes an object that must not exist yet.
    async fn create(&self, path: &str, payload: PutPayload) -> Result<()> {
        if !self.has_conditions().await? {
            let _alone = self.alone.lock().await;
            if self.size(path).await?.is_some() {
                return Err(taken(path));
            }
            let done = self.put(path, payload, PutMode::Overwrite).await;
            return done.map(|_| ()).map_err(|error| failure::object("writing", path, &error));
        }
        let mut attempt = 1;
        loop {
            let failed = match self.put(path, payload.clone(), PutMode::Create).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let is_lost = failure::is_lost(&failed);
            if !is_lost && attempt == 1 {
                return Err(failure::object("writing", path, &failed));
            }
            match self.size(path).await {
                // Numbers are reserved: nobody else writes under this name.
                Ok(Some(size)) if size == payload.content_length() as u64 => return Ok(()),
                Ok(None) if is_lost && attempt < WRITES_MAX => attempt += 1,
                _ => return Err(failure::object("writing", path, &failed)),
            }
        }
    }

    async fn put(&self, path: &str, payload: PutPayload, mode: PutMode) -> Result<PutResult, StoreError> {
        let at = self.at(path).map_err(|error| StoreError::Generic { store: "S3", source: error.into() })?;
        self.store.put_opts(&at, payload, PutOptions { mode, ..PutOptions::default() }).await
    }

    /// Whether the store carries out conditions. Asks it the first time, and leaves a small object there.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub(super) async fn has_conditions(&self) -> Result<bool> {
        self.conditions.get_or_try_init(|| self.probe()).await.copied()
    }

    async fn probe(&self) -> Result<bool> {
        for _ in 0..WRITES_MAX {
            if self.try_conditions().await? {
                return Ok(true);
            }
            // Another server may have tried at the same moment.
        }
        tracing::warn!(
            storage = self.base,
            "the object store does not carry out conditional writes: no other server may write to the same place"
        );
        Ok(false)
    }

    /// Whether all three conditions do what they should: two refuse, one writes.
    async fn try_conditions(&self) -> Result<bool> {
        let payload = || PutPayload::from_static(b"KalamDB asks here whether conditional writes work.");
        let written = self.put(PROBE, payload(), PutMode::Overwrite).await;
        let written = written.map_err(|error| failure::object("writing", PROBE, &error))?;
        let Some(tag) = written.e_tag else { return Ok(false) };
        let (tag, other) = (Tag(tag), Tag("\"00000000000000000000000000000000\"".to_owned()));
        for (mode, refuses) in [(mode(None), true), (mode(Some(&other)), true), (mode(Some(&tag)), false)] {
            match self.put(PROBE, payload(), mode).await {
                Ok(_) if refuses => return Ok(false),
                Err(error) if is_refusal(&error) && !refuses => return Ok(false),
                Err(error) if failure::knows_no_conditions(&error) => return Ok(false),
                Err(error) if !is_refusal(&error) => return Err(failure::object("writing", PROBE, &error)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(true)
    }
}

/// What keys begin with.
///
/// # Errors
/// If that cannot be the beginning of a key.
pub(super) fn prefix(text: &str) -> Result<Path> {
    Path::parse(text).map_err(|error| {
        Error::invalid_input(format!("the prefix '{text}' cannot be the beginning of a key")).with_source(error)
    })
}

fn retries(cold: &ColdSettings) -> RetryConfig {
    RetryConfig {
        max_retries: cold.request_retries_max,
        retry_timeout: Duration::from_secs(cold.request_retry_seconds),
        backoff: BackoffConfig {
            max_backoff: Duration::from_secs(cold.request_backoff_max_seconds),
            ..BackoffConfig::default()
        },
    }
}

fn mode(expected: Option<&Tag>) -> PutMode {
    match expected {
        None => PutMode::Create,
        Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.0.clone()), version: None }),
    }
}

/// Whether a condition did not hold.
fn is_refusal(error: &StoreError) -> bool {
    let refused = matches!(
        error,
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. }
    );
    refused && !failure::has_no_bucket(error)
}

fn is_absent(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. }) && !failure::has_no_bucket(error)
}

fn tag_of(path: &str, result: PutResult) -> Result<Tag> {
    let tag = result.e_tag.map(Tag);
    tag.ok_or_else(|| Error::io(format!("writing '{path}': the object store gave no ETag, which manifests need")))
}

fn taken(path: &str) -> Error {
    Error::already_exists(format!("writing '{path}' failed: an object of that name exists"))
}

/// An object that is being written: held back until it is too large for one request, then in parts.
#[derive(Debug)]
pub(super) struct ObjectUpload {
    storage: ObjectStorage,
    at: Path,
    path: String,
    held: Vec<Bytes>,
    bytes: usize,
    parts: Option<WriteMultipart>,
}

impl ObjectUpload {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len();
        if let Some(parts) = &mut self.parts {
            let ready = parts.wait_for_capacity(PARTS_PARALLEL).await;
            ready.map_err(|error| failure::object("writing", &self.path, &error))?;
            parts.put(bytes);
            return Ok(());
        }
        self.held.push(bytes);
        if self.bytes > PART_BYTES {
            let upload = self.storage.store.put_multipart(&self.at).await;
            let upload = upload.map_err(|error| failure::object("writing", &self.path, &error))?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            self.held.drain(..).for_each(|piece| parts.put(piece));
            self.parts = Some(parts);
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        let Some(parts) = self.parts.take() else {
            return self.storage.create(&self.path, self.held.drain(..).collect()).await;
        };
        // Completing an upload in parts has no condition. Numbers are reserved durably before they are used, so the
        // name can only be taken by a mistake, which this look finds.
        if self.storage.size(&self.path).await?.is_some() {
            discard(parts, &self.path).await;
            return Err(taken(&self.path));
        }
        let Err(error) = parts.finish().await else { return Ok(()) };
        match self.storage.size(&self.path).await {
            Ok(Some(size)) if failure::is_lost(&error) && size == self.bytes as u64 => Ok(()),
            _ => Err(failure::object("writing", &self.path, &error)),
        }
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
