//! Tier equivalence in the middle of a flush, a compaction or the rebuild of a manifest: it stands still between two of
//! its steps while every question is asked and every change is made, and goes on afterwards.
//!
//! Fail points are the whole process's, so these tests are a program of their own, and each holds the scenario's lock
//! while it runs.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "shared with the engine's suite")]
#[path = "../engine/db.rs"]
mod db;
#[path = "../engine/equivalence.rs"]
mod equivalence;
mod readers;
mod rebuilding;
mod unheard;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fail::FailScenario;

use crate::db::Db;
use crate::equivalence::HISTORY;

/// How long a flush may take to come to a point.
const REACHED_WITHIN: Duration = Duration::from_secs(60);

/// A fail point at which whoever comes waits.
struct Gate {
    reached: Receiver<()>,
    /// How many have come.
    came: Arc<AtomicUsize>,
    /// Dropped to let everybody pass.
    open: SyncSender<()>,
}

impl Gate {
    fn at(point: &str) -> Self {
        let (tell, reached) = sync_channel(1);
        let (open, opened) = sync_channel::<()>(0);
        let opened = Mutex::new(opened);
        let came = Arc::new(AtomicUsize::new(0));
        let count = came.clone();
        let wait = move || {
            count.fetch_add(1, Ordering::SeqCst);
            // The first one is told of; later ones find the channel full, or nobody who listens.
            let _told = tell.try_send(());
            let _opened = opened.lock().unwrap().recv();
        };
        fail::cfg_callback(point, wait).unwrap();
        Self { reached, came, open }
    }

    fn wait_until_reached(&self) {
        tokio::task::block_in_place(|| self.reached.recv_timeout(REACHED_WITHIN)).unwrap();
    }

    fn open(self) {
        drop(self.open);
    }
}

/// With every step of the history in a batch of its own, and a compaction of all of them standing still at the point.
async fn check_compacting(point: &str) {
    let scenario = FailScenario::setup();
    let db = Db::new().await;
    equivalence::found(&db).await;
    let mut mark = 0;
    for step in 0..HISTORY.len() {
        mark = equivalence::step(&db, step).await.unwrap_or(mark);
        db.said("STORAGE FLUSH ALL WAIT").await;
    }
    let gate = Gate::at(point);
    db.said("STORAGE COMPACT TABLE t").await;
    gate.wait_until_reached();
    equivalence::ask(&db, mark).await;
    equivalence::change(&db, false, false).await;
    equivalence::ask_about_changes(&db).await;
    gate.open();
    db.said("STORAGE COMPACT TABLE t WAIT").await;
    equivalence::ask_about_changes(&db).await;
    equivalence::end(db).await;
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_are_the_same_at_every_step_of_a_compaction() {
    for point in [
        "compaction::after_number",
        "compaction::after_mark",
        "compaction::after_batch",
        "compaction::after_manifest",
        "compaction::before_removal",
        "compaction::after_removal",
    ] {
        check_compacting(point).await;
    }
}

/// With the history up to step `flushed` in older batches, and the flush of the rest standing still at the point.
async fn check(point: &str, flushed: Option<usize>) {
    let scenario = FailScenario::setup();
    let db = Db::new().await;
    equivalence::found(&db).await;
    let mut mark = 0;
    for step in 0..HISTORY.len() {
        mark = equivalence::step(&db, step).await.unwrap_or(mark);
        if flushed == Some(step) {
            db.said("STORAGE FLUSH ALL WAIT").await;
        }
    }
    let gate = Gate::at(point);
    db.said("STORAGE FLUSH TABLE t").await;
    gate.wait_until_reached();
    equivalence::ask(&db, mark).await;
    equivalence::change(&db, false, false).await;
    equivalence::ask_about_changes(&db).await;
    gate.open();
    db.said("STORAGE FLUSH TABLE t WAIT").await;
    equivalence::ask_about_changes(&db).await;
    equivalence::end(db).await;
    scenario.teardown();
}

macro_rules! in_the_middle_of_a_flush {
    ($($name:ident: $point:literal,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            check($point, None).await;
            check($point, Some(4)).await;
        }
    )*};
}

in_the_middle_of_a_flush! {
    answers_are_the_same_before_the_batch_is_written: "storage::write",
    answers_are_the_same_before_the_batch_is_durable: "flush::before_batch_sync",
    answers_are_the_same_after_the_batch_is_durable: "flush::after_batch_durable",
    answers_are_the_same_before_the_manifest_is_written: "flush::after_batch",
    answers_are_the_same_before_the_manifest_has_its_name: "manifest::before_rename",
    answers_are_the_same_after_the_manifest_has_its_name: "manifest::after_rename",
    answers_are_the_same_after_the_manifest_is_durable: "manifest::after_durable",
    answers_are_the_same_before_readers_know_of_the_batch: "flush::after_manifest",
    answers_are_the_same_before_hot_rows_are_removed: "flush::before_removal",
}
