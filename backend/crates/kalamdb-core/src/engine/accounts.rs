//! Accounts as far as logging in needs them: passwords, tokens, the first start.

use std::sync::Arc;

use kalamdb_auth::passwords::Passwords;
use kalamdb_auth::throttle::LoginThrottle;
use kalamdb_auth::tokens::{Subject, TokenIssuer, TokenKind, token_expired};
use kalamdb_auth::{invalid_credentials, password_rules};
use kalamdb_commons::clock::{Clock, Entropy};
use kalamdb_commons::ids::{NamespaceId, UserId};
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};
use kalamdb_store::{Snapshot, keys};

use super::Engine;
use crate::api::{Login, UserInfo};
use crate::catalog::{AuthType, Draft, Namespace, User};
use crate::commit::{Committer, Refusal, SchemaChange};

/// The record of the secret that signs tokens.
const SECRET: (&str, &str) = ("secret", "tokens");
const SECRET_BYTES: usize = 32;
const GENERATED_PASSWORD_BYTES: usize = 15;

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
    first_root_password: Option<String>,
}

impl std::fmt::Debug for Accounts {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
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
        let passwords = Arc::new(Passwords::new(settings.auth.argon2_memory_kib, entropy.as_ref())?);
        let secret = secret(settings, entropy, committer, snapshot).await?;
        let mut accounts = Self {
            passwords,
            tokens: TokenIssuer::new(&secret)?,
            throttle: LoginThrottle::new(settings.auth.login_failures_per_minute_max),
            entropy: entropy.clone(),
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
                password_rules::check(ROOT, given, settings.auth.password_length_min)?;
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
            generation: 1,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            deleted_at_ms: None,
        });
        let options = serde_json::Map::new();
        draft.put_namespace(Namespace { id: NamespaceId::new(DEFAULT_NAMESPACE)?, options, created_at_ms: now_ms });
        let change = SchemaChange { edit: draft.finish("first start"), verified: None, rows: None };
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

    /// Hashes a password off the async threads: it is meant to be slow.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        let (passwords, entropy) = (self.passwords.clone(), self.entropy.clone());
        tokio::task::spawn_blocking(move || passwords.hash(&password, entropy.as_ref()))
            .await
            .map_err(|error| Error::internal("hashing a password").with_source(error))?
    }
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

    /// Checks a password and issues tokens. Unknown user and wrong password are one answer, in text and time.
    ///
    /// # Errors
    /// `InvalidCredentials`, or `RateLimited` after too many failures.
    pub async fn login(&self, user: &str, password: &str) -> Result<Login> {
        self.accounts.throttle.check(user, self.clock.now_ms())?;
        let id = UserId::new(user).ok();
        let account = id.and_then(|id| self.catalog().user(&id).cloned()).filter(|account| account.is_active());
        let (passwords, password) = (self.accounts.passwords.clone(), password.to_owned());
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let right = tokio::task::spawn_blocking(move || passwords.verify(&password, stored.as_deref()))
            .await
            .map_err(|error| Error::internal("checking a password").with_source(error))?;
        match account.filter(|_| right) {
            Some(account) => {
                self.accounts.throttle.succeeded(user);
                self.issue(&account)
            }
            None => {
                self.accounts.throttle.failed(user, self.clock.now_ms());
                Err(invalid_credentials())
            }
        }
    }

    /// Issues new tokens for a refresh token.
    ///
    /// # Errors
    /// `InvalidCredentials` or `TokenExpired`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Login> {
        let account = self.account_of(refresh_token, TokenKind::Refresh)?;
        self.issue(&account)
    }

    /// Who an access token stands for, as the account is now.
    ///
    /// # Errors
    /// `InvalidCredentials` or `TokenExpired`, the latter also if the account was changed since.
    pub fn authenticate(&self, access_token: &str) -> Result<Actor> {
        let account = self.account_of(access_token, TokenKind::Access)?;
        Ok(Actor { user: account.id.clone(), role: account.role })
    }

    /// An account as its owner may see it.
    pub fn user_info(&self, user: &UserId) -> Option<UserInfo> {
        self.catalog().user(user).filter(|account| account.is_active()).map(|account| info(account))
    }

    fn account_of(&self, token: &str, kind: TokenKind) -> Result<Arc<User>> {
        let claims = self.accounts.tokens.read(token, kind, self.clock.now_ms())?;
        let catalog = self.catalog();
        let account =
            catalog.user(&claims.sub).filter(|account| account.is_active()).ok_or_else(invalid_credentials)?;
        if account.generation != claims.generation {
            return Err(token_expired());
        }
        Ok(account.clone())
    }

    fn issue(&self, account: &User) -> Result<Login> {
        let now_ms = self.clock.now_ms();
        let subject = || Subject { user: &account.id, role: account.role, generation: account.generation };
        let auth = &self.settings.auth;
        let one = |kind, seconds| {
            self.accounts.tokens.issue(kind, subject(), now_ms, seconds, self.accounts.entropy.as_ref())
        };
        let access = one(TokenKind::Access, auth.access_token_seconds)?;
        let refresh = one(TokenKind::Refresh, auth.refresh_token_seconds)?;
        Ok(Login {
            user: info(account),
            access_token: access.token,
            expires_at_ms: access.expires_at_ms,
            refresh_token: refresh.token,
            refresh_expires_at_ms: refresh.expires_at_ms,
        })
    }
}

fn info(account: &User) -> UserInfo {
    UserInfo {
        id: account.id.clone(),
        role: account.role,
        email: account.email.clone(),
        created_at_ms: account.created_at_ms,
        updated_at_ms: account.updated_at_ms,
    }
}
