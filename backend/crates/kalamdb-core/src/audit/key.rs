//! The key that entries are sealed with: from the settings, or in a file of the data directory. It is never in the
//! store, so that whoever can write to the store cannot seal.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use kalamdb_auth::seal::SealKey;
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};

const FILE: &str = "audit.key";
const KEY_BYTES: usize = 32;

/// The key. A new one is made only for a log that has not begun: entries whose key is gone could never be verified again.
///
/// # Errors
/// If the log has begun and its key is not there, or the file cannot be read or made.
pub(crate) fn open(settings: &Settings, entropy: &dyn Entropy, has_begun: bool) -> Result<SealKey> {
    if !settings.audit.key.is_empty() {
        return Ok(SealKey::new(settings.audit.key.as_bytes()));
    }
    let path = Path::new(&settings.storage.data_dir).join(FILE);
    let unusable = |error| Error::io(format!("the audit key {} cannot be used", path.display())).with_source(error);
    match fs::read(&path) {
        Ok(secret) if secret.len() == KEY_BYTES => Ok(SealKey::new(&secret)),
        Ok(_) => Err(Error::corrupt(format!("the audit key {} is damaged; restore it", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound && has_begun => Err(Error::corrupt(format!(
            "the audit log has entries, and their key {} is missing; restore the file, or set audit.key",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut secret = [0; KEY_BYTES];
            entropy.fill(&mut secret);
            make(&path, &secret).map_err(unusable)?;
            Ok(SealKey::new(&secret))
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Writes the file aside first, so that a crash leaves all of it or nothing.
fn make(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    super::anchor::replace(path, |file| file.write_all(secret))
}
