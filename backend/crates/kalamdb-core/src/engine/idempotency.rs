//! Requests with an `Idempotency-Key`: carried out once, however often they arrive.
//!
//! While a request runs its key is claimed in memory, so a second one at the same time is a conflict. Each of its
//! writes carries, **in the same commit**, a record of how far the request has come. When it has ended, the answer
//! itself is stored. A request that arrives again gets that answer; if the server died in between, the record says
//! which writes are done already, and only the rest is carried out. An import remembers in the same way, with each chunk,
//! how many of its rows are in.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashSet;
use kalamdb_auth::impersonation;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::{Error, Result};
use kalamdb_store::keys;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::api::{IdempotencyKey, Replay, Verb};

const KIND: &str = "idempotency";
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The keys that are being carried out.
#[derive(Debug, Default)]
pub(crate) struct Idempotency {
    running: Arc<DashSet<String>>,
}

/// The right to carry out a request; while it is held, the same key is a conflict.
#[derive(Debug)]
pub struct IdempotencyClaim {
    running: Arc<DashSet<String>>,
    name: String,
}

impl Drop for IdempotencyClaim {
    fn drop(&mut self) {
        self.running.remove(&self.name);
    }
}

/// What is stored of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    request: String,
    created_at_ms: i64,
    /// The writes that are committed, in order, with their row counts.
    done: Vec<(String, u64)>,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    status: u16,
    body: String,
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Insert => "insert",
        Verb::Update => "update",
        Verb::Delete => "delete",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A user id has no control characters, so the pair is unambiguous.
fn record_name(actor: &Actor, key: &str) -> String {
    format!("{}\0{key}", actor.user)
}

/// How far a request has come.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    record: Record,
    /// Writes that an earlier attempt committed and this one has not passed yet.
    skip: VecDeque<(String, u64)>,
    /// Writes of the open transaction.
    open: Vec<(String, u64)>,
}

impl Progress {
    /// The row count of the next write, if an earlier attempt committed it.
    pub(crate) fn already_done(&mut self, verb: Verb) -> Option<u64> {
        let (name, rows) = self.skip.front()?;
        if name != verb_name(verb) {
            return None;
        }
        let rows = *rows;
        self.skip.pop_front();
        Some(rows)
    }

    /// The record to commit with a write.
    pub(crate) fn records_after(&self, verb: Verb, rows: u64) -> Result<Vec<(Bytes, Bytes)>> {
        let mut record = self.record.clone();
        record.done.push((verb_name(verb).to_owned(), rows));
        Ok(vec![(keys::system(KIND, &self.name), encode(&record)?)])
    }

    /// A write was committed.
    pub(crate) fn done(&mut self, verb: Verb, rows: u64) {
        self.record.done.push((verb_name(verb).to_owned(), rows));
    }

    /// How many rows of an import are in.
    pub(crate) fn imported(&self) -> u64 {
        self.record.done.first().map_or(0, |(_, rows)| *rows)
    }

    /// The record to commit with a chunk of an import, after which `rows` are in.
    pub(crate) fn records_of_import(&self, rows: u64) -> Result<Vec<(Bytes, Bytes)>> {
        let mut record = self.record.clone();
        record.done = vec![("import".to_owned(), rows)];
        Ok(vec![(keys::system(KIND, &self.name), encode(&record)?)])
    }

    /// A chunk of an import was committed, after which `rows` are in.
    pub(crate) fn has_imported(&mut self, rows: u64) {
        self.record.done = vec![("import".to_owned(), rows)];
    }

    /// A write waits for its transaction's COMMIT.
    pub(crate) fn pending(&mut self, verb: Verb, rows: u64) {
        self.open.push((verb_name(verb).to_owned(), rows));
    }

    /// The record to commit with a transaction.
    pub(crate) fn records_at_commit(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let mut record = self.record.clone();
        record.done.extend(self.open.iter().cloned());
        Ok(vec![(keys::system(KIND, &self.name), encode(&record)?)])
    }

    /// The transaction was committed.
    pub(crate) fn committed(&mut self) {
        self.record.done.append(&mut self.open);
    }

    /// The transaction was rolled back.
    pub(crate) fn rolled_back(&mut self) {
        self.open.clear();
    }
}

fn encode(record: &Record) -> Result<Bytes> {
    let json =
        serde_json::to_vec(record).map_err(|error| Error::internal("an idempotency record").with_source(error))?;
    Ok(json.into())
}

impl Engine {
    /// What is known of a key.
    ///
    /// # Errors
    /// `Conflict` if a request with the key is running, `InvalidInput` if it was used for another request.
    pub async fn idempotent_answer(&self, actor: &Actor, key: &IdempotencyKey) -> Result<Replay> {
        if key.key.is_empty() || key.key.len() > KEY_BYTES_MAX {
            return Err(Error::invalid_input(format!("an Idempotency-Key must have 1 to {KEY_BYTES_MAX} bytes")));
        }
        let name = record_name(actor, &key.key);
        if !self.idempotency.running.insert(name.clone()) {
            return Err(Error::conflict("a request with this Idempotency-Key is being carried out"));
        }
        let claim = IdempotencyClaim { running: self.idempotency.running.clone(), name: name.clone() };
        match self.remembered(&name).await? {
            Some(record) if record.request != hex(&key.request_hash) => Err(Error::invalid_input(
                "this Idempotency-Key was used for another request; use a new key for a new request",
            )),
            Some(Record { answer: Some(answer), .. }) => {
                Ok(Replay::Answer { status: answer.status, body: Bytes::from(answer.body) })
            }
            _ => Ok(Replay::Fresh(claim)),
        }
    }

    /// Keeps the answer of a request that has ended well.
    pub async fn store_answer(&self, actor: &Actor, key: &IdempotencyKey, status: u16, body: &[u8]) -> Result<()> {
        if body.len() > self.settings().limits.idempotency_answer_bytes_max {
            // What was written is remembered all the same, so nothing is carried out twice.
            return Ok(());
        }
        let name = record_name(actor, &key.key);
        let mut record = match self.remembered(&name).await? {
            Some(record) => record,
            None => self.new_record(key),
        };
        record.answer = Some(Answer { status, body: String::from_utf8_lossy(body).into_owned() });
        self.committer().records(vec![(keys::system(KIND, &name), encode(&record)?)], Vec::new()).await
    }

    /// How far an earlier attempt at a request came.
    pub(crate) async fn progress_of(&self, actor: &Actor, key: &IdempotencyKey) -> Result<Progress> {
        let name = record_name(actor, &key.key);
        let record = match self.remembered(&name).await? {
            Some(record) => record,
            None => self.new_record(key),
        };
        Ok(Progress { name, skip: record.done.clone().into(), record, open: Vec::new() })
    }

    fn new_record(&self, key: &IdempotencyKey) -> Record {
        Record { request: hex(&key.request_hash), created_at_ms: self.clock().now_ms(), done: Vec::new(), answer: None }
    }

    async fn remembered(&self, name: &str) -> Result<Option<Record>> {
        let newest = self.committer().readers().newest();
        let Some(value) = newest.snapshot.get(&keys::system(KIND, name)).await? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&value)
            .map_err(|error| Error::corrupt("an idempotency record is damaged").with_source(error))?;
        Ok(Some(record).filter(|record| record.created_at_ms > self.remembered_since_ms()))
    }

    fn remembered_since_ms(&self) -> i64 {
        let kept_ms = self.settings().limits.idempotency_hours.saturating_mul(3_600_000);
        self.clock().now_ms().saturating_sub(i64::try_from(kept_ms).unwrap_or(i64::MAX))
    }

    /// Forgets what was kept of a user's requests, and the answers of accounts that may act for others or read across
    /// users: they may hold the user's rows. What these requests wrote is remembered. Returns how many were forgotten.
    pub(crate) async fn forget_answers_of(&self, user: &UserId) -> Result<u64> {
        let (newest, catalog) = (self.committer().readers().newest(), self.catalog());
        let prefix = keys::system_prefix(KIND);
        let end = keys::prefix_end(&prefix);
        let may_hold = |owner: &str| {
            let account = UserId::new(owner).ok().and_then(|owner| catalog.user(&owner).cloned());
            account.is_none_or(|account| impersonation::may_act_for_others(account.role))
        };
        let (mut next, mut forgotten) = (Some(prefix), 0);
        while let Some(start) = next {
            let page = newest.snapshot.scan(&start, &end, 1_024, 4 << 20).await?;
            let (mut puts, mut deletes) = (Vec::new(), Vec::new());
            for (key, value) in page.entries {
                let (_, name) = keys::system_name_of(&key)?;
                let owner = name.split('\0').next().unwrap_or_default();
                let record = serde_json::from_slice::<Record>(&value).ok();
                if owner == user.as_str() {
                    deletes.push(key);
                } else if let Some(record) = record.filter(|record| record.answer.is_some() && may_hold(owner)) {
                    puts.push((key, encode(&Record { answer: None, ..record })?));
                }
            }
            forgotten += (puts.len() + deletes.len()) as u64;
            if !puts.is_empty() || !deletes.is_empty() {
                self.committer().records(puts, deletes).await?;
            }
            next = page.next;
        }
        Ok(forgotten)
    }

    /// Forgets answers that are older than `limits.idempotency_hours`. Returns how many.
    pub(crate) async fn forget_old_answers(&self) -> Result<usize> {
        let newest = self.committer().readers().newest();
        let prefix = keys::system_prefix(KIND);
        let end = keys::prefix_end(&prefix);
        let since = self.remembered_since_ms();
        let is_old = |value: &Bytes| {
            serde_json::from_slice::<Record>(value).map_or(true, |record| record.created_at_ms <= since)
        };
        let (mut next, mut forgotten) = (Some(prefix), 0);
        while let Some(start) = next {
            let page = newest.snapshot.scan(&start, &end, 1_024, 4 << 20).await?;
            let old: Vec<Bytes> =
                page.entries.into_iter().filter(|(_, value)| is_old(value)).map(|(key, _)| key).collect();
            forgotten += old.len();
            if !old.is_empty() {
                self.committer().records(Vec::new(), old).await?;
            }
            next = page.next;
        }
        Ok(forgotten)
    }
}
