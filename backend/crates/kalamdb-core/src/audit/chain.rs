//! Entries as records of the store, each sealed over its number and the seal before it.
//!
//! A record is a version byte, the seal of the entry before, its own seal, and the entry as JSON. Its key ends in its
//! number, so records are in order. Numbers begin at 1 and are never given twice.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_auth::seal::{SEAL_BYTES, Seal, SealKey};
use kalamdb_commons::{Error, Result};
use kalamdb_store::{Snapshot, keys};

use super::Entry;

const ENTRIES: &str = "audit";
const HEAD: (&str, &str) = ("audit_head", "0");
const CHECKPOINT: (&str, &str) = ("audit_checkpoint", "0");
const FORMAT_VERSION: u8 = 1;
const PAGE_ENTRIES: usize = 1_024;
const PAGE_BYTES: usize = 1 << 20;

/// What a [`Mark`] is: each is sealed for its own purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// The last entry, in the store.
    Head,
    /// The last entry that retention removed.
    Checkpoint,
    /// The last entry some time ago, in a file beside the store.
    Anchor,
}

impl MarkKind {
    fn purpose(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Checkpoint => "checkpoint",
            Self::Anchor => "anchor",
        }
    }
}

/// A place in the chain: the number of an entry and its seal. Number 0 is before the first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) seal: Seal,
}

impl Mark {
    fn seal(&self, key: &SealKey, kind: MarkKind) -> Seal {
        key.seal(kind.purpose(), &[&self.number.to_be_bytes(), &self.seal])
    }

    /// The mark with a seal over it.
    pub(crate) fn encode(&self, key: &SealKey, kind: MarkKind) -> Bytes {
        [&self.number.to_be_bytes()[..], &self.seal, &self.seal(key, kind)].concat().into()
    }

    /// The mark, if the seal over it is right.
    pub(crate) fn decode(bytes: &[u8], key: &SealKey, kind: MarkKind) -> Option<Self> {
        let (number, seals) = bytes.split_first_chunk::<8>()?;
        let (seal, over) = seals.split_first_chunk::<SEAL_BYTES>()?;
        let mark = Self { number: u64::from_be_bytes(*number), seal: *seal };
        (over == mark.seal(key, kind)).then_some(mark)
    }
}

/// A stored entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its number, by its key.
    pub(crate) number: u64,
    /// The seal of the one before, as it says.
    pub(crate) before: Seal,
    /// Its seal.
    pub(crate) seal: Seal,
    body: Bytes,
}

impl Stored {
    pub(crate) fn decode(key: &[u8], value: &Bytes) -> Result<Self> {
        let parse = || {
            let (_, name) = keys::system_name_of(key).ok()?;
            let number = u64::from_str_radix(&name, 16).ok()?;
            let (version, rest) = value.split_first()?;
            let (before, rest) = rest.split_first_chunk::<SEAL_BYTES>()?;
            let (seal, body) = rest.split_first_chunk::<SEAL_BYTES>()?;
            let body = value.slice_ref(body);
            (*version == FORMAT_VERSION).then_some(Self { number, before: *before, seal: *seal, body })
        };
        parse().ok_or_else(|| Error::corrupt("a record of the audit log cannot be read"))
    }

    fn expected_seal(&self, key: &SealKey) -> Seal {
        key.seal("entry", &[&self.number.to_be_bytes(), &self.before, &self.body])
    }

    /// Whether the entry is as it was sealed, at its own number.
    pub(crate) fn is_sealed_by(&self, key: &SealKey) -> bool {
        self.seal == self.expected_seal(key)
    }

    /// What it says.
    pub(crate) fn entry(&self) -> Result<Entry> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::corrupt("an entry of the audit log cannot be read").with_source(error))
    }
}

/// The end of the chain.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    key: Arc<SealKey>,
    last: Mark,
}

impl Chain {
    /// The number of its last entry; 0 if it has none.
    pub(crate) fn number(&self) -> u64 {
        self.last.number
    }

    /// The chain as the store has it.
    pub(crate) async fn load(snapshot: &dyn Snapshot, key: Arc<SealKey>) -> Result<Self> {
        let last = match head(snapshot, &key).await? {
            Some(head) => head,
            // Never so by our own doing. VERIFY AUDIT says what is wrong; here it is enough that no number is
            // given twice.
            None => last_entry(snapshot).await?,
        };
        Ok(Self { key, last })
    }

    /// The same chain as another state of the store has it.
    pub(crate) async fn again(&self, snapshot: &dyn Snapshot) -> Result<Self> {
        Self::load(snapshot, self.key.clone()).await
    }

    /// The record of the next entry.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<(Bytes, Bytes)> {
        let body = serde_json::to_vec(entry)
            .map_err(|error| Error::internal("an entry of the audit log").with_source(error))?;
        let mut stored =
            Stored { number: self.last.number + 1, before: self.last.seal, seal: Seal::default(), body: body.into() };
        stored.seal = stored.expected_seal(&self.key);
        self.last = Mark { number: stored.number, seal: stored.seal };
        let value = [&[FORMAT_VERSION][..], &stored.before, &stored.seal, &stored.body].concat();
        Ok((entry_key(stored.number), value.into()))
    }

    /// The record of the end.
    pub(crate) fn head_record(&self) -> (Bytes, Bytes) {
        (keys::system(HEAD.0, HEAD.1), self.last.encode(&self.key, MarkKind::Head))
    }
}

/// The record of where retention has come to.
pub(crate) fn checkpoint_record(mark: &Mark, key: &SealKey) -> (Bytes, Bytes) {
    (keys::system(CHECKPOINT.0, CHECKPOINT.1), mark.encode(key, MarkKind::Checkpoint))
}

/// The key of an entry.
pub(crate) fn entry_key(number: u64) -> Bytes {
    keys::system(ENTRIES, &format!("{number:016x}"))
}

/// Whether there is a record of a mark at all, and the mark if its seal is right.
async fn mark(
    snapshot: &dyn Snapshot,
    (kind, name): (&str, &str),
    key: &SealKey,
    what: MarkKind,
) -> Result<(bool, Option<Mark>)> {
    let found = snapshot.get(&keys::system(kind, name)).await?;
    let mark = found.as_ref().and_then(|bytes| Mark::decode(bytes, key, what));
    Ok((found.is_some(), mark))
}

/// The end of the chain, if its record is there and rightly sealed.
pub(crate) async fn head(snapshot: &dyn Snapshot, key: &SealKey) -> Result<Option<Mark>> {
    Ok(mark(snapshot, HEAD, key, MarkKind::Head).await?.1)
}

/// Whether anything was ever logged.
pub(crate) async fn has_begun(snapshot: &dyn Snapshot) -> Result<bool> {
    Ok(snapshot.get(&keys::system(HEAD.0, HEAD.1)).await?.is_some())
}

/// Where retention has come to: the mark before the first entry if it has removed nothing, `None` if the record's
/// seal is wrong.
pub(crate) async fn checkpoint(snapshot: &dyn Snapshot, key: &SealKey) -> Result<Option<Mark>> {
    match mark(snapshot, CHECKPOINT, key, MarkKind::Checkpoint).await? {
        (false, _) => Ok(Some(Mark::default())),
        (true, mark) => Ok(mark),
    }
}

async fn last_entry(snapshot: &dyn Snapshot) -> Result<Mark> {
    let mut last = Mark::default();
    let mut pages = Pages::new();
    while let Some(entries) = pages.next(snapshot).await? {
        for (key, value) in entries {
            let stored = Stored::decode(&key, &value)?;
            last = Mark { number: stored.number, seal: stored.seal };
        }
    }
    Ok(last)
}

/// All records of entries, page by page.
pub(crate) struct Pages {
    next: Option<Bytes>,
    end: Bytes,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let prefix = keys::system_prefix(ENTRIES);
        let end = keys::prefix_end(&prefix);
        Self { next: Some(prefix), end }
    }

    /// The next records, keys and values; `None` at the end.
    pub(crate) async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<Vec<(Bytes, Bytes)>>> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let page = snapshot.scan(&start, &self.end, PAGE_ENTRIES, PAGE_BYTES).await?;
        self.next = page.next;
        Ok(Some(page.entries))
    }
}
