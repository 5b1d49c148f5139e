//! Locks on unique keys and rows, held from a statement's check to its commit.
//!
//! A statement takes all of its locks at once and in order, so two statements never wait for each other in a circle.
//! Locks on keys keep the check of uniqueness true until the commit is published, so they travel with the write.
//! Locks on rows only keep contended rows from being evaluated in vain: for rows, what decides is the committer's own
//! comparison with the newest state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kalamdb_commons::ids::{PartitionId, RowId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum LockName {
    /// A row.
    Row(PartitionId, RowId),
    /// A value of a unique key.
    Key(PartitionId, u32, Vec<u8>),
}

/// Who waits for a lock that somebody holds.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<oneshot::Sender<Grant>>,
}

/// A lock on its way to a waiter. If the waiter has gone away meanwhile, it goes on to the next.
#[derive(Debug)]
struct Grant(Option<(Arc<Locks>, LockName)>);

impl Grant {
    fn accept(mut self) {
        self.0 = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some((locks, name)) = self.0.take() {
            locks.release(std::slice::from_ref(&name));
        }
    }
}

/// The lock table.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: Mutex<HashMap<LockName, Queue>>,
}

impl Locks {
    /// Takes all of `names`, in order, waiting for each in turn.
    pub(crate) async fn acquire(self: &Arc<Self>, mut names: Vec<LockName>) -> Held {
        names.sort_unstable();
        names.dedup();
        let mut held = Held { locks: self.clone(), names: Vec::with_capacity(names.len()) };
        for name in names {
            while let Some(turn) = self.take_or_wait(&name) {
                // The lock is handed over: its entry stays in the table for the one who is woken.
                if let Ok(grant) = turn.await {
                    grant.accept();
                    break;
                }
            }
            held.names.push(name);
        }
        held
    }

    /// Takes a free lock; else queues up for it.
    fn take_or_wait(&self, name: &LockName) -> Option<oneshot::Receiver<Grant>> {
        let mut table = self.held.lock();
        match table.get_mut(name) {
            None => {
                table.insert(name.clone(), Queue::default());
                None
            }
            Some(queue) => {
                let (sender, receiver) = oneshot::channel();
                queue.waiting.push_back(sender);
                Some(receiver)
            }
        }
    }

    fn release(self: &Arc<Self>, names: &[LockName]) {
        let mut table = self.held.lock();
        for name in names {
            loop {
                let next = table.get_mut(name).and_then(|queue| queue.waiting.pop_front());
                let Some(waiter) = next else {
                    table.remove(name);
                    break;
                };
                match waiter.send(Grant(Some((self.clone(), name.clone())))) {
                    Ok(()) => break,
                    // The table is locked here: the refused grant must not release anything by itself.
                    Err(refused) => refused.accept(),
                }
            }
        }
    }
}

/// Locks that are held until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    locks: Arc<Locks>,
    names: Vec<LockName>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.release(&self.names);
    }
}
