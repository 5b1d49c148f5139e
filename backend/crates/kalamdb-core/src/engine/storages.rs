//! Storages that SQL makes.
//!
//! The life of one: CREATE STORAGE tries it (a file is written, read, listed and removed), marks its place as this server's,
//! and commits its definition; from then on tables may name it. At each start it is opened again. One that cannot be
//! opened then is there by name and fails the statements that need it; ALTER STORAGE with the right credentials opens
//! it. ALTER tries the new way before anything changes. DROP is refused while a table, or what a dropped table left
//! behind, lies in it, and touches no file but the mark.
//!
//! Credentials are sealed before they are stored, under a key that is not in the store ([`Secrets`]), and are shown nowhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_auth::sealing::SealingKey;
use kalamdb_commons::clock::{Entropy, Stopwatch};
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::settings::StorageSettings;
use kalamdb_commons::storage::{S3Credentials, S3Place, Sealed, StorageDefinition, StoragePlace};
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{Storage, Storages};
use kalamdb_sql::{CreateStorage, Secret, Statement, StorageOptionSet, StorageType};
use parking_lot::Mutex;

use super::Engine;
use crate::audit::trail::Trail;
use crate::catalog::{Catalog, Draft};
use crate::commit::{Refusal, SchemaChange};
use crate::system::storage_check;

/// The file of the key, if no setting gives one.
const KEY_FILE: &str = "secrets.key";
const NAME_BYTES_MAX: usize = 255;
const DEFAULT_REGION: &str = "us-east-1";
/// Tables that a refusal names.
const NAMED_MAX: usize = 3;

/// Seals and opens secrets with the server's key.
#[derive(Debug)]
pub(crate) struct Secrets {
    path: PathBuf,
    /// What the setting gives; empty for the file.
    text: Secret,
    entropy: Arc<dyn Entropy>,
    key: Mutex<Option<Arc<SealingKey>>>,
}

impl Secrets {
    pub(crate) fn new(settings: &StorageSettings, entropy: Arc<dyn Entropy>) -> Self {
        let path = Path::new(&settings.data_dir).join(KEY_FILE);
        Self { path, text: Secret::new(settings.secrets_key.clone()), entropy, key: Mutex::default() }
    }

    /// The key; made with its file if `make` says so and there is none.
    fn key(&self, make: bool) -> Result<Option<Arc<SealingKey>>> {
        let mut held = self.key.lock();
        if held.is_none() {
            let found = match self.text.reveal() {
                "" => SealingKey::read(&self.path)?,
                text => Some(SealingKey::from_text(text)?),
            };
            let made = || SealingKey::make(&self.path, self.entropy.as_ref());
            let key = if found.is_none() && make { Some(made()?) } else { found };
            *held = key.map(Arc::new);
        }
        Ok(held.clone())
    }

    fn seal(&self, id: &StorageId, credentials: &S3Credentials) -> Result<Sealed> {
        let key = self.key(true)?.ok_or_else(|| Error::internal("the key for secrets was just made"))?;
        let text =
            serde_json::to_string(credentials).map_err(|_| Error::internal("credentials cannot be written as JSON"))?;
        key.seal(&text, &purpose(id), self.entropy.as_ref())
    }

    fn open(&self, definition: &StorageDefinition) -> Result<Option<S3Credentials>> {
        let Some(sealed) = &definition.credentials else { return Ok(None) };
        let key = self.key(false)?.ok_or_else(|| Error::corrupt("the key that sealed its credentials is missing"))?;
        let text = key.open(sealed, &purpose(&definition.id))?;
        // No source: it could repeat what it reads.
        serde_json::from_str(&text).map(Some).map_err(|_| Error::corrupt("its credentials are damaged"))
    }

    /// A name that nothing else has.
    pub(crate) fn unique_name(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes))
    }
}

/// What a storage's secret is sealed for: it opens for no other.
fn purpose(id: &StorageId) -> String {
    format!("credentials of storage {id}")
}

/// Opens the storages of the catalog, beside those of the settings.
///
/// # Errors
/// If the settings give a storage an id that SQL has given.
pub(crate) fn open_all(catalog: &Catalog, storages: &Storages, secrets: &Secrets) -> Result<()> {
    let of_settings = storages.list();
    for definition in catalog.storages() {
        if of_settings.iter().any(|(id, _)| *id == definition.id) {
            return Err(Error::invalid_input(format!(
                "storage.s3_id = \"{0}\" is the id of a storage that SQL made; choose another id, or DROP STORAGE {0} without it",
                definition.id
            )));
        }
        let opened = secrets.open(definition).and_then(|key| storages.reconnect(definition, key.as_ref()));
        match opened {
            Ok(storage) => storages.put(storage),
            Err(error) => {
                tracing::error!(storage = %definition.id, error = error.message(), "a storage cannot be opened");
                storages.put_closed(definition, &error);
            }
        }
    }
    Ok(())
}

impl Engine {
    fn storages(&self) -> &Storages {
        self.cold().manifests().storages()
    }

    /// Carries out CREATE, ALTER or DROP STORAGE, and returns what the answer says.
    pub(crate) async fn change_storage(&self, statement: Statement, trail: &mut Option<Trail>) -> Result<String> {
        match statement {
            Statement::CreateStorage(create) => self.create_storage(create, trail).await,
            Statement::AlterStorage { id, options } => self.alter_storage(&StorageId::new(&id)?, options, trail).await,
            Statement::DropStorage { id, if_exists } => {
                self.drop_storage(&StorageId::new(&id)?, if_exists, trail).await
            }
            _ => Err(Error::internal("this statement is not about a storage")),
        }
    }

    /// Carries out STORAGE CHECK.
    pub(crate) async fn check_storage(&self, id: &str, extended: bool) -> Result<RecordBatch> {
        let id = StorageId::new(id)?;
        let storage = self.storages().get(&id)?;
        let watch = Stopwatch::start();
        let check = storage.check(&self.secrets().unique_name(), extended).await;
        let tables = self.catalog().tables().filter(|table| table.options.storage == id).count();
        storage_check(&id, &check, tables, watch.elapsed_ms().ceil() as i64)
    }

    async fn create_storage(&self, create: CreateStorage, trail: &mut Option<Trail>) -> Result<String> {
        let id = StorageId::new(&create.id)?;
        if let Some(message) = self.taken(&id) {
            return if create.if_not_exists { Ok(message) } else { Err(Error::already_exists(message)) };
        }
        let place = self.storages().check_place(place_of(&create)?)?;
        let credentials = credentials_of(create.options.credentials.as_ref())?;
        let now_ms = self.clock().now_ms();
        let definition = StorageDefinition {
            name: name_of(create.options.name.as_deref().unwrap_or(id.as_str()))?,
            place,
            credentials: credentials.as_ref().map(|key| self.secrets().seal(&id, key)).transpose()?,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            id,
        };
        let storage = self.storages().connect(&definition, credentials.as_ref())?;
        let has_conditions = self.try_storage(&storage).await?;
        let _one_at_a_time = self.ddl.lock().await;
        // Another statement may have been faster while this one tried.
        if let Some(message) = self.taken(&definition.id) {
            return Err(Error::already_exists(message));
        }
        self.storages().check_place(definition.place.clone())?;
        // No two marks are alike: a mark that is found again passes for one whose writing was not heard of.
        let (node, unique) = (&self.settings().server.node_id, self.secrets().unique_name());
        storage.claim(&format!("storage {} of {node}, {unique}\n", definition.id)).await?;
        let id = definition.id.clone();
        if let Err(error) = self.commit_storage(trail, |draft| draft.put_storage(definition.clone())).await {
            unmark(&storage).await;
            return Err(error);
        }
        self.storages().put(storage);
        Ok(format!("Storage '{id}' created{}", warning(has_conditions)))
    }

    fn taken(&self, id: &StorageId) -> Option<String> {
        let is_taken = self.storages().list().iter().any(|(other, _)| other == id);
        is_taken.then(|| format!("storage '{id}' already exists"))
    }

    /// Refuses a storage that cannot be used. Says whether it carries out conditional writes.
    async fn try_storage(&self, storage: &Storage) -> Result<bool> {
        let check = storage.check(&self.secrets().unique_name(), false).await;
        match check.error {
            Some(error) => Err(Error::execution(format!("storage '{}' cannot be used: {error}", storage.id()))),
            None => Ok(check.conditional_writes == Some(true)),
        }
    }

    async fn alter_storage(
        &self,
        id: &StorageId,
        options: StorageOptionSet,
        trail: &mut Option<Trail>,
    ) -> Result<String> {
        let before = self.made_by_sql(id)?;
        let kind = match before.place {
            StoragePlace::Filesystem { .. } => StorageType::Filesystem,
            StoragePlace::S3(_) => StorageType::S3,
        };
        options.check_type(kind)?;
        let (after, credentials) = self.altered(&before, options)?;
        let storage = self.storages().reconnect(&after, credentials.as_ref())?;
        let has_conditions = self.try_storage(&storage).await?;
        let _one_at_a_time = self.ddl.lock().await;
        if *self.made_by_sql(id)? != *before {
            return Err(Error::conflict(format!("storage '{id}' was changed meanwhile")));
        }
        self.commit_storage(trail, |draft| draft.put_storage(after.clone())).await?;
        self.storages().put(storage);
        Ok(format!("Storage '{id}' altered{}", warning(has_conditions)))
    }

    fn altered(
        &self,
        before: &StorageDefinition,
        options: StorageOptionSet,
    ) -> Result<(StorageDefinition, Option<S3Credentials>)> {
        let mut after = before.clone();
        after.updated_at_ms = self.clock().now_ms();
        if let Some(name) = &options.name {
            after.name = name_of(name)?;
        }
        if let StoragePlace::S3(place) = &mut after.place {
            place.region = options.region.unwrap_or(std::mem::take(&mut place.region));
            place.endpoint = options.endpoint.unwrap_or(std::mem::take(&mut place.endpoint));
            place.allow_http = options.allow_http.unwrap_or(place.allow_http);
            check_endpoint(place)?;
        }
        let credentials = match options.credentials {
            None => self.secrets().open(before)?,
            given => {
                let credentials = credentials_of(given.as_ref())?;
                after.credentials = credentials.as_ref().map(|key| self.secrets().seal(&before.id, key)).transpose()?;
                credentials
            }
        };
        Ok((after, credentials))
    }

    async fn drop_storage(&self, id: &StorageId, if_exists: bool, trail: &mut Option<Trail>) -> Result<String> {
        let _one_at_a_time = self.ddl.lock().await;
        if if_exists && self.taken(id).is_none() {
            return Ok(format!("storage '{id}' does not exist"));
        }
        self.made_by_sql(id)?;
        refuse_used(&self.catalog(), id)?;
        let storage = self.storages().get(id).ok();
        self.commit_storage(trail, |draft| draft.delete_storage(id)).await?;
        self.storages().remove(id);
        if let Some(storage) = storage {
            unmark(&storage).await;
        }
        Ok(format!("Storage '{id}' dropped"))
    }

    fn made_by_sql(&self, id: &StorageId) -> Result<Arc<StorageDefinition>> {
        if let Some(found) = self.catalog().storage(id) {
            return Ok(found.clone());
        }
        match self.taken(id) {
            Some(_) => Err(Error::invalid_input(format!(
                "storage '{id}' belongs to the settings; it cannot be altered or dropped by SQL"
            ))),
            None => Err(Error::not_found(format!("storage '{id}' does not exist"))),
        }
    }

    /// Commits an edit of the newest catalog, and its entry in the audit log with it. The caller holds the lock of schema
    /// changes.
    async fn commit_storage(&self, trail: &mut Option<Trail>, edit: impl Fn(&mut Draft)) -> Result<()> {
        loop {
            let mut draft = Draft::new(&self.catalog());
            edit(&mut draft);
            let audit = trail.as_mut().and_then(|trail| trail.hand_in(None)).into_iter().collect();
            let change = SchemaChange { edit: draft.finish("storages changed"), verified: None, rows: None, audit };
            match self.committer().change_schema(change).await {
                Ok(()) => {
                    trail.take().into_iter().for_each(Trail::settle);
                    return Ok(());
                }
                Err(refusal) => {
                    trail.iter_mut().for_each(Trail::take_back);
                    if let Refusal::Failed(error) = refusal {
                        return Err(error);
                    }
                }
            }
        }
    }
}

async fn unmark(storage: &Storage) {
    if let Err(error) = storage.release().await {
        tracing::warn!(storage = %storage.id(), error = error.message(), "the mark of a storage could not be removed");
    }
}

fn warning(has_conditions: bool) -> &'static str {
    if has_conditions {
        ""
    } else {
        "; it does not carry out conditional writes, so no other server may write to the same place"
    }
}

fn refuse_used(catalog: &Catalog, id: &StorageId) -> Result<()> {
    let used: Vec<String> = catalog
        .tables()
        .filter(|table| table.options.storage == *id)
        .map(|table| format!("'{}'", table.name))
        .collect();
    if !used.is_empty() {
        let more = if used.len() > NAMED_MAX { ", ..." } else { "" };
        let named = used[..used.len().min(NAMED_MAX)].join(", ");
        return Err(Error::execution(format!(
            "storage '{id}' cannot be dropped: {} table(s) use it: {named}{more}",
            used.len()
        )));
    }
    if catalog.dropped().any(|life| life.table.options.storage == *id) {
        return Err(Error::execution(format!(
            "storage '{id}' cannot be dropped: the contents of dropped tables are still being removed from it; try again"
        )));
    }
    Ok(())
}

fn name_of(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid_input(format!(
            "the NAME of a storage has 1 to {NAME_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(name.to_owned())
}

fn place_of(create: &CreateStorage) -> Result<StoragePlace> {
    let StorageOptionSet { path, bucket, prefix, region, endpoint, allow_http, .. } = create.options.clone();
    match create.kind {
        StorageType::Filesystem => Ok(StoragePlace::Filesystem { path: path.unwrap_or_default() }),
        StorageType::S3 => {
            let place = S3Place {
                bucket: bucket.unwrap_or_default(),
                prefix: prefix.unwrap_or_default(),
                region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
                endpoint: endpoint.unwrap_or_default(),
                allow_http: allow_http.unwrap_or_default(),
            };
            let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if !place.bucket.chars().all(is_sound) {
                return Err(Error::invalid_input("a BUCKET has letters, digits, '-', '.' and '_' only"));
            }
            check_endpoint(&place)?;
            Ok(StoragePlace::S3(place))
        }
    }
}

fn check_endpoint(place: &S3Place) -> Result<()> {
    let endpoint = place.endpoint.as_str();
    let (is_plain, is_encrypted) = (endpoint.starts_with("http://"), endpoint.starts_with("https://"));
    if !endpoint.is_empty() && !is_plain && !is_encrypted {
        return Err(Error::invalid_input("an ENDPOINT begins with https:// or http://, or is empty for AWS"));
    }
    if is_plain && !place.allow_http {
        return Err(Error::invalid_input(
            "the ENDPOINT is plain HTTP, on which anybody on the way reads along: use https://, or say ALLOW_HTTP TRUE",
        ));
    }
    if endpoint.contains(['@', '?', '#']) {
        return Err(Error::invalid_input("an ENDPOINT is an address alone; keys go into CREDENTIALS"));
    }
    Ok(())
}

/// Reads CREDENTIALS. An empty object stands for the machine's own. No error repeats any of it.
fn credentials_of(given: Option<&Secret>) -> Result<Option<S3Credentials>> {
    let Some(secret) = given else { return Ok(None) };
    let is_empty = serde_json::from_str::<serde_json::Map<_, _>>(secret.reveal()).is_ok_and(|keys| keys.is_empty());
    if is_empty {
        return Ok(None);
    }
    let credentials: Option<S3Credentials> = serde_json::from_str(secret.reveal()).ok();
    match credentials {
        Some(key) if !key.access_key_id.is_empty() && !key.secret_access_key.is_empty() => Ok(Some(key)),
        _ => Err(Error::invalid_input(
            "CREDENTIALS must be a JSON object with access_key_id and secret_access_key, perhaps session_token, and nothing \
             else; {} stands for the machine's own",
        )),
    }
}

#[cfg(test)]
mod tests;
