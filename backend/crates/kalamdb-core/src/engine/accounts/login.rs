//! Logging in, refreshing, logging out, and what a token is good for.
//!
//! Unknown, dropped and wrong are one answer, in words and in work: each costs one check of a password. What a session
//! has come to is stored before its tokens are handed out, so that no refresh token works twice over a restart.

use std::sync::Arc;

use dashmap::DashMap;
use kalamdb_auth::invalid_credentials;
use kalamdb_auth::sessions::{Session, SessionId, Turn};
use kalamdb_auth::tokens::{Claims, Subject, TokenKind, token_expired};
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_store::{Snapshot, keys};

use super::{ROOT, SESSION_LOCKS};
use crate::api::{Grant, Login, Origin, UserInfo};
use crate::audit::Entry;
use crate::catalog::{CatalogEdit, User, records};
use crate::engine::Engine;

/// The records of sessions.
const SESSION: &str = "session";
const PAGE_ENTRIES: usize = 1_024;
const PAGE_BYTES: usize = 4 << 20;

/// The sessions that were ended, as long as access tokens of theirs may be good.
pub(super) async fn ended_sessions(snapshot: &dyn Snapshot, now_ms: i64) -> Result<DashMap<SessionId, i64>> {
    let sessions: Vec<Session> = records::read_all(snapshot, SESSION).await?;
    let ended = sessions.into_iter().filter(|session| session.ended && session.expires_at_ms > now_ms);
    Ok(ended.map(|session| (session.id, session.expires_at_ms)).collect())
}

impl Engine {
    /// Checks a password and issues the tokens of a new session. Unknown user, dropped user and wrong password are one
    /// answer, in text and time.
    ///
    /// # Errors
    /// `InvalidCredentials`; `SetupRequired` in its place while nobody has taken the server into possession;
    /// `RateLimited` after too many failures; `Overloaded` if too many logins wait.
    pub async fn login(&self, user: &str, password: &str, origin: &Origin) -> Result<Login> {
        let login = self.check_login(user, password, origin).await;
        self.metrics.logins.with_label_values(&[if login.is_ok() { "ok" } else { "refused" }]).inc();
        self.metrics.sessions_begun.inc_by(u64::from(login.is_ok()));
        login
    }

    async fn check_login(&self, user: &str, password: &str, origin: &Origin) -> Result<Login> {
        let (throttle, address) = (&self.accounts.throttle, origin.address.as_str());
        throttle.check(user, address, self.clock.now_ms())?;
        let account = UserId::new(user).ok().and_then(|id| self.catalog().user(&id).cloned());
        let account = account.filter(|account| account.is_active() && self.may_log_in_from(account, origin));
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let right = self
            .accounts
            .verify(password.to_owned(), stored, || throttle.begin(user, address, self.clock.now_ms()))
            .await?;
        match account.filter(|_| right) {
            Some(account) => {
                throttle.succeeded(user, address);
                let account = self.settle_after_login(account, password, origin).await?;
                let session = SessionId::draw(self.accounts.entropy.as_ref());
                self.issue(&account, &session, 0)
            }
            None if self.needs_setup() => Err(Error::new(
                ErrorKind::SetupRequired,
                "The server is not set up: send POST /v1/api/auth/setup from its own machine, or log in as root with the \
                 password that its first start printed",
            )),
            None => Err(invalid_credentials()),
        }
    }

    fn may_log_in_from(&self, account: &User, origin: &Origin) -> bool {
        account.id.as_str() != ROOT || origin.is_local || self.settings.auth.allow_remote_root
    }

    /// What the first login after a change leaves to do: the printed password has come to its owner, so nobody else
    /// may set the server up any more; a hash of former parameters is made again, so that the time of a check tells
    /// nothing.
    async fn settle_after_login(&self, account: Arc<User>, password: &str, origin: &Origin) -> Result<Arc<User>> {
        let is_current = self.accounts.passwords.is_current(&account.password_hash);
        if is_current && !account.provisional {
            return Ok(account);
        }
        let hash = if is_current { None } else { Some(self.accounts.hash(password.to_owned()).await?) };
        let taken = Entry::of_the_server(self.clock.now_ns(), "SETUP", account.id.to_string())?;
        let audit = account.provisional.then(|| taken.asked_from(&origin.address)).into_iter().collect();
        let next = self
            .edit_accounts(audit, |catalog| {
                let unchanged = catalog.user(&account.id).filter(|now| now.generation == account.generation);
                let Some(now) = unchanged else { return Ok(None) };
                let password_hash = hash.clone().unwrap_or_else(|| now.password_hash.clone());
                let settled = User { provisional: false, password_hash, ..User::clone(now) };
                Ok(Some(CatalogEdit::put_users(catalog, [settled])))
            })
            .await?;
        let settled = next.and_then(|catalog| catalog.user(&account.id).cloned());
        settled.ok_or_else(invalid_credentials)
    }

    /// Issues new tokens for a refresh token, which is used up by it. One that is used up already ends its session.
    ///
    /// # Errors
    /// `InvalidCredentials` or `TokenExpired`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Login> {
        let claims = self.accounts.tokens.read(refresh_token, TokenKind::Refresh, self.clock.now_ms())?;
        let account = self.account_of(&claims)?;
        let _one_at_a_time = self.session_lock(&claims.sid).lock().await;
        let session = self.session(&claims).await?;
        match session.turn(claims.turn, self.clock.now_ms(), self.session_end_ms()) {
            Turn::Next(next) => {
                // IMPORTANT: stored before the tokens are handed out, or the old one would work again after a restart.
                self.store_session(&next).await?;
                self.metrics.token_refreshes.inc();
                self.issue(&account, &next.id, next.turn)
            }
            Turn::Again(turn) => self.issue(&account, &claims.sid, turn),
            Turn::Reused(ended) => {
                tracing::warn!(user = %account.id, "a refresh token came twice; its session is ended");
                self.end(ended).await?;
                Err(invalid_credentials())
            }
            Turn::Ended => Err(token_expired()),
        }
    }

    /// Ends the session of an access or refresh token: none of its tokens works from now on.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn logout(&self, token: &str) -> Result<()> {
        let claims = self.accounts.tokens.read_any(token, self.clock.now_ms())?;
        self.account_of(&claims)?;
        let _one_at_a_time = self.session_lock(&claims.sid).lock().await;
        let session = self.session(&claims).await?;
        self.end(session.end()).await
    }

    /// Who an access token stands for, as the account is now.
    ///
    /// # Errors
    /// `InvalidCredentials` or `TokenExpired`, the latter also if the account was changed or the session ended since.
    pub fn authenticate(&self, access_token: &str) -> Result<Grant> {
        let claims = self.accounts.tokens.read(access_token, TokenKind::Access, self.clock.now_ms())?;
        let account = self.account_of(&claims)?;
        Ok(Grant {
            actor: Actor { user: account.id.clone(), role: account.role },
            expires_at_ms: claims.exp.saturating_mul(1_000),
            generation: claims.generation,
            session: claims.sid,
        })
    }

    /// Whether a grant still holds.
    ///
    /// # Errors
    /// `InvalidCredentials` or `TokenExpired`: whoever holds it has to stop.
    pub fn recheck(&self, grant: &Grant) -> Result<()> {
        if self.clock.now_ms() >= grant.expires_at_ms {
            return Err(token_expired());
        }
        self.account_at(&grant.actor.user, grant.generation, &grant.session).map(|_| ())
    }

    /// An account as its owner may see it.
    pub fn user_info(&self, user: &UserId) -> Option<UserInfo> {
        self.catalog().user(user).filter(|account| account.is_active()).map(|account| info(account))
    }

    fn account_of(&self, claims: &Claims) -> Result<Arc<User>> {
        self.account_at(&claims.sub, claims.generation, &claims.sid)
    }

    fn account_at(&self, user: &UserId, generation: u64, session: &SessionId) -> Result<Arc<User>> {
        let catalog = self.catalog();
        let account = catalog.user(user).filter(|account| account.is_active()).ok_or_else(invalid_credentials)?;
        if account.generation != generation || self.accounts.ended.contains_key(session) {
            return Err(token_expired());
        }
        Ok(account.clone())
    }

    fn issue(&self, account: &User, session: &SessionId, turn: u64) -> Result<Login> {
        let now_ms = self.clock.now_ms();
        let (role, generation) = (account.role, account.generation);
        let subject = || Subject { user: &account.id, role, generation, session, turn };
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

    fn session_lock(&self, id: &SessionId) -> &tokio::sync::Mutex<()> {
        let sum = id.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.accounts.session_locks[sum % SESSION_LOCKS]
    }

    /// What is stored of a token's session, or a session that has only logged in.
    async fn session(&self, claims: &Claims) -> Result<Session> {
        let newest = self.committer.readers().newest();
        match newest.snapshot.get(&keys::system(SESSION, claims.sid.as_str())).await? {
            Some(stored) => serde_json::from_slice(&stored)
                .map_err(|error| Error::corrupt("the record of a session is damaged").with_source(error)),
            None => Ok(Session::begun(claims.sid.clone(), self.session_end_ms())),
        }
    }

    /// When tokens that are given now are no longer good, whichever lives longer, rounded as they are.
    fn session_end_ms(&self) -> i64 {
        let auth = &self.settings.auth;
        let seconds = auth.refresh_token_seconds.max(auth.access_token_seconds).saturating_add(1);
        self.clock.now_ms().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    async fn store_session(&self, session: &Session) -> Result<()> {
        let put = (keys::system(SESSION, session.id.as_str()), records::encode(session));
        self.committer.records(vec![put], Vec::new()).await
    }

    async fn end(&self, session: Session) -> Result<()> {
        // IMPORTANT: durable before the answer, or the tokens would work again after a restart.
        self.store_session(&session).await?;
        self.accounts.ended.insert(session.id, session.expires_at_ms);
        self.metrics.sessions_ended.inc();
        self.accounts.note_revocation();
        Ok(())
    }

    /// Forgets sessions of which no token can be good any more. Returns how many.
    pub(crate) async fn forget_old_sessions(&self) -> Result<usize> {
        let now_ms = self.clock.now_ms();
        self.accounts.ended.retain(|_, expires_at_ms| *expires_at_ms > now_ms);
        let newest = self.committer.readers().newest();
        let prefix = keys::system_prefix(SESSION);
        let end = keys::prefix_end(&prefix);
        let is_over = |value: &[u8]| {
            serde_json::from_slice::<Session>(value).map_or(true, |session| session.expires_at_ms <= now_ms)
        };
        let (mut next, mut forgotten) = (Some(prefix), 0);
        while let Some(start) = next {
            let page = newest.snapshot.scan(&start, &end, PAGE_ENTRIES, PAGE_BYTES).await?;
            let over: Vec<_> =
                page.entries.into_iter().filter(|(_, value)| is_over(value)).map(|(key, _)| key).collect();
            forgotten += over.len();
            if !over.is_empty() {
                self.committer.records(Vec::new(), over).await?;
            }
            next = page.next;
        }
        Ok(forgotten)
    }
}

pub(super) fn info(account: &User) -> UserInfo {
    UserInfo {
        id: account.id.clone(),
        role: account.role,
        email: account.email.clone(),
        created_at_ms: account.created_at_ms,
        updated_at_ms: account.updated_at_ms,
    }
}
