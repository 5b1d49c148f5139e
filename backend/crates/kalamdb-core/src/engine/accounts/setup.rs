//! Taking a new server into possession.
//!
//! A first start without a given password makes `root` with a random one, and prints it. From then until somebody has
//! shown to be its owner, by logging in with it or by setting the server up, `needs_setup` is true. Setting up takes no
//! credentials, so it is for the server's own machine unless the settings say otherwise.

use std::collections::BTreeMap;

use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, ErrorKind, Result};

use super::login::info;
use super::{ROOT, password_rules};
use crate::api::{Origin, Setup, UserInfo};
use crate::audit::Entry;
use crate::catalog::ddl;
use crate::catalog::{AuthType, Draft, User};
use crate::engine::Engine;

impl Engine {
    /// Whether nobody has taken the server into possession yet.
    pub fn needs_setup(&self) -> bool {
        let root = UserId::new(ROOT).ok().and_then(|root| self.catalog().user(&root).cloned());
        root.is_some_and(|root| root.provisional)
    }

    /// Gives `root` its password and makes the first account of a person, with the role `dba`: once, in one commit.
    ///
    /// # Errors
    /// `AlreadyExists` if the server is set up; `PermissionDenied` from another machine, unless the settings allow it;
    /// `WeakPassword`, `InvalidInput`.
    pub async fn set_up(&self, setup: &Setup, origin: &Origin) -> Result<UserInfo> {
        let is_set_up = || Error::new(ErrorKind::AlreadyExists, "The server is set up already: log in");
        if !self.needs_setup() {
            return Err(is_set_up());
        }
        if !origin.is_local && !self.settings.auth.allow_remote_setup {
            return Err(Error::permission_denied(
                "Setting up is allowed from the server's own machine only (auth.allow_remote_setup)",
            ));
        }
        let id = ddl::checked_id(&setup.user)?;
        if id.as_str() == ROOT {
            return Err(Error::invalid_input(
                "'root' is there already: choose a name of your own for the first account",
            ));
        }
        let rules = password_rules(&self.settings.auth);
        rules.check(&setup.user, &setup.password)?;
        rules.check(ROOT, &setup.root_password).map_err(|error| error.context("root_password"))?;
        let email = setup.email.as_deref().map(ddl::checked_email).transpose()?;
        let hash = self.accounts.hash(setup.password.clone()).await?;
        let root_hash = self.accounts.hash(setup.root_password.clone()).await?;
        let now_ms = self.clock.now_ms();
        let entry = Entry::of_the_server(self.clock.now_ns(), "SETUP", format!("{ROOT}, {id}"))?;
        let next = self
            .edit_accounts(vec![entry.asked_from(&origin.address)], |catalog| {
                let root = UserId::new(ROOT)?;
                let Some(root) = catalog.user(&root).filter(|root| root.provisional) else { return Ok(None) };
                let mut draft = Draft::new(catalog);
                draft.put_user(User {
                    password_hash: root_hash.clone(),
                    provisional: false,
                    generation: root.generation + 1,
                    updated_at_ms: now_ms,
                    ..User::clone(root)
                });
                if catalog.user(&id).is_some() {
                    return Err(Error::invalid_input(format!("user '{id}' already exists")));
                }
                draft.put_user(User {
                    id: id.clone(),
                    role: Role::Dba,
                    email: email.clone(),
                    auth_type: AuthType::Password,
                    password_hash: hash.clone(),
                    provisional: false,
                    generation: catalog.version() + 1,
                    created_at_ms: now_ms,
                    updated_at_ms: now_ms,
                    deleted_at_ms: None,
                    purge_life: None,
                    erase: false,
                    later_than: self.published_through(),
                    limits: BTreeMap::new(),
                });
                Ok(Some(draft.finish("set up")))
            })
            .await?;
        let account = next.and_then(|catalog| catalog.user(&id).cloned());
        account.map(|account| info(&account)).ok_or_else(is_set_up)
    }
}
