//! All storages of the server.
//!
//! `local` and the one that the settings name are opened at the start; those that SQL made come and go while the server
//! runs. One that cannot be opened is kept by name with the reason: whoever asks for it is told, and everything else goes
//! on. Replacing a storage keeps the [`Storage`], so that whoever holds a file of it goes on with the new credentials.
//!
//! No two storages are in each other, and none is in the data directory but `local`: one's files would be the other's
//! orphans.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::settings::{ColdSettings, Settings};
use kalamdb_commons::storage::{S3Credentials, S3Place, StorageDefinition, StoragePlace};
use kalamdb_commons::{Error, Result};
use parking_lot::RwLock;

use super::{Form, LOCAL, LocalStorage, ObjectStorage, PutError, Storage, StorageDescription, Whereabouts, object};
use crate::cache::Caches;

/// The file that says that a storage is in use, at its root.
const MARK: &str = "kalamdb-storage";

/// All storages of the server, and the caches that they share. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Storages {
    by_id: Arc<RwLock<BTreeMap<StorageId, Slot>>>,
    caches: Arc<Caches>,
    cold: Arc<ColdSettings>,
    data_dir: PathBuf,
}

#[derive(Debug, Clone)]
enum Slot {
    Open(Arc<Storage>),
    /// It exists, and cannot be used.
    Closed {
        about: StorageDescription,
        why: Arc<str>,
    },
}

impl Storages {
    /// Opens `local`, below `<data_dir>/storage`, and the S3 storage if a bucket is configured.
    ///
    /// # Errors
    /// If the local directory cannot be made, or the S3 settings make no client.
    pub fn open(settings: &Settings) -> Result<Self> {
        let storages = Self::with_local(settings)?;
        let from = &settings.storage;
        if !from.s3_bucket.is_empty() {
            let place = S3Place {
                bucket: from.s3_bucket.clone(),
                prefix: from.s3_prefix.clone(),
                region: from.s3_region.clone(),
                endpoint: from.s3_endpoint.clone(),
                allow_http: from.s3_allow_http,
            };
            let credentials = S3Credentials {
                access_key_id: from.s3_access_key_id.clone(),
                secret_access_key: from.s3_secret_access_key.clone(),
                session_token: None,
            };
            let credentials = (!credentials.access_key_id.is_empty()).then_some(&credentials);
            let form = Form::Object(ObjectStorage::s3(&place, credentials, &settings.cold)?);
            storages.put(storages.storage(StorageId::new(&from.s3_id)?, form));
        }
        Ok(storages)
    }

    /// `local` alone, and an object store of the caller's under another id.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_object_store(
        settings: &Settings,
        id: StorageId,
        store: Arc<dyn object_store::ObjectStore>,
    ) -> Result<Self> {
        let storages = Self::with_local(settings)?;
        storages.put(storages.storage(id, Form::Object(ObjectStorage::new(store, "")?)));
        Ok(storages)
    }

    fn with_local(settings: &Settings) -> Result<Self> {
        let data_dir = Path::new(&settings.storage.data_dir);
        let local = LocalStorage::open(&data_dir.join("storage"))?;
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        let caches = Arc::new(Caches::new(&settings.cold));
        let cold = Arc::new(settings.cold.clone());
        let storages = Self { by_id: Arc::default(), caches, cold, data_dir };
        storages.put(storages.storage(StorageId::new(LOCAL)?, Form::Local(local)));
        Ok(storages)
    }

    fn storage(&self, id: StorageId, form: Form) -> Arc<Storage> {
        Arc::new(Storage { id, form: RwLock::new(Arc::new(form)), caches: Arc::clone(&self.caches) })
    }

    /// The storage of that id.
    ///
    /// # Errors
    /// Not found, with the ids that exist; I/O if it could not be opened.
    pub fn get(&self, id: &StorageId) -> Result<Arc<Storage>> {
        let by_id = self.by_id.read();
        match by_id.get(id) {
            Some(Slot::Open(storage)) => Ok(Arc::clone(storage)),
            Some(Slot::Closed { why, .. }) => Err(Error::io(format!("storage '{id}' cannot be used: {why}"))),
            None => {
                let known: Vec<_> = by_id.keys().map(StorageId::as_str).collect();
                Err(Error::not_found(format!("there is no storage '{id}'; there are {}", known.join(", "))))
            }
        }
    }

    /// Every storage, by id.
    pub fn list(&self) -> Vec<(StorageId, StorageDescription)> {
        let about = |slot: &Slot| match slot {
            Slot::Open(storage) => storage.describe(),
            Slot::Closed { about, .. } => about.clone(),
        };
        self.by_id.read().iter().map(|(id, slot)| (id.clone(), about(slot))).collect()
    }

    /// The way to a storage that SQL makes, without a request to it. Nobody finds it before [`Self::put`].
    ///
    /// # Errors
    /// `InvalidInput` if the place or the credentials cannot be used; `Io` if the directory cannot be made.
    pub fn connect(&self, definition: &StorageDefinition, credentials: Option<&S3Credentials>) -> Result<Arc<Storage>> {
        let form = match &definition.place {
            StoragePlace::Filesystem { path } => Form::Local(LocalStorage::open(Path::new(path))?),
            StoragePlace::S3(place) => Form::Object(ObjectStorage::s3(place, credentials, &self.cold)?),
        };
        Ok(self.storage(definition.id.clone(), form))
    }

    /// A directory that is no storage of tables, made if needed: for what is copied out and back. Nobody else finds it.
    ///
    /// # Errors
    /// As [`Self::check_place`]; `Io` if the directory cannot be made.
    pub fn directory(&self, id: StorageId, path: &str) -> Result<Arc<Storage>> {
        match self.check_place(StoragePlace::Filesystem { path: path.to_owned() })? {
            StoragePlace::Filesystem { path } => {
                Ok(self.storage(id, Form::Local(LocalStorage::open(Path::new(&path))?)))
            }
            StoragePlace::S3(_) => Err(Error::internal("a directory that is none")),
        }
    }

    /// As [`Self::connect`], for a storage that was in use before: a directory must be there.
    ///
    /// # Errors
    /// As [`Self::connect`], and `Io` if the directory is not the one that was in use, as when a disk is not mounted.
    pub fn reconnect(
        &self,
        definition: &StorageDefinition,
        credentials: Option<&S3Credentials>,
    ) -> Result<Arc<Storage>> {
        if let StoragePlace::Filesystem { path } = &definition.place
            && !Path::new(path).join(MARK).is_file()
        {
            return Err(Error::io(format!("the file {MARK} is not in its directory '{path}': is the disk there?")));
        }
        self.connect(definition, credentials)
    }

    /// Adds a storage, or replaces the way to the one of its id.
    pub fn put(&self, storage: Arc<Storage>) {
        let mut by_id = self.by_id.write();
        match by_id.get(&storage.id) {
            Some(Slot::Open(before)) => *before.form.write() = storage.form(),
            _ => drop(by_id.insert(storage.id.clone(), Slot::Open(storage))),
        }
    }

    /// Adds a storage that exists and cannot be used.
    pub fn put_closed(&self, definition: &StorageDefinition, why: &Error) {
        let base = match &definition.place {
            StoragePlace::Filesystem { path } => path.clone(),
            StoragePlace::S3(place) => format!("s3://{}/{}", place.bucket, place.prefix),
        };
        let about = StorageDescription { kind: definition.place.kind(), base };
        let slot = Slot::Closed { about, why: why.message().into() };
        self.by_id.write().insert(definition.id.clone(), slot);
    }

    /// Forgets a storage, and everything that was read from it: another may get its name.
    pub fn remove(&self, id: &StorageId) {
        self.by_id.write().remove(id);
        self.caches.clear();
    }

    /// Refuses a place that is in another storage, around one, or in the data directory. Gives the directory with
    /// links resolved, so that nothing can lead elsewhere later.
    ///
    /// # Errors
    /// `InvalidInput`, naming what it collides with.
    pub fn check_place(&self, place: StoragePlace) -> Result<StoragePlace> {
        let (place, wanted) = match place {
            StoragePlace::Filesystem { path } => {
                let resolved = resolve(Path::new(&path))?;
                if are_nested(&resolved, &self.data_dir) {
                    return Err(Error::invalid_input(format!(
                        "the directory '{path}' and the data directory must not be in each other"
                    )));
                }
                let path = resolved.to_str().map(str::to_owned);
                let path = path.ok_or_else(|| Error::invalid_input("the directory's name is not UTF-8"))?;
                (StoragePlace::Filesystem { path }, Whereabouts::Directory(resolved))
            }
            StoragePlace::S3(s3) => {
                let prefix = object::prefix(&s3.prefix)?;
                let (endpoint, bucket) = (s3.endpoint.clone(), s3.bucket.clone());
                (StoragePlace::S3(s3), Whereabouts::Keys { endpoint, bucket, prefix })
            }
        };
        for (id, slot) in self.by_id.read().iter() {
            let Slot::Open(storage) = slot else { continue };
            if wanted.collides_with(&storage.whereabouts()) {
                return Err(Error::invalid_input(format!(
                    "storage '{id}' is in the same place, or one is in the other: each needs a directory or prefix of its own"
                )));
            }
        }
        Ok(place)
    }
}

/// A directory that need not exist yet, with the links in what exists resolved.
fn resolve(path: &Path) -> Result<PathBuf> {
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return Err(Error::invalid_input(format!(
            "the directory '{}' must be an absolute path without '..'",
            path.display()
        )));
    }
    for existing in path.ancestors() {
        if let Ok(resolved) = existing.canonicalize() {
            return Ok(resolved.join(path.strip_prefix(existing).unwrap_or(Path::new(""))).components().collect());
        }
    }
    Ok(path.to_owned())
}

fn are_nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

impl Whereabouts {
    fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(other)) => are_nested(one, other),
            (
                Self::Keys { endpoint, bucket, prefix },
                Self::Keys { endpoint: other_endpoint, bucket: other_bucket, prefix: other_prefix },
            ) => {
                let is_nested = prefix.prefix_matches(other_prefix) || other_prefix.prefix_matches(prefix);
                endpoint.trim_end_matches('/') == other_endpoint.trim_end_matches('/')
                    && bucket == other_bucket
                    && is_nested
            }
            _ => false,
        }
    }
}

impl Storage {
    fn whereabouts(&self) -> Whereabouts {
        match &*self.form() {
            Form::Local(local) => Whereabouts::Directory(local.root().to_owned()),
            Form::Object(object) => object.whereabouts(),
        }
    }

    /// Marks the place as this server's, durably, so that no other storage is made in it.
    ///
    /// # Errors
    /// `AlreadyExists` if it is marked.
    pub async fn claim(&self, words: &str) -> Result<()> {
        match self.put_if(MARK, Bytes::copy_from_slice(words.as_bytes()), None).await {
            Ok(_) => Ok(()),
            Err(PutError::Failed(error)) => Err(error),
            Err(PutError::Conflict) => Err(Error::already_exists(format!(
                "there is a storage in that place already, perhaps another server's; if there is none any more, remove '{MARK}' there"
            ))),
        }
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn release(&self) -> Result<()> {
        self.delete(&[MARK.to_owned()]).await
    }
}
