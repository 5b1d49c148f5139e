//! STORAGE CHECK: whether a storage does what the cold tier asks of it, tried with a file that is removed afterwards.

use bytes::Bytes;
use kalamdb_commons::{Error, ErrorKind, Result};

use super::{Form, PutError, Storage, Tag};
use crate::io::IoCounters;

/// Where the files of checks lie.
const DIRECTORY: &str = "kalamdb-check";
/// More than one part of an upload, so that it goes in parts.
const LARGE_BYTES: usize = 9 << 20;

/// What was tried, in this order, and what came of it. What comes after the first failure was not tried.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StorageCheck {
    /// A file was written.
    pub writable: bool,
    /// It was read, and was what had been written.
    pub readable: bool,
    /// It was in the listing of its directory.
    pub listable: bool,
    /// It was deleted, and was gone.
    pub deletable: bool,
    /// Whether conditional writes work, or the storage does them by itself; `None` if that is not known.
    pub conditional_writes: Option<bool>,
    /// Whether a file in parts, a name that is taken, and a manifest that was changed do what they should; `None` if that was
    /// not asked for.
    pub extended: Option<bool>,
    /// What failed.
    pub error: Option<String>,
}

impl Storage {
    /// Tries everything. `name` makes the file's name: no two checks at once may have the same.
    pub async fn check(&self, name: &str, extended: bool) -> StorageCheck {
        let mut check = StorageCheck::default();
        let path = format!("{DIRECTORY}/{name}");
        let done = self.try_all(&path, name, extended, &mut check).await;
        if let Err(error) = done {
            check.error = Some(error.message().to_owned());
            check.extended = extended.then_some(false);
            // What is left is told by the listing; the failure that is reported is the first.
            if self.delete(&[path.clone(), large(&path)]).await.is_err() {
                tracing::debug!(storage = %self.id, path, "the file of a check could not be removed");
            }
        }
        check
    }

    async fn try_all(&self, path: &str, name: &str, extended: bool, check: &mut StorageCheck) -> Result<()> {
        let content = Bytes::from(format!("KalamDB checks this storage: {name}"));
        // Of all requests this one is answered with the clearest refusal.
        self.get(path).await?;
        self.write(path, std::slice::from_ref(&content)).await?;
        check.writable = true;
        let found = self.get(path).await?.map(|(bytes, _)| bytes);
        require(found.as_ref() == Some(&content), "what was written is not what is read")?;
        check.readable = true;
        let listed = self.list(DIRECTORY).await?;
        require(listed.iter().any(|(listed, _)| listed == name), "what was written is not listed")?;
        check.listable = true;
        check.conditional_writes = Some(match &*self.form() {
            Form::Local(_) => true,
            Form::Object(object) => object.has_conditions().await?,
        });
        if extended {
            self.try_more(path).await?;
            check.extended = Some(true);
        }
        self.delete(&[path.to_owned()]).await?;
        require(!self.exists(path).await?, "what was deleted is still there")?;
        check.deletable = true;
        Ok(())
    }

    async fn try_more(&self, path: &str) -> Result<()> {
        let large = large(path);
        let pieces: Vec<Bytes> = (0..LARGE_BYTES >> 20).map(|piece| Bytes::from(vec![piece as u8; 1 << 20])).collect();
        self.write(&large, &pieces).await?;
        let (end, piece) = (LARGE_BYTES as u64, 1 << 20);
        let parts = self.read_ranges(&large, &[end - piece..end, 0..piece], &IoCounters::default()).await?;
        require(
            parts == [pieces[pieces.len() - 1].clone(), pieces[0].clone()],
            "a file in parts is not what was written",
        )?;
        let taken = self.write(&large, &pieces[..1]).await;
        require(taken.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists), "a name can be taken twice")?;
        let stale = Tag::new("\"00000000000000000000000000000000\"");
        let lost = self.put_if(path, Bytes::from_static(b"lost"), Some(&stale)).await;
        require(matches!(lost, Err(PutError::Conflict)), "a change that was not seen is overwritten")?;
        self.delete(&[large]).await
    }

    async fn write(&self, path: &str, pieces: &[Bytes]) -> Result<()> {
        let mut upload = self.create_exclusive(path).await?;
        for piece in pieces {
            upload.write(piece.clone()).await?;
        }
        upload.finish().await
    }
}

fn large(path: &str) -> String {
    format!("{path}-large")
}

fn require(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::io(otherwise)) }
}
