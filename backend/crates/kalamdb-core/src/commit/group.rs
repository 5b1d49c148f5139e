//! One group commit while it is being put together: the batch, what it will mean in memory, and who waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::ids::{CommitTime, Incarnation, PartitionId, RowId};
use kalamdb_commons::system_columns::{Ceilings, SystemColumns};
use kalamdb_commons::{Error, Result};
use kalamdb_store::keys::{self, ChangeEntry, UniqueEntry};
use kalamdb_store::{Batch, rows};
use tokio::sync::oneshot;

use super::change::{Change, Receipt, Refusal, Riders, Seen, Write};
use super::locks::Held;
use super::readers::Published;
use super::{Removal, SchemaChange, Verified};
use crate::audit::chain::Chain;
use crate::catalog::{Catalog, CatalogEdit};
use crate::partition::Partition;
use crate::partition::births;
use crate::partition::overlay::Kill;
use crate::partition::registry::Partitions;

type Done<T> = oneshot::Sender<Result<T, Refusal>>;

/// What a group does to one partition's memory, in commit order.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Versions that replace an older one.
    pub(crate) kills: Vec<Kill>,
    /// Current hot rows more, or fewer.
    pub(crate) rows: i64,
    /// Their bytes.
    pub(crate) bytes: i64,
    /// The first commit of the group in the partition.
    pub(crate) first: Option<CommitTime>,
    /// The last.
    pub(crate) last: Option<CommitTime>,
}

/// A group commit.
pub(crate) struct Group {
    base: Arc<Published>,
    batch: Batch,
    through: CommitTime,
    catalog: Arc<Catalog>,
    edits_catalog: bool,
    ceilings: Option<Ceilings>,
    chain: Chain,
    /// Current rows as this group leaves them: a row may change several times in one group.
    latest: HashMap<(PartitionId, RowId), Bytes>,
    touched: HashMap<PartitionId, (Arc<Partition>, Effects)>,
    writes: Vec<(Receipt, Done<Receipt>)>,
    others: Vec<Done<()>>,
    changes: usize,
    /// The locks of the writes, released when the group has been published and answered.
    held: Vec<Held>,
}

impl Group {
    pub(crate) fn new(base: Arc<Published>, chain: Chain) -> Self {
        Self {
            batch: Batch::default(),
            through: base.through,
            catalog: base.catalog.clone(),
            edits_catalog: false,
            ceilings: None,
            chain,
            latest: HashMap::new(),
            touched: HashMap::new(),
            writes: Vec::new(),
            others: Vec::new(),
            changes: 0,
            held: Vec::new(),
            base,
        }
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Writes of statements in it.
    pub(crate) fn commits(&self) -> u64 {
        self.writes.len() as u64
    }

    pub(crate) fn through(&self) -> CommitTime {
        self.through
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.clone()
    }

    pub(crate) fn edits_catalog(&self) -> bool {
        self.edits_catalog
    }

    pub(crate) fn ceilings(&self) -> Option<Ceilings> {
        self.ceilings
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = Arc<Partition>> {
        self.touched.values().map(|(partition, _)| partition.clone())
    }

    /// The end of the audit log behind this group.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    pub(crate) fn put_ceilings(&mut self, (key, value): (Bytes, Bytes), ceilings: Ceilings) {
        self.batch.put(key, value);
        self.ceilings = Some(ceilings);
    }

    /// Checks a write and adds it, or refuses it and leaves the group as it was.
    pub(crate) async fn stage_write(&mut self, write: Write, system: &SystemColumns, done: Done<Receipt>) {
        match self.try_write(write, system).await {
            Ok(receipt) => self.writes.push((receipt, done)),
            Err(refusal) => drop(done.send(Err(refusal))),
        }
    }

    async fn try_write(&mut self, write: Write, system: &SystemColumns) -> Result<Receipt, Refusal> {
        let current = write.planned_with.iter().all(|planned| {
            self.catalog.table_by_incarnation(planned.incarnation).is_some_and(|table| table.version == planned.version)
        });
        if !current {
            return Err(Refusal::SchemaChanged);
        }
        let replaced = self.newest_of(&write.changes).await?;
        for (change, newest) in write.changes.iter().zip(&replaced) {
            // A row that became cold since the statement looked is looked at again: the change log needs its version.
            let has_become_cold = change.replaces.is_some() && newest.is_none() && change.before.is_none();
            if has_become_cold || !still_as_seen(change, newest.as_ref())? {
                return Err(Refusal::RowsChanged);
            }
        }
        let first = match write.changes.len() {
            0 => self.through,
            n => system.next_updated(n as u64)?,
        };
        self.put_riders(write.riders)?;
        self.held.extend(write.held);
        self.changes += write.changes.len();
        // Keys are freed before any is taken: rows of one statement may exchange them.
        for change in &write.changes {
            let space = change.partition.keys();
            for freed in &change.freed {
                self.batch.delete(keys::unique(space, freed.key, &freed.bytes));
            }
        }
        let open = followed_by_its_own(&write.changes);
        for (n, (change, newest)) in write.changes.into_iter().zip(replaced).enumerate() {
            self.put_change(change, newest, CommitTime(first.0 + n as i64), open[n]);
        }
        Ok(Receipt { first })
    }

    /// The newest hot version of each row that is replaced, writes of this group included.
    async fn newest_of(&self, changes: &[Change]) -> Result<Vec<Option<Bytes>>, Refusal> {
        let mut newest = vec![None; changes.len()];
        let (mut wanted, mut wanted_at) = (Vec::new(), Vec::new());
        for (at, change) in changes.iter().enumerate() {
            if change.replaces.is_none() {
                continue;
            }
            match self.latest.get(&(change.partition.id().clone(), change.row)) {
                Some(value) => newest[at] = Some(value.clone()),
                None => {
                    wanted.push(keys::current(change.partition.keys(), change.row));
                    wanted_at.push(at);
                }
            }
        }
        let found = self.base.snapshot.get_many(&wanted).await.map_err(Error::from)?;
        for (at, value) in wanted_at.into_iter().zip(found) {
            newest[at] = value;
        }
        Ok(newest)
    }

    fn put_change(&mut self, mut change: Change, newest: Option<Bytes>, updated: CommitTime, open: bool) {
        let partition = change.partition.clone();
        let space = partition.keys();
        let born = change.replaces.map_or(updated, |seen| seen.born);
        rows::patch(&mut change.value, updated, born).unwrap_or_else(|_| unreachable!("an encoded row has a header"));
        let previous = change.replaces.map(|seen| seen.updated);
        let entry = ChangeEntry { row_id: change.row, kind: change.kind(), previous, open };
        let key = keys::current(space, change.row);
        if let Some(seen) = change.replaces
            && let Some(old) = newest.clone().or_else(|| cold_version(change.before.take(), seen))
        {
            self.batch.put(keys::superseded(space, change.row, seen.updated), old);
        }
        let holder = UniqueEntry { row_id: change.row, updated }.encode();
        for taken in &change.keys {
            self.batch.put(keys::unique(space, taken.key, &taken.bytes), holder.clone());
        }
        self.batch.put(keys::change(space, updated), entry.encode());
        let value = Bytes::from(change.value);
        let gone = change.deletes && !partition.has_history();
        if gone {
            self.batch.delete(key);
        } else {
            self.batch.put(key, value.clone());
        }
        self.note(&partition, newest.as_ref(), if gone { None } else { Some(value.len()) }, updated);
        if let Some(seen) = change.replaces {
            // Where nothing is cold, nothing cold is replaced.
            if partition.has_history() {
                let kill = Kill { row: change.row, born: seen.born, at: updated };
                self.effects(&partition).kills.push(kill);
            }
            self.latest.insert((partition.id().clone(), change.row), value);
        }
        self.through = updated;
    }

    fn note(&mut self, partition: &Arc<Partition>, old: Option<&Bytes>, new: Option<usize>, at: CommitTime) {
        if !self.touched.contains_key(partition.id())
            && let Some(record) = partition.unwritten_record()
        {
            self.batch.put(keys::partition_record(partition.keys()), record.encode());
        }
        let effects = self.effects(partition);
        effects.rows += i64::from(new.is_some()) - i64::from(old.is_some());
        effects.bytes += new.unwrap_or(0) as i64 - old.map_or(0, Bytes::len) as i64;
        effects.first.get_or_insert(at);
        effects.last = Some(at);
    }

    fn effects(&mut self, partition: &Arc<Partition>) -> &mut Effects {
        if !self.touched.contains_key(partition.id()) {
            self.touched.insert(partition.id().clone(), (partition.clone(), Effects::default()));
        }
        let touched = self.touched.get_mut(partition.id());
        &mut touched.unwrap_or_else(|| unreachable!("it was just put there")).1
    }

    /// Adds a schema change, if it was planned on the catalog that is current now and what was verified for it is
    /// still true.
    pub(crate) async fn stage_catalog(
        &mut self,
        change: SchemaChange,
        partitions: &Partitions,
        system: &SystemColumns,
        done: Done<()>,
    ) {
        if change.edit.next.version() != self.catalog.version() + 1 {
            drop(done.send(Err(Refusal::SchemaChanged)));
            return;
        }
        if change.verified.is_some_and(|verified| self.has_commits_since(&verified, partitions)) {
            drop(done.send(Err(Refusal::RowsChanged)));
            return;
        }
        // A schema change has a commit time of its own: a reader at an earlier one has the earlier catalog.
        match system.next_updated(1) {
            Ok(at) => {
                self.through = at;
                self.note_births(&change.edit, partitions);
            }
            Err(error) => {
                drop(done.send(Err(error.into())));
                return;
            }
        }
        let before = std::mem::replace(&mut self.catalog, change.edit.next);
        if let Some(rows) = change.rows
            && let Err(refusal) = self.try_write(rows, system).await
        {
            self.catalog = before;
            drop(done.send(Err(refusal)));
            return;
        }
        self.edits_catalog = true;
        let riders = Riders { records: change.edit.puts, audit: change.audit };
        self.stage_records(riders, change.edit.deletes, done);
    }

    /// Remembers since when the lives of tables last that an edit begins: a cursor from before is of another life.
    fn note_births(&mut self, edit: &CatalogEdit, partitions: &Partitions) {
        let lives = edit.affected.iter().filter_map(|name| edit.next.table(name)).map(|table| table.incarnation);
        // A life may have been drawn long ago, as a restore does: it begins when its table is there.
        let begun: Vec<Incarnation> = lives.filter(|life| self.catalog.table_by_incarnation(*life).is_none()).collect();
        for life in begun {
            let (key, value) = births::record(life, self.through);
            self.batch.put(key, value);
            partitions.births().note(life, self.through);
        }
    }

    fn has_commits_since(&self, verified: &Verified, partitions: &Partitions) -> bool {
        let among = |incarnation| verified.incarnations.contains(&incarnation);
        self.touched.keys().any(|id| among(id.incarnation))
            || verified
                .incarnations
                .iter()
                .flat_map(|incarnation| partitions.of(*incarnation))
                .any(|partition| partition.hot().last > verified.at)
    }

    /// Adds system records and entries of the audit log.
    pub(crate) fn stage_records(&mut self, riders: Riders, deletes: Vec<Bytes>, done: Done<()>) {
        if let Err(error) = self.put_riders(riders) {
            drop(done.send(Err(error.into())));
            return;
        }
        for key in deletes {
            self.batch.delete(key);
        }
        self.others.push(done);
    }

    fn put_riders(&mut self, riders: Riders) -> Result<()> {
        if !riders.audit.is_empty() {
            let mut chain = self.chain.clone();
            let entries = riders.audit.iter().map(|entry| chain.append(entry)).collect::<Result<Vec<_>>>()?;
            for (key, value) in entries.into_iter().chain([chain.head_record()]) {
                self.batch.put(key, value);
            }
            self.chain = chain;
        }
        for (key, value) in riders.records {
            self.batch.put(key, value);
        }
        Ok(())
    }

    /// Adds the removal of hot entries, of those that are still garbage in the newest state. A removal is alone in
    /// its group, so that the newest state is the published one.
    pub(crate) async fn stage_removal(&mut self, removal: Removal, done: Done<()>) {
        match self.try_removal(removal).await {
            Ok(()) => self.others.push(done),
            Err(error) => drop(done.send(Err(error.into()))),
        }
    }

    async fn try_removal(&mut self, removal: Removal) -> Result<()> {
        let values = self.base.snapshot.get_many(&removal.keys).await?;
        let row_prefix = keys::current_prefix(removal.partition.keys());
        for (key, value) in removal.keys.into_iter().zip(values) {
            let Some(value) = value else { continue };
            if key.starts_with(&row_prefix) {
                if rows::header(&value)?.updated > removal.flushed_through {
                    continue;
                }
                let effects = self.effects(&removal.partition);
                effects.rows -= 1;
                effects.bytes -= value.len() as i64;
            } else if UniqueEntry::decode(&value)?.updated > removal.flushed_through {
                continue;
            }
            self.batch.delete(key);
        }
        Ok(())
    }

    /// Tells the partitions what was committed.
    pub(crate) fn apply_to_partitions(&mut self) {
        for (partition, effects) in self.touched.values_mut() {
            partition.committed(std::mem::take(effects));
        }
    }

    /// Answers everybody: it is durable and published.
    pub(crate) fn answer_all(self) {
        for (receipt, done) in self.writes {
            drop(done.send(Ok(receipt)));
        }
        for done in self.others {
            drop(done.send(Ok(())));
        }
    }

    /// Tells everybody that it failed.
    pub(crate) fn fail_all(self, error: &Error) {
        let again = || Refusal::Failed(Error::new(error.kind(), error.message().to_owned()));
        for (_, done) in self.writes {
            drop(done.send(Err(again())));
        }
        for done in self.others {
            drop(done.send(Err(again())));
        }
    }
}

/// For each change of a commit, whether another one of the commit follows in the same partition.
fn followed_by_its_own(changes: &[Change]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let mut open: Vec<bool> = changes.iter().rev().map(|change| !seen.insert(change.partition.id())).collect();
    open.reverse();
    open
}

/// The replaced version of a cold row, as the change log keeps it.
fn cold_version(encoded: Option<Vec<u8>>, seen: Seen) -> Option<Bytes> {
    let mut value = encoded?;
    rows::patch(&mut value, seen.updated, seen.born).unwrap_or_else(|_| unreachable!("an encoded row has a header"));
    Some(value.into())
}

/// Whether the row is still the version that the statement saw. No hot version means that it is cold and
/// unchanged: the removal of hot entries waits for every statement that began before their watermark.
fn still_as_seen(change: &Change, newest: Option<&Bytes>) -> Result<bool> {
    let Some(seen) = change.replaces else { return Ok(true) };
    let Some(newest) = newest else { return Ok(change.partition.has_history()) };
    Ok(rows::header(newest)?.updated == seen.updated)
}
