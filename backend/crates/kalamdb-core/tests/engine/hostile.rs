//! Text that tries to be taken for something else: names, quotes, comments, look-alikes and nesting around AS USER and
//! namespaces. Either it means exactly what it says, or it is refused; nobody's rows but the named subject's are touched.

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_core::api::Param;

use crate::db::Db;

const USERS: [&str; 4] = ["ann", "ben", "o'neil", "x' OR '1'='1"];

fn text(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

fn bot() -> Actor {
    Db::actor("bot", Role::Service)
}

async fn world() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, word TEXT)").await;
    db.said("CREATE USER 'bot' WITH PASSWORD 'long enough' ROLE 'service'").await;
    for user in USERS {
        db.said(&format!("CREATE USER {} WITH PASSWORD 'long enough' ROLE 'user'", text(user))).await;
        db.said(&format!("INSERT INTO t AS USER {} VALUES (1, 'first')", text(user))).await;
    }
    db
}

/// Whose rows are not as they were made.
async fn touched(db: &Db) -> Vec<String> {
    db.lines("SELECT DISTINCT _user FROM ALL USERS OF t WHERE NOT (id = 1 AND word = 'first') ORDER BY 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_exactly_what_is_written() {
    for (subject, owner) in [
        ("'ann'", "ann"),
        ("\"ann\"", "ann"),
        ("ANN", "ann"),
        ("/* 'ben' */ 'ann' -- 'ben'\n", "ann"),
        ("'o''neil'", "o'neil"),
        ("U&'\\0061nn'", "ann"),
        ("$$ann$$", "ann"),
        ("'x'' OR ''1''=''1'", "x' OR '1'='1"),
    ] {
        let db = world().await;
        db.run_as(bot(), &format!("INSERT INTO t AS USER {subject} VALUES (2, 'new')"), vec![]).await.unwrap();
        db.run_as(bot(), &format!("UPDATE t AS USER {subject} SET word = 'again' WHERE id = 2"), vec![]).await.unwrap();
        db.run_as(bot(), &format!("EXECUTE/**/AS USER {subject}(DELETE FROM t WHERE id = 1)"), vec![]).await.unwrap();
        assert_eq!(touched(&db).await, [owner], "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_like_a_subject_is_refused_and_touches_nobody() {
    let db = world().await;
    for subject in [
        "'ann '",
        "' ann'",
        "'ann\t'",
        "'ANN'",
        "'аnn'",
        "'ａｎｎ'",
        "'an\u{200b}n'",
        "'ann\u{0}'",
        "'ann''; --'",
        "'ann'' (DELETE FROM t) --'",
        "\"ann' OR 'a'='a\"",
        "'ann/../ben'",
        "'../ann'",
        "'user_ann'",
        "'%61nn'",
        "'a%6En'",
        "''",
        "NULL",
        "5",
        "(SELECT 'ann')",
        "'ann' || ''",
        "CONCAT('a', 'nn')",
        "CURRENT_USER()",
        "'ann', 'ben'",
    ] {
        for sql in [
            format!("INSERT INTO t AS USER {subject} VALUES (2, 'x')"),
            format!("UPDATE t AS USER {subject} SET word = 'x'"),
            format!("DELETE FROM t AS USER {subject}"),
            format!("EXECUTE AS USER {subject} (DELETE FROM t)"),
        ] {
            let error = db.run_as(bot(), &sql, vec![]).await.expect_err(&sql);
            let kinds = [ErrorKind::InvalidInput, ErrorKind::InvalidSql, ErrorKind::InvalidParameter];
            assert!(kinds.contains(&error.kind()), "{sql}: {error}");
        }
        let named = subject.trim_matches('\'').to_owned();
        if !["", "ann"].contains(&named.as_str()) {
            let sql = "EXECUTE AS USER $1 (DELETE FROM t)";
            db.run_as(bot(), sql, vec![Param::Text(named.clone())]).await.expect_err(subject);
            db.run_for(bot(), Some(&named), "DELETE FROM t").await.expect_err(subject);
        }
    }
    assert_eq!(touched(&db).await, Vec::<String>::new());
    assert_eq!(db.number("SELECT count(*) FROM ALL USERS OF t").await, USERS.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_only_look_like_as_user_do_not_act_for_anybody() {
    let db = world().await;
    for sql in [
        "DELETE FROM t ＡＳ ＵＳＥＲ 'ann'",
        "DELETE FROM t A\u{200b}S USER 'ann'",
        "DELETE FROM t AS 'USER' 'ann'",
        "DELETE FROM t AS \"USER\" 'ann'",
        "DELETE FROM t 'AS USER ann'",
        "EXECUTE AS USER 'ann' (DELETE FROM t); ) EXECUTE AS USER 'ben' (DELETE FROM t",
        "EXECUTE AS USER 'ann' (DELETE FROM t)) (DELETE FROM t",
        "EXECUTE AS USER 'ann' (EXECUTE AS USER 'ben' (DELETE FROM t))",
        "EXECUTE AS USER 'ann' (BEGIN; DELETE FROM t; COMMIT)",
        "EXECUTE AS USER 'ann' ((DELETE FROM t))",
        "SELECT * FROM t AS USER 'ann'",
        "SELECT * FROM (DELETE FROM t AS USER 'ann' RETURNING *)",
        "WITH gone AS (DELETE FROM t AS USER 'ann' RETURNING *) SELECT * FROM gone",
        "EXPLAIN EXECUTE AS USER 'ann' (DELETE FROM t)",
        "EXPLAIN ANALYZE DELETE FROM t AS USER 'ann'",
        "CREATE VIEW app.v AS EXECUTE AS USER 'ann' (SELECT * FROM t)",
        "PREPARE p AS EXECUTE AS USER 'ann' (DELETE FROM t)",
    ] {
        db.run_as(bot(), sql, vec![]).await.expect_err(sql);
    }
    // In comments and strings they are words.
    for sql in
        ["SELECT 'AS USER ''ann''' FROM t -- AS USER 'ann'", "SELECT 1 /* EXECUTE AS USER 'ann' (DELETE FROM t) */"]
    {
        db.run_as(bot(), sql, vec![]).await.unwrap();
    }
    assert_eq!(touched(&db).await, Vec::<String>::new());
    assert_eq!(db.number("SELECT count(*) FROM ALL USERS OF t").await, USERS.len() as i64);
}

/// Look-alikes of a table that is there are absent, in the words of any other absent table.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_tables_are_exactly_what_is_written() {
    let db = world().await;
    for name in ["app.t", "\"app\".t", "app . t", "APP.T", "\"app\"./* */\"t\"", "t"] {
        let sql = format!("SELECT word FROM {name}");
        assert_eq!(db.lines_as(Db::user("ann"), &sql).await, ["first"], "{name}");
    }
    for name in [
        "аpp.t",
        "app.ｔ",
        "\"APP\".t",
        "app.\"T\"",
        "app.\"t \"",
        "\"app.t\"",
        "\"app\"\".\"\"t\"",
        "app.\"t/user_ben\"",
        "app.\"../app/t\"",
        "\"..\".t",
        "app.t.t",
        &format!("app.\"t{}\"", kalamdb_sql::ALL_USERS_MARK),
        "\"t\u{200b}\"",
    ] {
        let error = db.run_as(Db::user("ann"), &format!("SELECT word FROM {name}"), vec![]).await.expect_err(name);
        assert!(error.kind() != ErrorKind::Internal, "{name}: {error}");
    }
}

/// How long a refusal takes tells nothing, because it does the same: what is hidden is refused before it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_absent_cost_the_same() {
    let db = world().await;
    db.said("CREATE SHARED TABLE vault (id BIGINT PRIMARY KEY, word TEXT) WITH (ACCESS_LEVEL = 'restricted')").await;
    db.said("INSERT INTO vault SELECT value, 'secret' FROM generate_series(1, 5000)").await;
    db.flush("vault").await;
    for sql in [
        "SELECT * FROM {}",
        "SELECT word FROM {} WHERE id = 7",
        "INSERT INTO {} VALUES (1, 'x')",
        "UPDATE {} SET word = 'x'",
        "DELETE FROM {} WHERE id = 1",
        "INSERT INTO t SELECT id, word FROM {}",
        "EXPLAIN ANALYZE SELECT * FROM {}",
    ] {
        let mut costs = Vec::new();
        for table in ["vault", "never"] {
            let before = db.engine.store().counters();
            let mut execution = db.begin(bot(), &sql.replace("{}", table), vec![]).await.unwrap();
            assert_eq!(execution.next().await.unwrap().err().unwrap().kind(), ErrorKind::NotFound, "{sql}");
            let cost = execution.stats().snapshot();
            let read = cost.hot_rows_read + cost.cold_rows_read + cost.batches_considered + cost.storage_requests;
            let manifests = cost.manifest_cache_hits + cost.manifest_cache_misses;
            costs.push((read + manifests, db.engine.store().counters().commits - before.commits));
        }
        assert_eq!(costs, [(0, 0); 2], "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_larger_than_memory_is_refused_before_it_is_begun() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE t (n BIGINT, v TEXT)").await;
    db.said("INSERT INTO t VALUES (9223372036854775807, 'x'), (1099511627776, 'y')").await;
    for call in [
        "lpad(v, n)",
        "lpad(v, n, 'ab')",
        "rpad(v, n)",
        "lpad(v, 2000000000)",
        "repeat(v, n)",
        "repeat('xy', 2000000000)",
        "repeat(repeat('x', 100000), 100000)",
        "replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "array_repeat(v, n)",
        "array_resize(make_array(v), n)",
    ] {
        let refused = db.run(&format!("SELECT {call} FROM t")).await.unwrap_err();
        assert!(refused.message().contains("are the limit"), "{call}: {refused}");
    }
    let small = "SELECT concat(lpad(v, 3, '-'), rpad('a', 2), repeat(v, 2), replace('aba', 'a', v), array_length(array_repeat(1, 3))) FROM t";
    assert_eq!(db.lines(&format!("{small} WHERE v = 'x'")).await, ["--xa xxxbx3"]);
    assert_eq!(db.lines("SELECT lpad(v, -1), repeat(v, CAST(NULL AS BIGINT)) FROM t WHERE v = 'x'").await, ["|NULL"]);
}
