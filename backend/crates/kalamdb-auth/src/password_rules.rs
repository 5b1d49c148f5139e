//! What a new password must be. Checked where one is set, never at login: an old password that the rules of
//! today refuse still opens its account.

use kalamdb_commons::{Error, Result};

/// The most bytes in a password, so that nobody makes the server hash megabytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Refuses a password that is shorter than `length_min` characters, longer than [`PASSWORD_BYTES_MAX`] bytes,
/// or the user's own id. The message says which rule, and never repeats the password.
pub fn check(user: &str, password: &str, length_min: usize) -> Result<()> {
    let length = password.chars().count();
    if length < length_min {
        return Err(Error::invalid_input(format!(
            "the password has {length} characters; at least {length_min} are required"
        )));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::invalid_input(format!(
            "the password has {} bytes; at most {PASSWORD_BYTES_MAX} are allowed",
            password.len()
        )));
    }
    if password.eq_ignore_ascii_case(user) {
        return Err(Error::invalid_input("the password is the user id; choose another"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
