//! Tier equivalence: the same history gives the same answers wherever its versions lie. The history, the questions and
//! the changes are written once, in [`crate::equivalence`]; each test only says after which steps the tables are flushed
//! and the engine restarted.

use std::ops::Range;

use kalamdb_commons::ids::Scope;

use crate::db::{Db, texts};
use crate::equivalence::{self, HISTORY};

/// Where versions lie when the questions are asked.
#[derive(Default)]
struct State<'a> {
    /// The steps of the history after which all tables are flushed.
    flushes: &'a [usize],
    /// The steps after which, and after the flush, all tables are compacted.
    compactions: &'a [usize],
    /// Batches of `t` that are compacted before the questions.
    middle: Option<Range<usize>>,
    /// Whether the engine is restarted after each of them.
    restarts: bool,
    /// Whether it is restarted before the questions.
    restarted: bool,
    /// Whether all tables are flushed after each change.
    flush_changes: bool,
    /// Whether they are compacted after each change.
    compact_changes: bool,
}

const LAST: usize = HISTORY.len() - 1;
const EACH: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8];

async fn check(state: State<'_>) {
    let mut db = Db::new().await;
    equivalence::found(&db).await;
    let mut mark = 0;
    for step in 0..HISTORY.len() {
        mark = equivalence::step(&db, step).await.unwrap_or(mark);
        if state.flushes.contains(&step) {
            db.said("STORAGE FLUSH ALL WAIT").await;
            if state.restarts {
                db = db.restart().await;
            }
        }
        if state.compactions.contains(&step) {
            db.said("STORAGE COMPACT ALL WAIT").await;
        }
    }
    if let Some(middle) = state.middle {
        assert!(db.compact_batches("t", &Scope::Shared, middle).await, "there is something to compact");
    }
    if state.restarted {
        db = db.restart().await;
    }
    equivalence::ask(&db, mark).await;
    equivalence::change(&db, state.flush_changes, state.compact_changes).await;
    equivalence::ask_about_changes(&db).await;
    equivalence::end(db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_everything_hot() {
    check(State::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_everything_hot_after_a_restart() {
    check(State { restarted: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_everything_cold_in_one_batch() {
    check(State { flushes: &[LAST], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_everything_cold_after_a_restart() {
    check(State { flushes: &[LAST], restarted: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_the_rows_cold_and_their_changes_hot() {
    check(State { flushes: &[1], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_half_flushed() {
    check(State { flushes: &[4], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_half_flushed_after_a_restart() {
    check(State { flushes: &[4], restarted: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_after_several_flushes_with_changes_between() {
    check(State { flushes: &[1, 3, 5], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_a_flush_after_each_step() {
    check(State { flushes: EACH, flush_changes: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_a_flush_and_a_restart_after_each_step() {
    check(State { flushes: EACH, restarts: true, flush_changes: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_after_a_compaction() {
    check(State { flushes: EACH, compactions: &[LAST], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_after_a_compaction_and_a_restart() {
    check(State { flushes: EACH, compactions: &[LAST], restarted: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_changes_of_compacted_rows_hot() {
    check(State { flushes: &[1, 3, 4], compactions: &[4], ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_when_a_compaction_came_after_changes_that_are_hot() {
    check(State { flushes: &[1, 3, 4], compactions: &[LAST], ..State::default() }).await;
    check(State { flushes: &[1, 3, 4], compactions: &[LAST], restarted: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_between_flush_and_compaction() {
    check(State { flushes: EACH, compactions: &[2, 5], compact_changes: true, ..State::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_a_flush_and_a_compaction_after_each_step() {
    check(State { flushes: EACH, compactions: EACH, flush_changes: true, compact_changes: true, ..State::default() })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_after_a_middle_range_was_compacted() {
    for middle in [1..3, 2..5, 0..4, 3..8] {
        check(State { flushes: EACH, middle: Some(middle.clone()), flush_changes: true, ..State::default() }).await;
        check(State { flushes: EACH, middle: Some(middle), restarted: true, ..State::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_by_key_gives_the_columns_that_a_plan_gives() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    let columns = "id BIGINT PRIMARY KEY, \"Kind\" INT UNIQUE, price DECIMAL(12, 2) NOT NULL DEFAULT 1, name TEXT";
    db.said(&format!("CREATE SHARED TABLE t ({columns}); INSERT INTO t VALUES (1, 7, 2.5, 'one'), (2, 8, 3, NULL)"))
        .await;
    let described = async |sql: String| {
        let rows = db.open(Db::root(), &sql).await;
        let fields = rows.schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone()));
        (fields.collect::<Vec<_>>(), rows.flags.clone(), texts(rows).await.unwrap())
    };
    for _ in 0..2 {
        for list in [
            "*",
            "name, id",
            "name AS n, ID, price AS \"P\"",
            "_id, _updated, _deleted, name",
            "_seq, \"Kind\"",
            "(id)",
        ] {
            for id in [1, 2, 3] {
                let direct = described(format!("SELECT {list} FROM t WHERE id = {id}")).await;
                assert_eq!(direct, described(format!("SELECT {list} FROM t WHERE id + 0 = {id}")).await, "{list}");
            }
        }
        for list in ["nothing", "kind", "id, nothing AS n"] {
            let direct = db.error(&format!("SELECT {list} FROM t WHERE id = 1 LIMIT 1")).await.to_string();
            assert_eq!(direct, db.error(&format!("SELECT {list} FROM t WHERE id = 1")).await.to_string(), "{list}");
        }
        db.flush("t").await;
    }
}
