//! An import that may not come to its end: the key that it is repeated under is kept in a file beside what is imported.
//!
//! The server remembers under the key how many rows are in, in the same commits as the rows, so that no row comes in twice
//! whatever broke and whenever. The file goes when the import has come to its end.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kalamdb_commons::clock::{Entropy, SystemEntropy};
use serde::{Deserialize, Serialize};

use crate::args::Import;
use crate::failure::Failure;

/// What the name of the file ends in.
const ENDING: &str = ".importing";
/// What the server says when nothing is in.
const NOTHING_IN: &str = "no rows were imported";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    url: String,
    table: String,
    as_user: Option<String>,
    key: String,
}

/// An import that is under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    path: PathBuf,
    key: String,
}

impl Attempt {
    /// Begins an import, or goes on with one. None if it cannot be gone on with: its key has no place to be kept in.
    pub(crate) fn begin(import: &Import, url: &str, table: &str) -> Result<Option<Self>, Failure> {
        if import.file.as_os_str() == "-" {
            return match import.resume {
                true => Err(Failure::Usage("standard input cannot be read again: --resume needs a file".to_owned())),
                false => Ok(None),
            };
        }
        let path = beside(&import.file);
        let wanted =
            |key: String| Kept { url: url.to_owned(), table: table.to_owned(), as_user: import.as_user.clone(), key };
        match (read(&path)?, import.resume, import.restart) {
            (None, true, _) => Err(Failure::Usage(format!(
                "there is nothing to go on with: {} is not there. Leave --resume away to begin",
                path.display()
            ))),
            (Some(kept), true, _) if wanted(kept.key.clone()) == kept => Ok(Some(Self { path, key: kept.key })),
            (Some(kept), true, _) => Err(Failure::Usage(format!(
                "the import that did not come to its end was into {} at {}: say the same again",
                kept.table, kept.url
            ))),
            (Some(_), false, false) => Err(Failure::Usage(format!(
                "an import of this file did not come to its end ({}): --resume goes on with it, and --restart begins anew, \
                 with rows that are in already coming in again",
                path.display()
            ))),
            (_, false, _) => Ok(Self::keep(path, &wanted(new_key()))),
        }
    }

    fn keep(path: PathBuf, kept: &Kept) -> Option<Self> {
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.write_all(&serde_json::to_vec(kept)?)?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Some(Self { key: kept.key.clone(), path }),
            Err(error) => {
                eprintln!("If this breaks off it cannot be gone on with: {}: {error}", path.display());
                None
            }
        }
    }

    /// What the import is repeated under.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The import has ended. Whether it can be gone on with.
    pub(crate) fn end<T>(self, outcome: &Result<T, Failure>) -> bool {
        let may_have_rows = match outcome {
            Ok(_) => false,
            Err(Failure::Refused(refusal)) => {
                refusal.details.as_ref().is_some_and(|details| details.as_str() != Some(NOTHING_IN))
            }
            Err(_) => true,
        };
        if !may_have_rows {
            // One that stays is asked about the next time.
            drop(fs::remove_file(&self.path));
        }
        may_have_rows
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ENDING);
    name.into()
}

fn read(path: &Path) -> Result<Option<Kept>, Failure> {
    let unusable = |source| Failure::File { path: path.display().to_string(), source };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(error)),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unusable(error.into())),
    }
}

fn new_key() -> String {
    let mut random = [0; 16];
    SystemEntropy.fill(&mut random);
    format!("kalam-import-{:032x}", u128::from_be_bytes(random))
}

#[cfg(test)]
mod tests;
