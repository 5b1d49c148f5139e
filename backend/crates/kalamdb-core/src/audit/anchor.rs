//! The count and the last seal, in a file beside the store: whoever puts an older state of the store in the place of
//! the newer one is found out by it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kalamdb_auth::seal::SealKey;
use kalamdb_commons::{Error, Result};

use super::chain::{Mark, MarkKind};

const FILE: &str = "audit.head";

fn path(data_dir: &str) -> PathBuf {
    Path::new(data_dir).join(FILE)
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// It has not been written yet.
    None,
    /// It is not ours, or damaged.
    Wrong,
    /// The log had come to here.
    At(Mark),
}

/// Reads the file.
pub(crate) fn read(data_dir: &str, key: &SealKey) -> Result<Anchor> {
    match fs::read(path(data_dir)) {
        Ok(bytes) => Ok(Mark::decode(&bytes, key, MarkKind::Anchor).map_or(Anchor::Wrong, Anchor::At)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Anchor::None),
        Err(error) => Err(Error::io("the file of the audit log's end cannot be read").with_source(error)),
    }
}

/// Replaces the file. Entries up to the mark must be durable.
pub(crate) fn write(data_dir: &str, key: &SealKey, mark: &Mark) -> Result<()> {
    let bytes = mark.encode(key, MarkKind::Anchor);
    replace(&path(data_dir), |file| file.write_all(&bytes))
        .map_err(|error| Error::io("the file of the audit log's end cannot be written").with_source(error))
}

/// Replaces a file of the data directory, durably, readable by its owner alone.
pub(super) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&aside)?;
    fill(&mut file)?;
    // IMPORTANT: the bytes, then the name, then the directory.
    file.sync_all()?;
    fs::rename(&aside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}
