//! Which job begins next: arithmetic over what waits and what runs, without clocks, locks or I/O.
//!
//! A job may begin when its lane has a place, fewer than `parallel_max` of its kind run, none of its kind runs on what
//! it is about, and, off the flush lane, fewer than `table_parallel_max` jobs run on its table. Of those that may, the
//! one begins whose **share** has been served least (start-time fair queueing): a share is the user whose rows a job is
//! about, else its table, else who asked for it. A share is charged one unit when a job of its begins and what the job
//! handled when it ends, divided by the kind's weight; one that comes anew starts level with those that are there, so
//! that nobody saves up by being idle. Between equals the older goes first.
//!
//! Lanes are apart in everything: whatever fills the upkeep lane, running or waiting, flushes are queued and begin.

use std::collections::{BTreeMap, HashMap};

use kalamdb_commons::ids::JobId;

use super::kind::{About, Lane, Target};

/// Rows that are one unit of what a share is charged.
const UNIT_ROWS: u64 = 10_000;
/// Bytes that are.
const UNIT_BYTES: u64 = 1 << 20;
/// How many shares are remembered that have nothing to do at the moment.
const IDLE_SHARES_MAX: usize = 10_000;

/// How much may run and wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) flush_parallel_max: usize,
    pub(super) upkeep_parallel_max: usize,
    pub(super) table_parallel_max: usize,
    /// Jobs that wait in one lane.
    pub(super) waiting_max: usize,
}

/// What the queue knows of a job.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) id: JobId,
    pub(super) about: About,
    pub(super) target: Target,
    pub(super) share: String,
}

/// Why a job cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// As many wait as may.
    Lane(usize),
    /// As many of one share wait as may.
    Share(usize),
}

/// What waits and what runs.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    next: u64,
    waiting: BTreeMap<u64, Ask>,
    running: HashMap<JobId, Ask>,
    served: HashMap<String, f64>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, next: 0, waiting: BTreeMap::new(), running: HashMap::new(), served: HashMap::new() }
    }

    /// Whether one more job of a share may wait. A share may fill half of its lane's queue.
    pub(super) fn room(&self, lane: Lane, share: &str) -> Result<(), Full> {
        let in_lane = || self.waiting.values().filter(|ask| ask.about.lane == lane);
        let (all, own) = (in_lane().count(), in_lane().filter(|ask| ask.share == share).count());
        if all >= self.limits.waiting_max {
            return Err(Full::Lane(all));
        }
        let half = self.limits.waiting_max.div_ceil(2);
        if own >= half && self.limits.waiting_max > 1 { Err(Full::Share(own)) } else { Ok(()) }
    }

    /// Has a job wait.
    pub(super) fn push(&mut self, ask: Ask) {
        let level = self.level();
        let served = self.served.entry(ask.share.clone()).or_insert(level);
        *served = served.max(level);
        self.waiting.insert(self.next, ask);
        self.next += 1;
    }

    /// What the least served share that has something to do has been served.
    fn level(&self) -> f64 {
        let busy = self.waiting.values().chain(self.running.values());
        let least = busy.filter_map(|ask| self.served.get(&ask.share)).copied().reduce(f64::min);
        least.unwrap_or_else(|| self.served.values().copied().fold(0.0, f64::max))
    }

    /// Takes a job out that waits. Says whether it did.
    pub(super) fn withdraw(&mut self, id: &JobId) -> bool {
        let found = self.waiting.iter().find(|(_, ask)| ask.id == *id).map(|(at, _)| *at);
        found.is_some_and(|at| self.waiting.remove(&at).is_some())
    }

    /// The next job that begins, if one may. It runs from now on.
    pub(super) fn begin(&mut self) -> Option<JobId> {
        let may = self.waiting.iter().filter(|(_, ask)| self.may_begin(ask));
        let served = |ask: &Ask| self.served.get(&ask.share).copied().unwrap_or(0.0);
        let at = may.min_by(|(_, one), (_, other)| served(one).total_cmp(&served(other))).map(|(at, _)| *at)?;
        let ask = self.waiting.remove(&at)?;
        self.charge(&ask, 1.0);
        let id = ask.id.clone();
        self.running.insert(id.clone(), ask);
        Some(id)
    }

    fn may_begin(&self, ask: &Ask) -> bool {
        let running = |of: &dyn Fn(&Ask) -> bool| self.running.values().filter(|other| of(other)).count();
        let lane_max = match ask.about.lane {
            Lane::Flush => self.limits.flush_parallel_max,
            Lane::Upkeep => self.limits.upkeep_parallel_max,
        };
        let alike = |other: &Ask| other.about.name == ask.about.name;
        let on_table = |other: &Ask| {
            other.about.lane == Lane::Upkeep
                && ask.target.one_table().is_some()
                && ask.target.one_table() == other.target.one_table()
        };
        running(&|other| other.about.lane == ask.about.lane) < lane_max
            && running(&alike) < ask.about.parallel_max
            && running(&|other| alike(other) && other.target.overlaps(&ask.target)) == 0
            && (ask.about.lane == Lane::Flush || running(&on_table) < self.limits.table_parallel_max)
    }

    /// A job has ended, for now or for good, and has handled so much since it began.
    pub(super) fn end(&mut self, id: &JobId, rows: u64, bytes: u64) {
        let Some(ask) = self.running.remove(id) else { return };
        self.charge(&ask, (rows / UNIT_ROWS) as f64 + (bytes / UNIT_BYTES) as f64);
        if self.served.len() > IDLE_SHARES_MAX {
            let busy: Vec<&str> =
                self.waiting.values().chain(self.running.values()).map(|ask| ask.share.as_str()).collect();
            self.served.retain(|share, _| busy.contains(&share.as_str()));
        }
    }

    fn charge(&mut self, ask: &Ask, units: f64) {
        *self.served.entry(ask.share.clone()).or_insert(0.0) += units / f64::from(ask.about.weight.max(1));
    }

    /// Whether a job of the kind waits or runs that is about the same.
    pub(super) fn has(&self, kind: &str, target: &Target) -> bool {
        let mut all = self.waiting.values().chain(self.running.values());
        all.any(|ask| ask.about.name == kind && ask.target == *target)
    }
}

#[cfg(test)]
mod tests;
