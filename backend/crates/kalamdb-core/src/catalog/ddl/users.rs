//! CREATE, ALTER and DROP USER.
//!
//! An account can be made, changed and dropped by whoever has at least its role, before and after: a `dba` deals
//! with accounts up to `dba`.

use std::collections::BTreeMap;

use kalamdb_auth::policy::{Right, Verdict, decide};
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Role;
use kalamdb_sql::{CreateUser, UserChange};

use super::{DdlContext, Planned};
use crate::catalog::{AuthType, Catalog, Draft, User};

/// Who acts when nobody is authenticated: the server itself. No account can have the name.
pub(crate) const SERVER: &str = "(server)";
/// The most bytes in an e-mail address (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// The name of a new account.
pub(crate) fn checked_id(name: &str) -> Result<UserId> {
    if name == SERVER {
        return Err(Error::invalid_input(format!("'{SERVER}' is what the audit log calls the server itself")));
    }
    UserId::new(name)
}

pub(super) fn create(catalog: &Catalog, context: &DdlContext, create: &CreateUser) -> Result<Planned> {
    let id = checked_id(&create.name)?;
    require_role(context, create.role, &id)?;
    match catalog.user(&id) {
        Some(user) if user.is_active() => {
            let message = format!("user '{id}' already exists");
            return if create.if_not_exists {
                Ok(Planned::nothing(message))
            } else {
                Err(Error::already_exists(message))
            };
        }
        Some(_) => {
            return Err(Error::already_exists(format!(
                "user '{id}' was dropped and is not purged yet: the name stays taken while rows are stored under it \
                 (auth.dropped_user_hours)"
            )));
        }
        None => {}
    }
    let mut draft = Draft::new(catalog);
    draft.put_user(User {
        id: id.clone(),
        role: create.role,
        email: create.email.as_deref().map(checked_email).transpose()?,
        auth_type: AuthType::Password,
        password_hash: password_hash(context)?,
        provisional: false,
        generation: catalog.version() + 1,
        created_at_ms: context.now_ms,
        updated_at_ms: context.now_ms,
        deleted_at_ms: None,
        purge_life: None,
        erase: false,
        later_than: context.through,
        limits: BTreeMap::new(),
    });
    Ok(draft.finish(format!("User '{id}' created")).into())
}

pub(super) fn alter(catalog: &Catalog, context: &DdlContext, name: &str, change: &UserChange) -> Result<Planned> {
    let mut user = require_user(catalog, name)?;
    require_role(context, user.role, &user.id)?;
    match change {
        UserChange::Password(_) => {
            user.password_hash = password_hash(context)?;
            user.provisional = false;
            user.generation += 1;
        }
        UserChange::Role(role) => {
            require_role(context, *role, &user.id)?;
            if user.id == context.actor.user && *role < user.role {
                return Err(Error::invalid_input("you cannot lower your own role; another account must do it"));
            }
            user.generation += u64::from(*role != user.role);
            user.role = *role;
        }
        UserChange::Limit(limit, Some(max)) => std::mem::drop(user.limits.insert(*limit, *max)),
        UserChange::Limit(limit, None) => std::mem::drop(user.limits.remove(limit)),
        UserChange::Email(address) => user.email = Some(checked_email(address)?),
    }
    user.updated_at_ms = context.now_ms;
    let mut draft = Draft::new(catalog);
    let message = format!("User '{}' altered", user.id);
    draft.put_user(user);
    Ok(draft.finish(message).into())
}

pub(super) fn drop(catalog: &Catalog, context: &DdlContext, name: &str, if_exists: bool) -> Result<Planned> {
    let mut user = match require_user(catalog, name) {
        Err(error) if if_exists && error.kind() == kalamdb_commons::ErrorKind::NotFound => {
            return Ok(Planned::nothing(error.message()));
        }
        found => found?,
    };
    require_role(context, user.role, &user.id)?;
    if user.id == context.actor.user {
        return Err(Error::invalid_input("you cannot drop your own account; another account must do it"));
    }
    user.deleted_at_ms = Some(context.now_ms);
    user.updated_at_ms = context.now_ms;
    user.generation += 1;
    let mut draft = Draft::new(catalog);
    let message = format!("User '{}' dropped", user.id);
    draft.put_user(user);
    Ok(draft.finish(message).into())
}

fn require_user(catalog: &Catalog, name: &str) -> Result<User> {
    let id = UserId::new(name)?;
    let user = catalog.user(&id).filter(|user| user.is_active());
    user.map(|user| User::clone(user)).ok_or_else(|| Error::not_found(format!("user '{id}' does not exist")))
}

fn require_role(context: &DdlContext, role: Role, subject: &UserId) -> Result<()> {
    if decide(context.actor.role, Right::Account(role)) != Verdict::Allowed {
        return Err(Error::permission_denied(format!(
            "user '{subject}' has or gets the role {}, which is above yours ({})",
            role.as_str(),
            context.actor.role.as_str()
        )));
    }
    Ok(())
}

fn password_hash(context: &DdlContext) -> Result<String> {
    context.password_hash.clone().ok_or_else(|| Error::internal("the password was not hashed before the plan"))
}

/// An e-mail address as far as it can be told from its text.
pub fn checked_email(address: &str) -> Result<String> {
    let sound = address.len() <= EMAIL_BYTES_MAX
        && !address.chars().any(|c| c.is_control() || c.is_whitespace())
        && address.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if !sound {
        return Err(Error::invalid_input(format!(
            "{address:?} is not an e-mail address: it must be name@domain, without spaces, at most {EMAIL_BYTES_MAX} bytes"
        )));
    }
    Ok(address.to_owned())
}
