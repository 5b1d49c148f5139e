//! Schema changes over both tiers, constraints, concurrent writers, and who sees what.

use std::sync::Arc;

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::Role;
use kalamdb_core::api::OutcomeResult;

use crate::db::{Db, Said};

const NOTHING: [&str; 0] = [];

/// A SHARED table `t` with row 1 in the cold and row 2 in the hot tier.
async fn both_tiers() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, a INT, b TEXT)").await;
    db.count("INSERT INTO t VALUES (1, 10, 'cold')").await;
    db.flush("t").await;
    db.count("INSERT INTO t VALUES (2, 20, 'hot')").await;
    db
}

/// Asserts an answer now, with everything cold, and after a restart.
async fn stays(db: Db, sql: &str, lines: &[&str]) -> Db {
    assert_eq!(db.lines(sql).await, lines, "{sql}");
    db.said("STORAGE FLUSH ALL WAIT").await;
    assert_eq!(db.lines(sql).await, lines, "{sql} after a flush");
    let db = db.restart().await;
    assert_eq!(db.lines(sql).await, lines, "{sql} after a restart");
    db
}

// Columns that come and go.

#[tokio::test(flavor = "multi_thread")]
async fn an_added_columns_default_is_given_to_hot_and_cold_rows() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t ADD COLUMN c INT DEFAULT 7").await;
    db.count("INSERT INTO t (id) VALUES (3)").await;
    stays(db, "SELECT id, c FROM t ORDER BY id", &["1|7", "2|7", "3|7"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_columns_default_stays_though_the_default_changes_later() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t ADD COLUMN c INT DEFAULT 7").await;
    db.said("ALTER TABLE t ALTER COLUMN c SET DEFAULT 8").await;
    db.count("INSERT INTO t (id) VALUES (3)").await;
    db.count("UPDATE t SET a = 0 WHERE id = 1").await;
    stays(db, "SELECT id, c FROM t ORDER BY id", &["1|7", "2|7", "3|8"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_column_without_a_default_is_null_in_old_rows() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t ADD COLUMN c TEXT").await;
    assert_eq!(db.count("UPDATE t SET c = 'x' WHERE c IS NULL AND id = 1").await, 1);
    stays(db, "SELECT id, c FROM t ORDER BY id", &["1|x", "2|NULL"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_old_rows_by_an_added_columns_default() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t ADD COLUMN c INT DEFAULT 7").await;
    let db = stays(db, "SELECT id FROM t WHERE c = 7 ORDER BY id", &["1", "2"]).await;
    assert_eq!(db.lines("SELECT id FROM t WHERE c > 7").await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_dropped_and_added_again_never_shows_old_values() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t DROP COLUMN a").await;
    assert!(db.error("SELECT a FROM t").await.message().contains('a'));
    db.said("ALTER TABLE t ADD COLUMN a INT").await;
    let db = stays(db, "SELECT id, a FROM t ORDER BY id", &["1|NULL", "2|NULL"]).await;
    assert_eq!(db.lines("SELECT id FROM t WHERE a >= 10").await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_keeps_its_values() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t RENAME COLUMN a TO amount").await;
    assert_eq!(db.count("UPDATE t SET amount = amount + 1").await, 2);
    stays(db, "SELECT id, amount FROM t WHERE amount > 10 ORDER BY id", &["1|11", "2|21"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_two_columns_can_be_exchanged() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t RENAME COLUMN a TO c, RENAME COLUMN b TO a, RENAME COLUMN c TO b").await;
    stays(db, "SELECT id, a, b FROM t ORDER BY id", &["1|cold|10", "2|hot|20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_becomes_wider_over_both_tiers() {
    let db = both_tiers().await;
    db.said("ALTER TABLE t MODIFY COLUMN a BIGINT").await;
    db.count("INSERT INTO t VALUES (3, 5000000000, 'wide')").await;
    let db = stays(db, "SELECT id, a FROM t ORDER BY id", &["1|10", "2|20", "3|5000000000"]).await;
    assert_eq!(db.lines("SELECT sum(a) FROM t WHERE a > 10").await, ["5000000020"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_changed_if_every_value_converts() {
    let db = both_tiers().await;
    db.count("UPDATE t SET b = '5'").await;
    db.said("ALTER TABLE t MODIFY COLUMN b INT").await;
    stays(db, "SELECT id, b + 1 FROM t ORDER BY id", &["1|6", "2|6"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_not_changed_if_a_value_does_not_convert_in_either_tier() {
    let db = both_tiers().await;
    for id in [1, 2] {
        db.count("UPDATE t SET b = '5'").await;
        db.count(&format!("UPDATE t SET b = 'five' WHERE id = {id}")).await;
        assert_eq!(db.error("ALTER TABLE t MODIFY COLUMN b INT").await.kind(), ErrorKind::Execution);
        db.flush("t").await;
        assert_eq!(db.error("ALTER TABLE t MODIFY COLUMN b INT").await.kind(), ErrorKind::Execution);
    }
    assert_eq!(db.lines("SELECT b FROM t ORDER BY id").await, ["5", "five"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_column_is_neither_dropped_nor_retyped() {
    let db = both_tiers().await;
    for sql in ["ALTER TABLE t DROP COLUMN id", "ALTER TABLE t MODIFY COLUMN id TEXT"] {
        assert!(db.error(sql).await.message().contains("'id'"), "{sql}");
    }
}

// Constraints.

#[tokio::test(flavor = "multi_thread")]
async fn not_null_is_set_only_if_no_row_of_either_tier_is_null() {
    let db = both_tiers().await;
    for id in [1, 2] {
        db.count(&format!("UPDATE t SET a = NULL WHERE id = {id}")).await;
        assert!(db.error("ALTER TABLE t ALTER COLUMN a SET NOT NULL").await.message().contains("'a'"));
        db.flush("t").await;
        assert!(db.error("ALTER TABLE t ALTER COLUMN a SET NOT NULL").await.message().contains("'a'"));
        db.count(&format!("UPDATE t SET a = 0 WHERE id = {id}")).await;
    }
    db.said("ALTER TABLE t ALTER COLUMN a SET NOT NULL").await;
    for sql in ["INSERT INTO t (id) VALUES (3)", "UPDATE t SET a = NULL WHERE id = 1"] {
        assert!(db.error(sql).await.message().contains("NOT NULL"), "{sql}");
    }
    db.said("ALTER TABLE t ALTER COLUMN a DROP NOT NULL").await;
    assert_eq!(db.count("INSERT INTO t (id) VALUES (3)").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_enforced_on_every_write() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, a INT CHECK (a > 0))").await;
    db.count("INSERT INTO t VALUES (1, 1), (2, NULL)").await;
    for _ in 0..2 {
        for sql in [
            "INSERT INTO t VALUES (3, 3), (4, 0)",
            "UPDATE t SET a = a - 1",
            "INSERT INTO t VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET a = -excluded.a",
            "INSERT INTO t SELECT id + 10, -a FROM t",
        ] {
            let error = db.error(sql).await;
            assert!(error.message().contains("CHECK"), "{sql}: {error}");
        }
        db.flush("t").await;
    }
    stays(db, "SELECT id, a FROM t ORDER BY id", &["1|1", "2|NULL"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_column_is_unique_over_both_tiers_and_null_is_never_equal() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, a INT UNIQUE)").await;
    db.count("INSERT INTO t VALUES (1, 1), (2, 2), (3, NULL), (4, NULL)").await;
    for _ in 0..2 {
        for sql in ["INSERT INTO t VALUES (5, 2)", "UPDATE t SET a = 2 WHERE id = 1", "UPDATE t SET a = 9"] {
            let error = db.error(sql).await;
            assert_eq!(error.kind(), ErrorKind::Execution, "{sql}: {error}");
            assert!(error.message().contains("(a) = ("), "{sql}: {error}");
        }
        db.flush("t").await;
    }
    stays(db, "SELECT id, a FROM t ORDER BY id", &["1|1", "2|2", "3|NULL", "4|NULL"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_row_gave_up_is_free_in_both_tiers() {
    let db = both_tiers().await;
    db.count("UPDATE t SET id = 100 WHERE id = 1").await;
    db.count("INSERT INTO t VALUES (1, 1, 'new')").await;
    let db = stays(db, "SELECT id, b FROM t ORDER BY id", &["1|new", "2|hot", "100|cold"]).await;
    assert_eq!(db.lines("SELECT b FROM t WHERE id = 100").await, ["cold"]);
    assert!(db.error("INSERT INTO t VALUES (100, 1, 'x')").await.message().contains("(id) = (100)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_within_one_update() {
    let db = both_tiers().await;
    for (first, second) in [("cold", "hot"), ("hot", "cold")] {
        let sql = "SELECT b FROM t ORDER BY id";
        assert_eq!(db.lines(sql).await, [first, second]);
        assert_eq!(db.count("UPDATE t SET id = 3 - id").await, 2);
        assert_eq!(db.lines("SELECT b FROM t WHERE id = 1").await, [second]);
        assert_eq!(db.lines("SELECT b FROM t WHERE id = 2").await, [first]);
        db.flush("t").await;
        assert_eq!(db.lines("SELECT b FROM t WHERE id = 1").await, [second]);
        assert_eq!(db.lines("SELECT b FROM t WHERE id = 2").await, [first]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_breaks_a_key_writes_nothing() {
    let db = both_tiers().await;
    assert!(db.error("INSERT INTO t (id) VALUES (5), (6), (1)").await.message().contains("(id) = (1)"));
    assert!(db.error("INSERT INTO t (id) VALUES (5), (6), (5)").await.message().contains("(id) = (5)"));
    assert!(db.error("UPDATE t SET id = 1").await.message().contains("(id) = (1)"));
    stays(db, "SELECT id FROM t ORDER BY id", &["1", "2"]).await;
}

// Views, and tables made from queries.

#[tokio::test(flavor = "multi_thread")]
async fn a_view_reads_both_tiers_and_survives_a_restart() {
    let db = both_tiers().await;
    db.said("CREATE VIEW app.v AS SELECT id, a * 2 AS twice FROM t WHERE a > 0").await;
    db.said("CREATE VIEW app.w AS SELECT max(twice) AS most FROM v").await;
    let db = stays(db, "SELECT id, twice, most FROM v, w ORDER BY id", &["1|20|40", "2|40|40"]).await;
    db.count("UPDATE t SET a = 0 WHERE id = 2").await;
    assert_eq!(db.lines("SELECT id, twice, most FROM v, w").await, ["1|20|20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_view_reads_is_not_dropped_under_it() {
    let db = both_tiers().await;
    db.said("CREATE VIEW app.v AS SELECT a FROM t").await;
    for sql in ["DROP TABLE t", "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t RENAME COLUMN a TO z"] {
        assert!(db.error(sql).await.message().contains("'app.v'"), "{sql}");
    }
    db.said("DROP VIEW v").await;
    db.said("ALTER TABLE t DROP COLUMN a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_from_a_query_holds_its_rows() {
    let db = both_tiers().await;
    db.said("CREATE SHARED TABLE app.made AS SELECT id, upper(b) AS loud, a / 4.0 AS part FROM t").await;
    let db = stays(db, "SELECT id, loud, part FROM made ORDER BY id", &["1|COLD|2.5", "2|HOT|5.0"]).await;
    assert_eq!(db.count("UPDATE made SET loud = 'x' WHERE part > 3").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_from_a_star_has_the_users_columns_only() {
    let db = both_tiers().await;
    db.said("CREATE SHARED TABLE app.made AS SELECT * FROM t").await;
    assert_eq!(db.columns("SELECT * FROM made").await, ["_id", "id", "a", "b", "_updated", "_deleted"]);
    stays(db, "SELECT id, a, b FROM made ORDER BY id", &["1|10|cold", "2|20|hot"]).await;
}

// Lives of a table.

#[tokio::test(flavor = "multi_thread")]
async fn a_table_created_again_shows_nothing_of_the_one_before() {
    let db = both_tiers().await;
    db.said("DROP TABLE t").await;
    assert_eq!(db.error("SELECT * FROM t").await.kind(), ErrorKind::NotFound);
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, a INT, b TEXT)").await;
    assert_eq!(db.lines("SELECT id FROM t WHERE _deleted IS NOT NULL").await, NOTHING);
    db.count("INSERT INTO t VALUES (1, 1, 'new')").await;
    let db = stays(db, "SELECT id, a, b FROM t", &["1|1|new"]).await;
    assert_eq!(db.lines("SELECT b FROM t WHERE id = 2").await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_empties_both_tiers_and_frees_all_keys() {
    let db = both_tiers().await;
    db.said("TRUNCATE TABLE t").await;
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["0"]);
    let db = db.restart().await;
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["0"]);
    assert_eq!(db.count("INSERT INTO t VALUES (1, 1, 'new'), (2, 2, 'newer')").await, 2);
    stays(db, "SELECT id, b FROM t ORDER BY id", &["1|new", "2|newer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_namespace_takes_its_tables_along_only_with_cascade() {
    let db = both_tiers().await;
    db.said("CREATE VIEW app.v AS SELECT a FROM t").await;
    assert!(db.error("DROP NAMESPACE app").await.message().contains("CASCADE"));
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["2"]);
    db.said("DROP NAMESPACE app CASCADE").await;
    db.said("CREATE NAMESPACE app").await;
    for gone in ["t", "v"] {
        assert_eq!(db.error(&format!("SELECT * FROM {gone}")).await.kind(), ErrorKind::NotFound, "{gone}");
    }
    let db = db.restart().await;
    assert_eq!(db.error("SELECT * FROM t").await.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_table_as_it_was_when_it_began() {
    let db = both_tiers().await;
    let rows = db.open(Db::root(), "SELECT id, a, b FROM t ORDER BY id").await;
    db.count("UPDATE t SET a = 0").await;
    db.flush("t").await;
    db.said("ALTER TABLE t DROP COLUMN a").await;
    db.said("DROP TABLE t").await;
    let seen = crate::db::texts(rows).await.unwrap();
    assert_eq!(seen, [["1", "10", "cold"], ["2", "20", "hot"]]);
}

// Writers at once.

#[tokio::test(flavor = "multi_thread")]
async fn fr_100_of_a_hundred_concurrent_increments_none_is_lost() {
    let db = Arc::new(both_tiers().await);
    let increment = |db: Arc<Db>| async move { db.count("UPDATE t SET a = a + 1 WHERE id = 1").await };
    let tasks: Vec<_> = (0..100).map(|_| tokio::spawn(increment(db.clone()))).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 1);
    }
    assert_eq!(db.lines("SELECT a FROM t WHERE id = 1").await, ["110"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_100_concurrent_increments_are_none_lost_while_the_table_is_flushed() {
    let db = Arc::new(both_tiers().await);
    let increment = |db: Arc<Db>| async move { db.count("UPDATE t SET a = a + 1").await };
    let tasks: Vec<_> = (0..60).map(|_| tokio::spawn(increment(db.clone()))).collect();
    for _ in 0..5 {
        db.flush("t").await;
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), 2);
    }
    assert_eq!(db.lines("SELECT a FROM t ORDER BY id").await, ["70", "80"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_inserts_of_one_key_exactly_one_succeeds() {
    let db = Arc::new(both_tiers().await);
    let insert = |db: Arc<Db>, n: i32| async move { db.run(&format!("INSERT INTO t VALUES (7, {n}, 'x')")).await };
    let tasks: Vec<_> = (0..20).map(|n| tokio::spawn(insert(db.clone(), n))).collect();
    let mut inserted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => inserted += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Execution, "{error}"),
        }
    }
    assert_eq!(inserted, 1);
    assert_eq!(db.lines("SELECT count(*) FROM t WHERE id = 7").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_upserts_of_one_key_are_none_lost() {
    let db = Arc::new(both_tiers().await);
    let upsert = |db: Arc<Db>| async move {
        db.count("INSERT INTO t VALUES (7, 1, 'x') ON CONFLICT (id) DO UPDATE SET a = t.a + excluded.a").await
    };
    let tasks: Vec<_> = (0..30).map(|_| tokio::spawn(upsert(db.clone()))).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 1);
    }
    assert_eq!(db.lines("SELECT a FROM t WHERE id = 7").await, ["30"]);
}

/// Runs a transaction up to its COMMIT, then `meanwhile`, then the COMMIT, and returns how that ended.
async fn commit_after(db: &Db, change: &str, meanwhile: &str) -> Option<ErrorKind> {
    let sql = format!("BEGIN; {change}; COMMIT");
    let mut transaction = db.begin(Db::root(), &sql, Vec::new()).await.unwrap();
    for _ in 0..2 {
        assert!(!matches!(transaction.next().await.unwrap().unwrap().result, OutcomeResult::Rows(_)));
    }
    db.said(meanwhile).await;
    transaction.next().await.unwrap().err().map(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_on_one_row_the_first_committer_wins() {
    let db = both_tiers().await;
    for id in [1, 2] {
        let ours = format!("UPDATE t SET b = 'second' WHERE id = {id}");
        let theirs = format!("UPDATE t SET a = a + 1 WHERE id = {id}");
        assert_eq!(commit_after(&db, &ours, &theirs).await, Some(ErrorKind::Conflict));
    }
    stays(db, "SELECT id, a, b FROM t ORDER BY id", &["1|11|cold", "2|21|hot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_that_claim_one_key_the_first_committer_wins() {
    let db = both_tiers().await;
    let ended =
        commit_after(&db, "INSERT INTO t VALUES (7, 2, 'second')", "INSERT INTO t VALUES (7, 1, 'first')").await;
    assert_eq!(ended, Some(ErrorKind::Conflict));
    assert_eq!(db.lines("SELECT b FROM t WHERE id = 7").await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_other_rows_commits_over_a_flush() {
    let db = both_tiers().await;
    assert_eq!(commit_after(&db, "UPDATE t SET a = 0 WHERE id = 1", "UPDATE t SET a = 0 WHERE id = 2").await, None);
    assert_eq!(commit_after(&db, "UPDATE t SET b = 'x' WHERE id = 1", "STORAGE FLUSH TABLE t WAIT").await, None);
    stays(db, "SELECT id, a, b FROM t ORDER BY id", &["1|0|x", "2|0|hot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_table_was_altered_is_refused_whole() {
    let db = both_tiers().await;
    let ended = commit_after(&db, "UPDATE t SET a = 0", "ALTER TABLE t ADD COLUMN c INT").await;
    assert_eq!(ended, Some(ErrorKind::Conflict));
    assert_eq!(db.lines("SELECT a FROM t ORDER BY id").await, ["10", "20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_at_one_moment() {
    let db = both_tiers().await;
    let sql = "BEGIN; SELECT sum(a) FROM t; SELECT sum(a) FROM t; COMMIT";
    let mut transaction = db.begin(Db::root(), sql, Vec::new()).await.unwrap();
    transaction.next().await.unwrap().unwrap();
    for _ in 0..2 {
        let OutcomeResult::Rows(rows) = transaction.next().await.unwrap().unwrap().result else { panic!("no rows") };
        assert_eq!(crate::db::texts(rows).await.unwrap(), [["30"]]);
        db.count("UPDATE t SET a = a + 1").await;
        db.flush("t").await;
    }
}

// Who sees what.

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_and_changes_the_own_partition_only() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, owner TEXT)").await;
    // One is the beginning of another, and keys are the same for all.
    let users = ["a", "al", "ali", "a/b", "A"];
    for user in users {
        let sql = format!("INSERT INTO u VALUES (1, '{user}'), (2, '{user}')");
        db.run_as(Db::user(user), &sql, Vec::new()).await.unwrap();
    }
    let mut db = db;
    for _ in 0..3 {
        for user in users {
            let said = db.run_as(Db::user(user), "UPDATE u SET owner = owner", Vec::new()).await.unwrap();
            assert_eq!(said, [Said::Count(2)], "{user}");
            for sql in ["SELECT owner FROM u", "SELECT owner FROM u WHERE _deleted IS NOT NULL"] {
                assert_eq!(db.lines_as(Db::user(user), sql).await, [user, user], "{sql}");
            }
            assert_eq!(db.lines_as(Db::user(user), "SELECT owner FROM u WHERE id = 1").await, [user]);
        }
        assert_eq!(db.lines_as(Db::user("nobody"), "SELECT * FROM u").await, NOTHING);
        db.flush("u").await;
        db = db.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_row_is_not_found_by_its_id() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE USER TABLE app.u (owner TEXT)").await;
    db.run_as(Db::user("al"), "INSERT INTO u VALUES ('al')", Vec::new()).await.unwrap();
    let id = db.lines_as(Db::user("al"), "SELECT _id FROM u").await.concat();
    for _ in 0..2 {
        let sql = format!("SELECT owner FROM u WHERE _id = {id}");
        assert_eq!(db.lines_as(Db::user("ali"), &sql).await, NOTHING);
        let said = db.run_as(Db::user("ali"), &format!("DELETE FROM u WHERE _id = {id}"), Vec::new()).await.unwrap();
        assert_eq!(said, [Said::Count(0)]);
        assert_eq!(db.lines_as(Db::user("al"), &sql).await, ["al"]);
        db.flush("u").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_table_and_an_absent_one_are_the_same_answer() {
    let db = both_tiers().await;
    let mut said = Vec::new();
    for table in ["t", "absent"] {
        for sql in [format!("SELECT * FROM {table}"), format!("SELECT * FROM {table} WHERE id = 1")] {
            let error = db.run_as(Db::user("al"), &sql, Vec::new()).await.unwrap_err();
            said.push((error.kind(), error.message().to_owned()));
        }
    }
    said.dedup();
    assert_eq!(said, [(ErrorKind::NotFound, "Requested table is not available".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_changes_no_schema() {
    let db = both_tiers().await;
    for role in [Role::User, Role::Service] {
        for sql in ["DROP TABLE app.t", "CREATE SHARED TABLE app.mine (id BIGINT)", "STORAGE FLUSH TABLE app.t"] {
            let error = db.run_as(Db::actor("al", role), sql, Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{sql}");
        }
    }
}
