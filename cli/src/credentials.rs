//! Passwords that are remembered: `kalam login` puts them into a file that its owner alone may read.
//!
//! A file that others may read is refused, not repaired: what was in it may be known already.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What its owner may do, and nobody else anything.
const MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    url: String,
    user: String,
    password: String,
}

/// The file of remembered passwords.
#[derive(Debug)]
pub(crate) struct Credentials {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Credentials {
    /// Reads the file. None is an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let path = path.to_owned();
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { path, entries: Vec::new() }),
            Err(source) => return Err(unusable(&path, source)),
            Ok(metadata) if metadata.permissions().mode() & OTHERS != 0 => {
                return Err(Failure::Usage(format!(
                    "{0} holds passwords, and others than its owner may use it (mode {1:03o}). Change what is in it if \
                     they might have, then: chmod 600 {0}",
                    path.display(),
                    metadata.permissions().mode() & 0o777
                )));
            }
            Ok(_) => fs::read_to_string(&path).map_err(|source| unusable(&path, source))?,
        };
        let entries = serde_json::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{} is damaged: {error}", path.display())))?;
        Ok(Self { path, entries })
    }

    /// The password of a user of a server.
    pub(crate) fn find(&self, url: &str, user: &str) -> Option<&str> {
        let found = self.entries.iter().find(|entry| entry.is_of(url, user));
        found.map(|entry| entry.password.as_str())
    }

    /// Remembers a password, in the place of an older one.
    pub(crate) fn remember(&mut self, url: &str, user: &str, password: &str) -> Result<(), Failure> {
        self.entries.retain(|entry| !entry.is_of(url, user));
        let (url, user) = (plain(url).to_owned(), user.to_owned());
        self.entries.push(Entry { url, user, password: password.to_owned() });
        self.store()
    }

    /// Forgets a password. Whether there was one.
    pub(crate) fn forget(&mut self, url: &str, user: &str) -> Result<bool, Failure> {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.is_of(url, user));
        if self.entries.len() == before {
            return Ok(false);
        }
        self.store().map(|()| true)
    }

    /// Writes the file aside first, so that a full disk loses no password.
    fn store(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.entries).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut aside = self.path.clone().into_os_string();
        aside.push(".tmp");
        let write = || {
            // Made anew, so that nobody has the file open who could not read it.
            drop(fs::remove_file(&aside));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &self.path)
        };
        write().map_err(|source| unusable(&self.path, source))
    }
}

impl Entry {
    fn is_of(&self, url: &str, user: &str) -> bool {
        plain(&self.url) == plain(url) && self.user == user
    }
}

fn plain(url: &str) -> &str {
    url.trim_end_matches('/')
}

fn unusable(path: &Path, source: io::Error) -> Failure {
    Failure::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
