//! `_id`, `_updated` and `_deleted`: their names, their fields, and the only code that makes their values
//! (FR-070 to FR-081). A test reads the source tree and fails where another file spells one of the names.
//!
//! Two sequences live here. Row ids are Snowflake ids: 41 bits of milliseconds since [`SNOWFLAKE_EPOCH_MS`],
//! 10 bits of node, 12 bits of sequence; they grow strictly per node. Commit times are nanoseconds,
//! `max(now, last + 1)`, and grow strictly in commit order. Both run below a **ceiling** that is stored durably
//! before a value under it is used, so that a restart, which begins above the ceiling, never repeats a value even
//! if the clock has stepped back meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ids::{CommitTime, RowId};

/// The row's identity across its versions, BIGINT.
pub const ID: &str = "_id";
/// The commit time of the version, TIMESTAMP in nanoseconds.
pub const UPDATED: &str = "_updated";
/// Whether the version deletes the row, BOOLEAN.
pub const DELETED: &str = "_deleted";
/// `_updated` as BIGINT nanoseconds: a readable alias, never stored.
pub const SEQ: &str = "_seq";
/// The `_updated` of the row's INSERT: hidden, in batch files and hot rows only.
pub const BORN: &str = "_born";
/// Whose a row is, in a read across users.
pub const USER: &str = "_user";

/// Where Snowflake time begins: 2024-01-01 UTC, in milliseconds since 1970. 41 bits last until 2093.
pub const SNOWFLAKE_EPOCH_MS: i64 = 1_704_067_200_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const TICK: i64 = 1 << (NODE_BITS + SEQUENCE_BITS);

/// How far ahead of the clock the durable ceiling of each sequence is set: 10 s. A start after a crash skips at
/// most this much of the id space and of commit time; one after a clean end skips nothing.
pub const CEILING_AHEAD_NS: i64 = 10_000_000_000;
/// How far ahead of the last commit time the ceiling is set at least: 100 ms. Commit times that are ahead of the clock
/// take a nanosecond for each version, so this is plenty, and crash upon crash moves them no further ahead of it.
const COMMITS_AHEAD_NS: i64 = 100_000_000;

/// The durable ceilings: no value at or above one has been used yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// No `_updated` at or above it was assigned.
    pub updated_ns: i64,
    /// No row id whose milliseconds (since 1970) are at or above it was made.
    pub id_ms: i64,
}

/// The one component that makes system columns.
#[derive(Debug)]
pub struct SystemColumns {
    clock: Arc<dyn Clock>,
    node: i64,
    /// The last id without its node bits: milliseconds since the Snowflake epoch << 12 | sequence.
    last_id: AtomicI64,
    last_updated: AtomicI64,
    id_ceiling_ms: AtomicI64,
    updated_ceiling_ns: AtomicI64,
    jump_max_ns: i64,
}

impl SystemColumns {
    /// Starts both sequences above `ceilings`, which the last run left, and with ceilings of their own that
    /// are not reserved yet: call [`Self::reserve`] and store its answer before the first use.
    ///
    /// A clock that stands more than `jump_max_ns` ahead of the last commit is not followed: time then goes on
    /// from the last commit, a nanosecond at a time. Without ceilings, in a new database, the clock is believed.
    pub fn new(clock: Arc<dyn Clock>, node_id: &str, ceilings: Ceilings, jump_max_ns: i64) -> Self {
        let first = if ceilings.updated_ns == 0 { clock.now_ns() } else { ceilings.updated_ns };
        let first_ms = (ceilings.id_ms - SNOWFLAKE_EPOCH_MS).max(0);
        Self {
            clock,
            jump_max_ns,
            node: i64::from(node_number(node_id)),
            last_id: AtomicI64::new((first_ms << SEQUENCE_BITS) - 1),
            last_updated: AtomicI64::new(first - 1),
            id_ceiling_ms: AtomicI64::new(ceilings.id_ms),
            updated_ceiling_ns: AtomicI64::new(ceilings.updated_ns),
        }
    }

    /// If either sequence is within half of what is reserved of its ceiling, the new ceilings to store durably, after
    /// which [`Self::reserved`] must be told. `None` while there is room.
    pub fn reserve(&self) -> Option<Ceilings> {
        let (now_ns, last) = (self.now_ns(), self.last_updated.load(Ordering::SeqCst));
        let wanted = || Ceilings {
            updated_ns: (now_ns + CEILING_AHEAD_NS).max(last + COMMITS_AHEAD_NS),
            id_ms: self.reached_id_ms() + CEILING_AHEAD_NS / 1_000_000,
        };
        (!self.has_left(2)).then(wanted)
    }

    /// Whether there is room for a group below the ceilings as they are.
    pub fn has_room(&self) -> bool {
        self.has_left(4)
    }

    /// Whether one part in so many of what is reserved is left of both sequences.
    fn has_left(&self, part: i64) -> bool {
        let ceiling = self.updated_ceiling_ns.load(Ordering::SeqCst);
        let of_ids_ms = self.id_ceiling_ms.load(Ordering::SeqCst) - self.reached_id_ms();
        ceiling - self.now_ns() >= CEILING_AHEAD_NS / part
            && ceiling - self.last_updated.load(Ordering::SeqCst) >= COMMITS_AHEAD_NS / part
            && of_ids_ms.saturating_mul(1_000_000) >= CEILING_AHEAD_NS / part
    }

    fn reached_id_ms(&self) -> i64 {
        (self.now_ns() / 1_000_000).max(self.last_id_ms())
    }

    /// Gives back what was reserved and not used: no value is assigned afterwards. Returns the ceilings to store durably
    /// as the last thing that this run writes, so that the next one begins where this one ends.
    pub fn give_back(&self) -> Ceilings {
        let updated_ns = self.last_updated.load(Ordering::SeqCst) + 1;
        let id_ms = self.last_id_ms() + 1;
        self.updated_ceiling_ns.store(updated_ns, Ordering::SeqCst);
        self.id_ceiling_ms.store(id_ms, Ordering::SeqCst);
        Ceilings { updated_ns, id_ms }
    }

    /// The ceilings are durable: values below them may be used.
    pub fn reserved(&self, ceilings: Ceilings) {
        self.updated_ceiling_ns.fetch_max(ceilings.updated_ns, Ordering::SeqCst);
        self.id_ceiling_ms.fetch_max(ceilings.id_ms, Ordering::SeqCst);
    }

    /// The clock, unless it has jumped.
    fn now_ns(&self) -> i64 {
        let (now, last) = (self.clock.now_ns(), self.last_updated.load(Ordering::SeqCst));
        if now - last > self.jump_max_ns { last } else { now }
    }

    fn last_id_ms(&self) -> i64 {
        (self.last_id.load(Ordering::SeqCst) >> SEQUENCE_BITS) + SNOWFLAKE_EPOCH_MS
    }

    /// The next row id (FR-072, FR-074): strictly greater than every one before it on this node, whatever the
    /// clock does. When a millisecond's 4096 ids are used up it runs into the next millisecond.
    ///
    /// Fails when the durable ceiling is reached, which the committer raises long before.
    pub fn next_id(&self) -> Result<RowId> {
        self.next_ids(1)
    }

    /// The first of `n` consecutive ids for one statement; [`Self::nth_id`] gives the others.
    pub fn next_ids(&self, n: usize) -> Result<RowId> {
        let n = i64::try_from(n).map_err(|_| Error::too_large("too many ids at once"))?;
        let now = (self.now_ns() / 1_000_000 - SNOWFLAKE_EPOCH_MS).max(0) << SEQUENCE_BITS;
        let mut last = self.last_id.load(Ordering::Relaxed);
        loop {
            let first = now.max(last + 1);
            let end = first + n - 1;
            if (end >> SEQUENCE_BITS) + SNOWFLAKE_EPOCH_MS >= self.id_ceiling_ms.load(Ordering::SeqCst) {
                return Err(Error::overloaded("row ids have reached their reserved ceiling; try again"));
            }
            match self.last_id.compare_exchange_weak(last, end, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Ok(self.compose(first)),
                Err(actual) => last = actual,
            }
        }
    }

    /// The `n`th id after `first`, of those that one call of [`Self::next_ids`] drew.
    pub fn nth_id(first: RowId, n: usize) -> RowId {
        let node = first.0 & (TICK - 1) & !((1 << SEQUENCE_BITS) - 1);
        let counter =
            ((first.0 >> (NODE_BITS + SEQUENCE_BITS)) << SEQUENCE_BITS) | (first.0 & ((1 << SEQUENCE_BITS) - 1));
        let next = counter + n as i64;
        RowId(((next >> SEQUENCE_BITS) << (NODE_BITS + SEQUENCE_BITS)) | node | (next & ((1 << SEQUENCE_BITS) - 1)))
    }

    fn compose(&self, counter: i64) -> RowId {
        let millis = counter >> SEQUENCE_BITS;
        let sequence = counter & ((1 << SEQUENCE_BITS) - 1);
        RowId((millis * TICK) | (self.node << SEQUENCE_BITS) | sequence)
    }

    /// Assigns `n` consecutive commit times and returns the first (FR-013): `max(now, last + 1)`. Called by the
    /// committer only.
    ///
    /// Fails when the durable ceiling is in the way; nothing is assigned then.
    pub fn next_updated(&self, n: u64) -> Result<CommitTime> {
        let last = self.last_updated.load(Ordering::SeqCst);
        let first = self.now_ns().max(last + 1);
        let end = first + i64::try_from(n).unwrap_or(i64::MAX / 2) - 1;
        if end >= self.updated_ceiling_ns.load(Ordering::SeqCst) {
            return Err(Error::overloaded("commit times have reached their reserved ceiling; try again"));
        }
        self.last_updated.store(end, Ordering::SeqCst);
        Ok(CommitTime(first))
    }

    /// The last commit time assigned.
    pub fn last_updated(&self) -> CommitTime {
        CommitTime(self.last_updated.load(Ordering::SeqCst))
    }

    /// Begins above `floor`: a watermark or batch found on disk.
    pub fn observe(&self, floor: CommitTime) {
        self.last_updated.fetch_max(floor.0, Ordering::SeqCst);
    }

    /// Makes later ids greater than this one, which was restored.
    pub fn observe_id(&self, floor: RowId) {
        let counter = ((floor.0 >> (NODE_BITS + SEQUENCE_BITS)) << SEQUENCE_BITS) | ((1 << SEQUENCE_BITS) - 1);
        self.last_id.fetch_max(counter, Ordering::SeqCst);
    }

    /// Whether a name is a system column's, in any case, so that no user column can be mistaken for one.
    pub fn is_system(name: &str) -> bool {
        [ID, UPDATED, DELETED, SEQ, BORN, USER].iter().any(|system| system.eq_ignore_ascii_case(name))
    }

    /// Refuses a write to a system column (FR-075), by name.
    pub fn refuse_write(name: &str) -> Result<()> {
        if Self::is_system(name) {
            return Err(Error::invalid_input(format!(
                "column '{name}' is a system column: the server alone writes {ID}, {UPDATED} and {DELETED}"
            )));
        }
        Ok(())
    }

    /// Refuses a user column that is named like a system column.
    pub fn refuse_name(name: &str) -> Result<()> {
        if Self::is_system(name) {
            return Err(Error::invalid_input(format!(
                "'{name}' cannot name a column: {ID}, {UPDATED}, {DELETED}, {SEQ}, {BORN} and {USER} belong to the server"
            )));
        }
        Ok(())
    }

    /// The field of `_id`.
    pub fn id_field() -> Field {
        Field::new(ID, DataType::Int64, false)
    }

    /// The field of `_updated`.
    pub fn updated_field() -> Field {
        Field::new(UPDATED, DataType::Timestamp(TimeUnit::Nanosecond, None), false)
    }

    /// The field of `_deleted`.
    pub fn deleted_field() -> Field {
        Field::new(DELETED, DataType::Boolean, false)
    }

    /// The field of `_seq`.
    pub fn seq_field() -> Field {
        Field::new(SEQ, DataType::Int64, false)
    }

    /// The field of `_born`.
    pub fn born_field() -> Field {
        Field::new(BORN, DataType::Int64, false)
    }
}

/// The node's 10 bits: FNV-1a of its id, folded.
pub fn node_number(node_id: &str) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in node_id.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let folded = (hash >> NODE_BITS) ^ (hash >> (2 * NODE_BITS)) ^ hash;
    (folded & ((1 << NODE_BITS) - 1)) as u16
}

#[cfg(test)]
mod tests;
