//! Secrets at rest: ChaCha20-Poly1305 under a key that is not among the data which it protects.
//!
//! The key comes from a setting, or from a file of its own beside the data, which only its owner may read and which is
//! made when the first secret is sealed. A sealed secret is bound to what it is for: it opens for nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::storage::Sealed;
use kalamdb_commons::{Error, Result};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};

/// The fewest bytes in a key that a setting gives.
pub const KEY_BYTES_MIN: usize = 32;
const KEY_BYTES: usize = 32;
/// Nobody but the owner may do anything with the file.
const MODE: u32 = 0o600;

/// The key that seals secrets.
pub struct SealingKey(LessSafeKey);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl SealingKey {
    /// A key from the text of a setting.
    ///
    /// # Errors
    /// `InvalidInput` if the text is shorter than [`KEY_BYTES_MIN`].
    pub fn from_text(text: &str) -> Result<Self> {
        if text.len() < KEY_BYTES_MIN {
            return Err(Error::invalid_input(format!("a key for secrets has at least {KEY_BYTES_MIN} bytes")));
        }
        Self::new(digest(&SHA256, text.as_bytes()).as_ref())
    }

    /// The key in a file, or `None` if there is no file.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Corrupt` if it holds no key; `InvalidInput` if others may read it.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", error)),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & !MODE != 0 {
            return Err(Error::invalid_input(format!(
                "the file of the key for secrets has mode {mode:04o}, so others may read it; it must be {MODE:04o}"
            )));
        }
        let bytes = fs::read(path).map_err(|error| failed("reading", error))?;
        if bytes.len() != KEY_BYTES {
            return Err(Error::corrupt(format!(
                "the file of the key for secrets has {} bytes, not {KEY_BYTES}",
                bytes.len()
            )));
        }
        Self::new(&bytes).map(Some)
    }

    /// Makes a key and its file, durably.
    ///
    /// # Errors
    /// `Io` if the file cannot be written.
    pub fn make(path: &Path, entropy: &dyn Entropy) -> Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        entropy.fill(&mut bytes);
        write_privately(path, &bytes).map_err(|error| failed("writing", error))?;
        Self::new(&bytes)
    }

    fn new(bytes: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes);
        key.map(|key| Self(LessSafeKey::new(key))).map_err(|_| Error::internal("a key of the wrong length"))
    }

    /// Seals a secret for one purpose.
    ///
    /// # Errors
    /// `Internal` if it is longer than the cipher takes.
    pub fn seal(&self, secret: &str, purpose: &str, entropy: &dyn Entropy) -> Result<Sealed> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut text = secret.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()), &mut text)
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok(Sealed { nonce: STANDARD.encode(nonce), text: STANDARD.encode(text) })
    }

    /// Opens what was sealed for the same purpose.
    ///
    /// # Errors
    /// `Corrupt` if it was sealed with another key, for another purpose, or was changed.
    pub fn open(&self, sealed: &Sealed, purpose: &str) -> Result<String> {
        self.opened(sealed, purpose).ok_or_else(|| {
            Error::corrupt(
                "the secret cannot be opened: the key for secrets is not the one that sealed it, or it was damaged",
            )
        })
    }

    fn opened(&self, sealed: &Sealed, purpose: &str) -> Option<String> {
        let nonce: [u8; NONCE_LEN] = STANDARD.decode(&sealed.nonce).ok()?.try_into().ok()?;
        let mut text = STANDARD.decode(&sealed.text).ok()?;
        let aad = Aad::from(purpose.as_bytes());
        let open = self.0.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        String::from_utf8(open.to_vec()).ok()
    }
}

fn write_privately(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&aside)?;
    file.write_all(bytes)?;
    // IMPORTANT: durable before anything is sealed with it; what is sealed with a lost key is lost.
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn failed(what: &str, error: io::Error) -> Error {
    Error::io(format!("{what} the file of the key for secrets failed: {error}")).with_source(error)
}

#[cfg(test)]
mod tests;
