//! Accounts as far as logging in needs them: passwords, tokens, sessions, the first start.
//!
//! Whoever has an access token is known by a [`Grant`](crate::api::Grant), which ends when the token does, when the
//! account changes its password or role or is dropped, or when its session is ended. [`Engine::authenticate`] asks for
//! each request; whoever holds a grant for longer, such as a connection, waits on [`Engine::revocations`] and asks
//! [`Engine::recheck`] again.
//!
//! Hashing and checking passwords take tens of milliseconds of CPU by design. They run on threads of their own, a
//! bounded number at once, and wait in a bounded queue; new passwords do not wait behind logins.
//!
//! | module | holds |
//! |---|---|
//! | [`erase`] | ERASE USER |
//! | [`login`] | logging in, refreshing, logging out, and what a token is good for |
//! | [`purge`] | removing what dropped users left |
//! | [`setup`] | taking a new server into possession |

mod erase;
mod login;
mod purge;
mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use kalamdb_auth::password_rules::Rules;
use kalamdb_auth::passwords::Passwords;
use kalamdb_auth::sessions::SessionId;
use kalamdb_auth::throttle::LoginThrottle;
use kalamdb_auth::tokens::TokenIssuer;
use kalamdb_commons::clock::{Clock, Entropy};
use kalamdb_commons::ids::{CommitTime, NamespaceId, UserId};
use kalamdb_commons::schema::Role;
use kalamdb_commons::settings::{AuthSettings, Settings};
use kalamdb_commons::{Error, Result};
use kalamdb_store::{Snapshot, keys};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Engine;
use crate::audit::Entry;
use crate::catalog::{AuthType, Catalog, CatalogEdit, Draft, Namespace, User};
use crate::commit::{Committer, Refusal, SchemaChange};

/// The record of the secret that signs tokens.
const SECRET: (&str, &str) = ("secret", "tokens");
const SECRET_BYTES: usize = 32;
const GENERATED_PASSWORD_BYTES: usize = 15;
/// Logins that wait for their turn; beyond it they get 503 at once.
const LOGINS_WAITING_MAX: usize = 1_024;
/// How long a password waits for its turn.
const PASSWORD_WAIT: Duration = Duration::from_secs(10);
/// Locks for sessions that are refreshed: two refreshes of one session take the same.
const SESSION_LOCKS: usize = 64;

/// The name of the first account.
pub(crate) const ROOT: &str = "root";
/// The namespace of names that a request does not qualify.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// What logging in needs.
pub(crate) struct Accounts {
    passwords: Arc<Passwords>,
    tokens: TokenIssuer,
    throttle: LoginThrottle,
    entropy: Arc<dyn Entropy>,
    /// Passwords of logins being checked, and waiting to be.
    checking: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// New passwords being hashed.
    hashing: Arc<Semaphore>,
    /// Sessions that were ended while access tokens of theirs may still be good, with the time when none can be.
    ended: DashMap<SessionId, i64>,
    session_locks: Vec<tokio::sync::Mutex<()>>,
    /// How often something was revoked since the start.
    revocations: watch::Sender<u64>,
    first_root_password: Option<String>,
}

impl std::fmt::Debug for Accounts {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

/// The rules for new passwords that the settings give.
pub(crate) fn password_rules(settings: &AuthSettings) -> Rules {
    Rules { length_min: settings.password_length_min, refuse_common: settings.password_refuse_common }
}

impl Accounts {
    /// Reads the secret, or makes it and the first account and namespace at the first start.
    pub(crate) async fn open(
        settings: &Settings,
        entropy: &Arc<dyn Entropy>,
        committer: &Arc<Committer>,
        snapshot: &dyn Snapshot,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let auth = &settings.auth;
        let passwords = Arc::new(Passwords::new(auth.argon2_memory_kib, auth.argon2_passes, entropy.as_ref())?);
        let secret = secret(settings, entropy, committer, snapshot).await?;
        let mut accounts = Self {
            passwords,
            tokens: TokenIssuer::new(&secret)?,
            throttle: LoginThrottle::new(auth.login_failures_per_minute_max, auth.address_failures_per_minute_max),
            entropy: entropy.clone(),
            checking: Arc::new(Semaphore::new(auth.logins_parallel_max)),
            waiting: Arc::new(Semaphore::new(LOGINS_WAITING_MAX)),
            hashing: Arc::new(Semaphore::new(1)),
            ended: login::ended_sessions(snapshot, clock.now_ms()).await?,
            session_locks: std::iter::repeat_with(tokio::sync::Mutex::default).take(SESSION_LOCKS).collect(),
            revocations: watch::Sender::new(0),
            first_root_password: None,
        };
        accounts.first_start(settings, committer, clock.as_ref()).await?;
        Ok(accounts)
    }

    async fn first_start(&mut self, settings: &Settings, committer: &Committer, clock: &dyn Clock) -> Result<()> {
        let root = UserId::new(ROOT)?;
        let catalog = committer.readers().newest().catalog.clone();
        if catalog.user(&root).is_some() {
            return Ok(());
        }
        let password = match settings.auth.root_password.as_str() {
            "" => {
                let password = self.generated_password();
                self.first_root_password = Some(password.clone());
                password
            }
            given => {
                password_rules(&settings.auth).check(ROOT, given)?;
                given.to_owned()
            }
        };
        let now_ms = clock.now_ms();
        // Both in one commit: the first start happens as a whole or again.
        let mut draft = Draft::new(&catalog);
        draft.put_user(User {
            id: root,
            role: Role::System,
            email: None,
            auth_type: AuthType::Password,
            password_hash: self.passwords.hash(&password, self.entropy.as_ref())?,
            provisional: self.first_root_password.is_some(),
            generation: catalog.version() + 1,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            deleted_at_ms: None,
            purge_life: None,
            erase: false,
            later_than: CommitTime::ZERO,
            limits: BTreeMap::new(),
        });
        let options = serde_json::Map::new();
        draft.put_namespace(Namespace { id: NamespaceId::new(DEFAULT_NAMESPACE)?, options, created_at_ms: now_ms });
        let audit = vec![Entry::of_the_server(clock.now_ns(), "FIRST START", ROOT.to_owned())?];
        let change = SchemaChange { edit: draft.finish("first start"), verified: None, rows: None, audit };
        committer.change_schema(change).await.map_err(|refusal| match refusal {
            Refusal::Failed(error) => error,
            _ => Error::internal("the catalog changed while the server was starting"),
        })
    }

    fn generated_password(&self) -> String {
        let mut bytes = [0; GENERATED_PASSWORD_BYTES];
        self.entropy.fill(&mut bytes);
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    }

    /// Hashes a new password. It does not wait behind logins.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        let entropy = self.entropy.clone();
        let turn = turn_of(&self.hashing).await?;
        self.in_turn(turn, move |passwords| passwords.hash(&password, entropy.as_ref())).await?
    }

    /// Checks the password of a login against a stored hash, or against none with as much work. `begin` is asked when
    /// its turn has come: only what is being checked may count as a failure, not what waits.
    async fn verify(
        &self,
        password: String,
        stored: Option<String>,
        begin: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let _waiting = self.waiting.clone().try_acquire_owned().map_err(|_| too_many_logins())?;
        let turn = turn_of(&self.checking).await?;
        begin()?;
        self.in_turn(turn, move |passwords| passwords.verify(&password, stored.as_deref())).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        work: impl FnOnce(&Passwords) -> T + Send + 'static,
    ) -> Result<T> {
        let passwords = self.passwords.clone();
        let work = move || {
            // The turn lasts as long as the work, also if who asked for it has gone.
            let _turn = turn;
            work(&passwords)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Error::internal("hashing a password broke down").with_source(error))
    }

    /// Tells those who wait that a grant may have ended.
    pub(crate) fn note_revocation(&self) {
        self.revocations.send_modify(|count| *count += 1);
    }
}

async fn turn_of(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let turn = tokio::time::timeout(PASSWORD_WAIT, turns.clone().acquire_owned()).await;
    turn.ok().and_then(std::result::Result::ok).ok_or_else(too_many_logins)
}

fn too_many_logins() -> Error {
    Error::overloaded("too many passwords are being checked; try again later")
}

async fn secret(
    settings: &Settings,
    entropy: &Arc<dyn Entropy>,
    committer: &Committer,
    snapshot: &dyn Snapshot,
) -> Result<Vec<u8>> {
    if !settings.auth.token_secret.is_empty() {
        return Ok(settings.auth.token_secret.clone().into_bytes());
    }
    let key = keys::system(SECRET.0, SECRET.1);
    if let Some(stored) = snapshot.get(&key).await? {
        return Ok(stored.to_vec());
    }
    let mut secret = vec![0; SECRET_BYTES];
    entropy.fill(&mut secret);
    committer.records(vec![(key, secret.clone().into())], Vec::new()).await?;
    Ok(secret)
}

impl Engine {
    /// The password of `root` that was made at the very first start, to be shown once.
    pub fn first_root_password(&self) -> Option<&str> {
        self.accounts.first_root_password.as_deref()
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Changes when a token may have stopped working: because an account changed, or a session ended. Whoever holds a
    /// grant for longer than a request asks [`Self::recheck`] then.
    pub fn revocations(&self) -> watch::Receiver<u64> {
        self.accounts.revocations.subscribe()
    }

    /// Changes accounts without a statement: plans on the newest catalog until nothing came in between. `None` means
    /// that there is nothing to do. What it did goes into the audit log in the same commit.
    pub(crate) async fn edit_accounts(
        &self,
        audit: Vec<Entry>,
        plan: impl Fn(&Catalog) -> Result<Option<CatalogEdit>>,
    ) -> Result<Option<Arc<Catalog>>> {
        let _one_at_a_time = self.ddl.lock().await;
        loop {
            let Some(edit) = plan(&self.catalog())? else { return Ok(None) };
            let next = edit.next.clone();
            let change = SchemaChange { edit, verified: None, rows: None, audit: audit.clone() };
            match self.committer.change_schema(change).await {
                Ok(()) => {
                    self.accounts.note_revocation();
                    return Ok(Some(next));
                }
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::RowsChanged | Refusal::SchemaChanged) => {}
            }
        }
    }
}
