//! One row's life, from INSERT to history and back.

use crate::db::{Db, Said};

async fn table(options: &str) -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said(&format!("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT, n INT DEFAULT 7) {options}")).await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_written_flushed_corrected_and_read_as_one() {
    let db = table("").await;
    assert_eq!(db.count("INSERT INTO app.t (id, name) VALUES (1, 'one'), (2, 'two'), (3, 'three')").await, 3);
    assert_eq!(db.lines("SELECT id, name, n FROM app.t ORDER BY id").await, ["1|one|7", "2|two|7", "3|three|7"]);
    db.flush("app.t").await;
    assert_eq!(db.lines("SELECT id, name, n FROM app.t ORDER BY id").await, ["1|one|7", "2|two|7", "3|three|7"]);
    assert_eq!(db.count("UPDATE app.t SET name = 'TWO', n = n + 1 WHERE id = 2").await, 1);
    assert_eq!(db.count("DELETE FROM app.t WHERE name = 'three'").await, 1);
    let after = ["1|one|7", "2|TWO|8"];
    assert_eq!(db.lines("SELECT id, name, n FROM app.t ORDER BY id").await, after);
    assert_eq!(db.lines("SELECT count(*) FROM app.t").await, ["2"]);
    db.flush("app.t").await;
    assert_eq!(db.lines("SELECT id, name, n FROM app.t ORDER BY id").await, after);
    assert_eq!(db.lines("SELECT count(*) FROM app.t").await, ["2"]);
    let db = db.restart().await;
    assert_eq!(db.lines("SELECT id, name, n FROM app.t ORDER BY id").await, after);
    assert_eq!(db.lines("SELECT name FROM app.t WHERE id = 2").await, ["TWO"]);
    assert_eq!(db.lines("SELECT name FROM app.t WHERE id = 3").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_unique_over_both_tiers() {
    let db = table("").await;
    db.said("INSERT INTO app.t (id, name) VALUES (1, 'one')").await;
    assert!(db.error("INSERT INTO app.t (id, name) VALUES (1, 'again')").await.message().contains("(id) = (1)"));
    db.flush("app.t").await;
    assert!(db.error("INSERT INTO app.t (id, name) VALUES (1, 'again')").await.message().contains("(id) = (1)"));
    db.said("DELETE FROM app.t WHERE id = 1").await;
    db.said("INSERT INTO app.t (id, name) VALUES (1, 'new')").await;
    assert_eq!(db.lines("SELECT name FROM app.t WHERE id = 1").await, ["new"]);
    db.flush("app.t").await;
    assert_eq!(db.lines("SELECT name FROM app.t WHERE id = 1").await, ["new"]);
    assert!(db.error("INSERT INTO app.t (id) VALUES (1)").await.message().contains("already exists"));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_conflict_updates_or_leaves_the_row_that_is_there() {
    let db = table("").await;
    db.said("INSERT INTO app.t VALUES (1, 'one', 1)").await;
    for round in 0..2 {
        let sql =
            "INSERT INTO app.t VALUES (1, 'x', 5) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n RETURNING n";
        assert_eq!(db.lines(sql).await, [(6 + 5 * round).to_string()]);
        assert_eq!(db.count("INSERT INTO app.t VALUES (1, 'x', 5) ON CONFLICT DO NOTHING").await, 0);
        db.flush("app.t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_atomic_and_sees_its_own_writes() {
    let db = table("").await;
    db.said("INSERT INTO app.t VALUES (1, 'one', 1)").await;
    db.flush("app.t").await;
    let said = db
        .run(
            "BEGIN; UPDATE app.t SET n = 2 WHERE id = 1; INSERT INTO app.t VALUES (2, 'two', 2);
             SELECT id, n FROM app.t ORDER BY id; DELETE FROM app.t WHERE id = 2; COMMIT",
        )
        .await
        .unwrap();
    let seen = vec![vec!["1".to_owned(), "2".to_owned()], vec!["2".to_owned(), "2".to_owned()]];
    assert_eq!(said[3], Said::Rows(seen));
    assert_eq!(db.lines("SELECT id, n FROM app.t ORDER BY id").await, ["1|2"]);
    db.error("BEGIN; UPDATE app.t SET n = 3; SELECT 1 / 0").await;
    assert_eq!(db.lines("SELECT id, n FROM app.t ORDER BY id").await, ["1|2"]);
    assert!(db.error("BEGIN; UPDATE app.t SET n = 3").await.message().contains("rolled back"));
    assert_eq!(db.lines("SELECT id, n FROM app.t ORDER BY id").await, ["1|2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_show_only_to_who_asks_for_them() {
    let db = table("").await;
    db.said("INSERT INTO app.t VALUES (1, 'one', 1), (2, 'two', 2)").await;
    db.said("DELETE FROM app.t WHERE id = 1").await;
    for _ in 0..2 {
        assert_eq!(db.lines("SELECT id FROM app.t").await, ["2"]);
        assert_eq!(db.lines("SELECT id, name, _deleted FROM app.t WHERE _deleted").await, ["1|one|true"]);
        assert_eq!(db.count("UPDATE app.t SET n = 9 WHERE _deleted").await, 0);
        db.flush("app.t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_named_by_typed_literals() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.d (day DATE, at TIMESTAMP, n INT, PRIMARY KEY (day, at))").await;
    db.said(
        "INSERT INTO app.d VALUES ('2024-02-29', '2024-02-29 05:00:00', 1), ('2024-03-01', '2024-03-01 05:00:00', 2)",
    )
    .await;
    for _ in ["hot", "cold"] {
        let key = "day = DATE '2024-02-29' AND at = TIMESTAMP '2024-02-29 05:00:00'";
        assert_eq!(db.lines(&format!("SELECT n FROM app.d WHERE {key}")).await, ["1"]);
        assert_eq!(db.lines(&format!("SELECT n FROM app.d WHERE {key} AND n = 2")).await, Vec::<String>::new());
        assert_eq!(db.count(&format!("UPDATE app.d SET n = n WHERE ({key})")).await, 1);
        // A literal of another type than the column's is compared as the planner compares them.
        let mixed = "day = TIMESTAMP '2024-02-29 00:00:00' AND at = TIMESTAMP '2024-02-29 05:00:00'";
        assert_eq!(db.lines(&format!("SELECT n FROM app.d WHERE {mixed}")).await, ["1"]);
        let other = "day = TIMESTAMP '2024-02-29 05:00:00' AND at = TIMESTAMP '2024-02-29 05:00:00'";
        assert_eq!(db.lines(&format!("SELECT n FROM app.d WHERE {other}")).await, Vec::<String>::new());
        db.flush("app.d").await;
    }
}
