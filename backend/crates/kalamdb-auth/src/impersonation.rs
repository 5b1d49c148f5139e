//! AS USER: who may act on whose behalf (FR-065, FR-066).
//!
//! Everybody may name themselves. `service` and above may name accounts whose role is not above their own, so that
//! nobody gains a right by it. An account that does not exist and one that was dropped are one answer, and who may
//! not act for others learns nothing about whom they named.

use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::{Error, ErrorKind, Result};

/// Said to a `user` who names somebody else.
pub const NOT_ALLOWED: &str = "Permission denied: AS USER requires service/admin role";
/// Said when the subject's role is above the actor's.
pub const ABOVE: &str = "Permission denied: the AS USER subject has a role above yours";
/// Said when there is no such account, any more or at all.
pub const INVALID_SUBJECT: &str = "Invalid user_id for AS USER operation";
/// Said when a statement with AS USER names a SHARED table.
pub const NOT_ON_SHARED: &str = "AS USER clause not supported for Shared tables";

/// Whether a role may act on behalf of anybody but oneself.
pub fn may_act_for_others(role: Role) -> bool {
    role >= Role::Service
}

/// Whether an error is one of these, or any other refusal, rather than a failure.
pub fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied || [INVALID_SUBJECT, NOT_ON_SHARED].contains(&error.message())
}

/// Decides whether `actor` may act as the account that they call `named`; `account` is it, if it exists and is active.
///
/// # Errors
/// `PermissionDenied` or `InvalidInput`, with the words above.
pub fn decide(actor: &Actor, named: &str, account: Option<Actor>) -> Result<Actor> {
    if !may_act_for_others(actor.role) && named != actor.user.as_str() {
        return Err(Error::permission_denied(NOT_ALLOWED));
    }
    let account = account.ok_or_else(|| Error::invalid_input(INVALID_SUBJECT))?;
    if account.role > actor.role {
        return Err(Error::permission_denied(ABOVE));
    }
    Ok(account)
}

#[cfg(test)]
mod tests;
