//! What a new password must be. Checked where one is set, never at login: an old password that the rules of
//! today refuse still opens its account.

use std::collections::HashSet;
use std::sync::LazyLock;

use kalamdb_commons::{Error, ErrorKind, Result};

/// The most bytes in a password, so that nobody makes the server hash megabytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Passwords that every guesser tries first, in lower case.
static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("password_rules/common.txt").split_whitespace().collect());

/// The rules that settings may change.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The fewest characters.
    pub length_min: usize,
    /// Whether passwords that every guesser tries first are refused.
    pub refuse_common: bool,
}

impl Rules {
    /// Refuses a password that is shorter than `length_min` characters, longer than [`PASSWORD_BYTES_MAX`] bytes, the
    /// user's own id, or a common one. The message says which rule, and never repeats the password.
    ///
    /// # Errors
    /// [`ErrorKind::WeakPassword`].
    pub fn check(self, user: &str, password: &str) -> Result<()> {
        let length = password.chars().count();
        let lower = password.to_lowercase();
        let complaint = if length < self.length_min {
            format!("the password has {length} characters; at least {} are required", self.length_min)
        } else if password.len() > PASSWORD_BYTES_MAX {
            format!("the password has {} bytes; at most {PASSWORD_BYTES_MAX} are allowed", password.len())
        } else if lower == user.to_lowercase() {
            "the password is the user id; choose another".to_owned()
        } else if self.refuse_common && COMMON.contains(lower.as_str()) {
            "the password is among those that are guessed first; choose another".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::WeakPassword, complaint))
    }
}

#[cfg(test)]
mod tests;
