//! Whole files, copied and summed a piece at a time: for backups.

use bytes::Bytes;
use kalamdb_commons::digest::{Checksum, sha256};
use kalamdb_commons::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Storage;
use crate::cache::file_key;
use crate::io::IoCounters;

/// Bytes that are held at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// What a file holds, told shortly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

impl FileSum {
    /// The sum of a file whose bytes are all there.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256(bytes), bytes: bytes.len() as u64 }
    }
}

impl Storage {
    /// Reads a file from its first byte to its last, and sums it. `pace` hears of each piece; its error ends it.
    ///
    /// # Errors
    /// Corrupt if the file is missing; I/O if storage fails.
    pub async fn sum(&self, path: &str, mut pace: impl FnMut(u64) -> Result<()>) -> Result<FileSum> {
        self.let_go(path);
        let bytes = self.present(path).await?;
        let (mut sum, mut at) = (Checksum::default(), 0);
        while at < bytes {
            let piece = self.piece(path, at, bytes).await?;
            sum.add(&piece);
            at += piece.len() as u64;
            pace(piece.len() as u64)?;
        }
        self.let_go(path);
        Ok(FileSum { sha256: sum.finish(), bytes })
    }

    /// Copies a file into a storage, where the name must be free, and sums it. Durable when it returns.
    ///
    /// # Errors
    /// As [`Self::sum`], and `AlreadyExists` if the name is taken.
    pub async fn copy(
        &self,
        path: &str,
        to: &Self,
        to_path: &str,
        mut pace: impl FnMut(u64) -> Result<()>,
    ) -> Result<FileSum> {
        let bytes = self.present(path).await?;
        let mut upload = to.create_exclusive(to_path).await?;
        let (mut sum, mut at) = (Checksum::default(), 0);
        while at < bytes {
            let piece = self.piece(path, at, bytes).await?;
            sum.add(&piece);
            at += piece.len() as u64;
            pace(piece.len() as u64)?;
            upload.write(piece).await?;
        }
        upload.finish().await?;
        Ok(FileSum { sha256: sum.finish(), bytes })
    }

    /// Writes a small file whose name must be free. Durable when it returns.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; I/O if storage fails.
    pub async fn write_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        let mut upload = self.create_exclusive(path).await?;
        upload.write(bytes).await?;
        upload.finish().await
    }

    /// Forgets what is kept in memory of a file that somebody else may change: its handle, footer and indexes.
    pub fn let_go(&self, path: &str) {
        self.caches.forget(file_key(&self.id, path));
    }

    async fn present(&self, path: &str) -> Result<u64> {
        let bytes = self.size(path).await?;
        bytes.ok_or_else(|| Error::corrupt(format!("the file '{path}' is missing")))
    }

    async fn piece(&self, path: &str, at: u64, bytes: u64) -> Result<Bytes> {
        let range = at..bytes.min(at + PIECE_BYTES);
        let read = self.read_ranges(path, &[range], &IoCounters::default()).await?;
        read.into_iter().next().ok_or_else(|| Error::internal("a range that was asked for"))
    }
}
