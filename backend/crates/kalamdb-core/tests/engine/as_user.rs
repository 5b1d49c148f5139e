//! AS USER (FR-062 to FR-069): a statement on somebody's behalf is the subject's own, in every path, or refused.

use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_core::api::{OutcomeResult, Param};

use crate::db::{Db, Said, texts};

const NOT_ALLOWED: &str = "Permission denied: AS USER requires service/admin role";
const INVALID: &str = "Invalid user_id for AS USER operation";
const NOT_ON_SHARED: &str = "AS USER clause not supported for Shared tables";

/// A USER table `t` and a STREAM table `s`, a SHARED one `open`, and accounts.
async fn world() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    let columns = "(id BIGINT PRIMARY KEY, word TEXT, owner TEXT DEFAULT CURRENT_USER())";
    db.said(&format!("CREATE USER TABLE app.t {columns}; CREATE STREAM TABLE app.s {columns} TTL 3600")).await;
    db.said(&format!("CREATE SHARED TABLE app.open {columns} WITH (ACCESS_LEVEL = 'public')")).await;
    db.said(&format!("CREATE SHARED TABLE app.vault {columns} WITH (ACCESS_LEVEL = 'restricted')")).await;
    for (user, role) in [("ann", "user"), ("ben", "user"), ("bot", "service"), ("adm", "dba"), ("gone", "user")] {
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'long enough' ROLE '{role}'")).await;
    }
    db.said("DROP USER 'gone'").await;
    db
}

fn bot() -> Actor {
    Db::actor("bot", Role::Service)
}

async fn told(db: &Db, actor: Actor, sql: &str) -> (ErrorKind, String) {
    let error: Error = db.run_as(actor, sql, Vec::new()).await.expect_err(sql);
    (error.kind(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_062_insert_writes_the_subjects_rows() {
    let db = world().await;
    for table in ["t", "s"] {
        let insert = format!("INSERT INTO {table} AS USER 'ann' (id, word) VALUES (1, 'x'), (2, CURRENT_USER())");
        assert_eq!(db.run_as(bot(), &insert, vec![]).await.unwrap(), [Said::Count(2)]);
        let all = format!("SELECT id, word, owner FROM {table} ORDER BY id");
        assert_eq!(db.lines_as(Db::user("ann"), &all).await, ["1|x|ann", "2|ann|ann"]);
        assert_eq!(db.lines_as(bot(), &all).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_063_fr_064_update_and_delete_change_the_subjects_rows_in_both_tiers() {
    let db = world().await;
    for user in ["ann", "ben", "bot"] {
        db.said(&format!("INSERT INTO t AS USER '{user}' (id, word) VALUES (1, 'a'), (2, 'b'), (3, 'c')")).await;
    }
    for round in 0..2 {
        // By key, and by a query.
        let sql = format!("UPDATE t AS USER 'ann' SET word = 'k{round}' WHERE id = 1");
        assert_eq!(db.run_as(bot(), &sql, vec![]).await.unwrap(), [Said::Count(1)]);
        let sql =
            format!("UPDATE t AS USER 'ann' x SET word = 'q{round}', owner = DEFAULT WHERE x.word LIKE '%' AND id > 1");
        assert_eq!(db.run_as(bot(), &sql, vec![]).await.unwrap(), [Said::Count(2 - round)]);
        let sql = format!("DELETE FROM t AS USER 'ann' WHERE id = {}", 3 - round);
        assert_eq!(db.run_as(bot(), &sql, vec![]).await.unwrap(), [Said::Count(1)]);
        db.flush("t").await;
    }
    assert_eq!(db.lines_as(Db::user("ann"), "SELECT id, word, owner FROM t").await, ["1|k1|ann"]);
    for other in [Db::user("ben"), bot()] {
        assert_eq!(db.lines_as(other, "SELECT id, word FROM t ORDER BY id").await, ["1|a", "2|b", "3|c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_065_only_service_and_above_may_act_for_others() {
    let db = world().await;
    for sql in [
        "INSERT INTO t AS USER 'ben' (id) VALUES (1)",
        "UPDATE t AS USER 'ben' SET word = 'x'",
        "DELETE FROM t AS USER 'ben'",
        "EXECUTE AS USER 'ben' (SELECT * FROM t)",
        "EXECUTE AS USER 'nobody' (SELECT * FROM absent)",
        "EXECUTE AS USER 'gone' (DROP TABLE t)",
        "EXECUTE AS USER 'root' (SELECT * FROM vault)",
        "EXECUTE AS USER '' (SELECT 1)",
    ] {
        let found = told(&db, Db::user("ann"), sql).await;
        assert_eq!(found, (ErrorKind::PermissionDenied, NOT_ALLOWED.to_owned()), "{sql}");
    }
    let above = told(&db, bot(), "EXECUTE AS USER 'adm' (SELECT * FROM t)").await;
    assert_eq!(above.0, ErrorKind::PermissionDenied);
    // Oneself, by everybody.
    db.run_as(Db::user("ann"), "INSERT INTO t AS USER 'ann' (id) VALUES (1)", vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_066_the_subject_must_exist_and_be_active() {
    let db = world().await;
    for name in ["nobody", "gone", "ANN", "ann ", "аnn", "", "../ann", "ann\u{0}"] {
        let sql = format!("INSERT INTO t AS USER '{name}' (id) VALUES (1)");
        assert_eq!(told(&db, bot(), &sql).await, (ErrorKind::InvalidInput, INVALID.to_owned()), "{name:?}");
    }
    let long = format!("EXECUTE AS USER '{}' (SELECT 1)", "x".repeat(300));
    assert_eq!(told(&db, bot(), &long).await.1, INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_067_every_path_is_the_subjects() {
    let db = world().await;
    db.said("INSERT INTO t AS USER 'ann' (id, word) VALUES (1, 'a'), (2, 'b')").await;
    db.said("INSERT INTO t AS USER 'bot' (id, word) VALUES (1, 'bot''s')").await;
    for _tier in 0..2 {
        for (sql, expected) in [
            ("SELECT word FROM t WHERE id = 1", vec!["a"]),
            ("SELECT word FROM t WHERE id > 0 ORDER BY id", vec!["a", "b"]),
            ("SELECT count(*) FROM t", vec!["2"]),
            ("SELECT (SELECT max(word) FROM t)", vec!["b"]),
            ("WITH x AS (SELECT * FROM t) SELECT a.word FROM x a JOIN t b ON a.id = b.id ORDER BY 1", vec!["a", "b"]),
            ("SELECT CURRENT_USER()", vec!["ann"]),
            ("SELECT id FROM t WHERE owner = CURRENT_USER() AND id = 2", vec!["2"]),
        ] {
            assert_eq!(db.lines_as(bot(), &format!("EXECUTE AS USER 'ann' ({sql})")).await, expected, "{sql}");
        }
        let explained = "EXECUTE AS USER 'ann' (EXPLAIN SELECT word FROM t)";
        assert!(db.lines_as(bot(), explained).await.concat().contains("TableScan: t"));
        db.flush("t").await;
    }
    // INSERT ... SELECT, a subquery in SET, and a conflict, all on the subject's rows.
    let sql = "INSERT INTO s AS USER 'ann' (id, word) SELECT id, word FROM t RETURNING word, owner";
    assert_eq!(db.lines_as(bot(), sql).await, ["a|ann", "b|ann"]);
    db.run_as(bot(), "UPDATE t AS USER 'ann' SET word = (SELECT max(word) FROM s) WHERE id = 1", vec![]).await.unwrap();
    let sql = "INSERT INTO t AS USER 'ann' (id, word) VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET word = t.word || excluded.word RETURNING word";
    assert_eq!(db.lines_as(bot(), sql).await, ["bz"]);
    let taken = told(&db, bot(), "INSERT INTO t AS USER 'ann' (id) VALUES (2)").await;
    assert!(taken.1.contains("(id) = (2)"), "{taken:?}");
    assert_eq!(db.lines_as(bot(), "SELECT word FROM t").await, ["bot's"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_069_shared_tables_refuse_it() {
    let db = world().await;
    for sql in [
        "INSERT INTO open AS USER 'ann' (id) VALUES (1)",
        "UPDATE open AS USER 'ann' SET word = 'x'",
        "DELETE FROM open AS USER 'ann'",
        "EXECUTE AS USER 'ann' (SELECT * FROM open)",
        "EXECUTE AS USER 'ann' (SELECT * FROM t JOIN open ON t.id = open.id)",
        "EXECUTE AS USER 'ann' (SELECT word FROM open WHERE id = 1)",
        "EXECUTE AS USER 'ann' (INSERT INTO t (id) SELECT id FROM open)",
    ] {
        assert_eq!(told(&db, bot(), sql).await, (ErrorKind::InvalidInput, NOT_ON_SHARED.to_owned()), "{sql}");
    }
    // One that the actor may not see does not exist.
    let hidden = told(&db, bot(), "EXECUTE AS USER 'ann' (SELECT * FROM vault)").await;
    assert_eq!(hidden, told(&db, bot(), "EXECUTE AS USER 'ann' (SELECT * FROM never)").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_name_the_subject_and_the_values() {
    let db = world().await;
    let text = |text: &str| Param::Text(text.to_owned());
    let sql =
        "INSERT INTO t AS USER $2 (id, word) VALUES (1, $1); EXECUTE AS USER $2 (SELECT word FROM t WHERE word = $1)";
    let said = db.run_as(bot(), sql, vec![text("w"), text("ann")]).await.unwrap();
    assert_eq!(said[1], Said::Rows(vec![vec!["w".to_owned()]]));
    for subject in [Param::Null, Param::Boolean(true), Param::Number(1.into())] {
        let error = db.run_as(bot(), "EXECUTE AS USER $1 (SELECT 1)", vec![subject]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    }
    let injected = vec![text("ann' (SELECT 1) --")];
    let error = db.run_as(bot(), "EXECUTE AS USER $1 (SELECT 1)", injected).await.unwrap_err();
    assert_eq!(error.message(), INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_writes_for_several_subjects_or_for_none() {
    let db = world().await;
    let both = "INSERT INTO t AS USER 'ann' (id, word) VALUES (1, 'a'); INSERT INTO t AS USER 'ben' (id, word) VALUES (1, 'b');
                EXECUTE AS USER 'ann' (SELECT word FROM t); INSERT INTO t (id, word) VALUES (1, 'own')";
    let said = db.run_as(bot(), &format!("BEGIN; {both}; COMMIT"), vec![]).await.unwrap();
    assert_eq!(said[3], Said::Rows(vec![vec!["a".to_owned()]]));
    let word = |user: &str| db.lines_as(Db::actor(user, Role::Service), "SELECT word FROM t");
    assert_eq!(
        (word("ann").await, word("ben").await, word("bot").await),
        (vec!["a".to_owned()], vec!["b".to_owned()], vec!["own".to_owned()])
    );
    // A key that one of them holds already ends all of it, at the statement and at COMMIT alike.
    let update = "BEGIN; UPDATE t AS USER 'ann' SET word = 'lost'; INSERT INTO t AS USER 'ben' (id) VALUES (1); COMMIT";
    assert!(told(&db, bot(), update).await.1.contains("already exists"));
    let refused = "BEGIN; UPDATE t AS USER 'ann' SET word = 'lost'; DELETE FROM t AS USER 'gone'; COMMIT";
    assert_eq!(told(&db, bot(), refused).await.1, INVALID);
    assert_eq!(word("ann").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_keys_are_checked_in_each_subjects_partition() {
    let db = world().await;
    db.said("INSERT INTO t AS USER 'ann' (id) VALUES (7)").await;
    // The key 7 is free for ben, and stays so until COMMIT, where somebody else has taken it.
    let sql = "BEGIN; INSERT INTO t AS USER 'ben' (id) VALUES (7); SELECT 1; COMMIT";
    let mut execution = db.begin(bot(), sql, vec![]).await.unwrap();
    for _ in 0..3 {
        execution.next().await.unwrap().unwrap();
    }
    db.said("INSERT INTO t AS USER 'ben' (id) VALUES (7)").await;
    assert_eq!(execution.next().await.unwrap().err().unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(db.lines_as(Db::user("ben"), "SELECT count(*) FROM t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_request_can_run_as_the_subject() {
    let db = world().await;
    let sql = "BEGIN; INSERT INTO t (id) VALUES (1); COMMIT; SELECT owner, CURRENT_USER() FROM t";
    let said = db.run_for(bot(), Some("ann"), sql).await.unwrap();
    assert_eq!(said[3], Said::Rows(vec![vec!["ann".to_owned(), "ann".to_owned()]]));
    let again = db.run_for(bot(), Some("ann"), "DELETE FROM t AS USER 'ben'").await.unwrap_err();
    assert!(again.message().contains("the whole request runs AS USER"), "{again}");
    for (actor, subject, words) in
        [(Db::user("ann"), "ben", NOT_ALLOWED), (bot(), "gone", INVALID), (bot(), "", INVALID)]
    {
        let error = db.run_for(actor, Some(subject), "SELECT * FROM t").await.unwrap_err();
        assert_eq!(error.message(), words);
    }
    assert_eq!(db.run_for(bot(), Some("ann"), "SELECT * FROM open").await.unwrap_err().message(), NOT_ON_SHARED);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gains_a_right_by_it() {
    let db = world().await;
    for sql in [
        "EXECUTE AS USER 'ann' (CREATE NAMESPACE x)",
        "EXECUTE AS USER 'ann' (SELECT * FROM ALL USERS OF t)",
        "EXECUTE AS USER 'ann' (ALTER USER 'ann' SET ROLE 'dba')",
        "EXECUTE AS USER 'ann' (STORAGE FLUSH ALL)",
        "EXECUTE AS USER 'ann' (SHOW ALL)",
    ] {
        for actor in [bot(), Db::actor("adm", Role::Dba), Db::root()] {
            assert_eq!(told(&db, actor, sql).await.0, ErrorKind::PermissionDenied, "{sql}");
        }
    }
    let hidden = told(&db, Db::actor("adm", Role::Dba), "EXECUTE AS USER 'ann' (SELECT * FROM system.users)").await;
    assert_eq!(hidden.0, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_says_who_the_subject_was() {
    let db = world().await;
    let sql = "INSERT INTO t AS USER 'ann' (id) VALUES (1); SELECT 1; EXECUTE AS USER 'ben' (SELECT 1)";
    let mut execution = db.begin(bot(), sql, vec![]).await.unwrap();
    let mut subjects = Vec::new();
    while let Some(outcome) = execution.next().await {
        let outcome = outcome.unwrap();
        subjects.push(outcome.as_user.to_string());
        if let OutcomeResult::Rows(rows) = outcome.result {
            texts(rows).await.unwrap();
        }
    }
    assert_eq!(subjects, ["ann", "bot", "ben"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_can_be_the_subjects() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    let db = world().await;
    let import = db.import(bot(), Some("ann"), "app.t").await.unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    import.write(&RecordBatch::try_from_iter([("id", ids)]).unwrap()).await.unwrap();
    assert_eq!(db.lines_as(Db::user("ann"), "SELECT id, owner FROM t ORDER BY id").await, ["1|ann", "2|ann"]);
    for (actor, subject, table, words) in [
        (Db::user("ann"), "ben", "app.t", NOT_ALLOWED),
        (bot(), "gone", "app.t", INVALID),
        (bot(), "ann", "app.open", NOT_ON_SHARED),
    ] {
        assert_eq!(db.import(actor, Some(subject), table).await.err().unwrap().message(), words);
    }
}
