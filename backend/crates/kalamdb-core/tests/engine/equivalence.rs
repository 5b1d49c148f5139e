//! A history, questions about it, and changes to it, with the answers that are right wherever its versions lie.

use crate::db::{Db, Said};

const TABLES: &[&str] = &[
    "CREATE NAMESPACE app",
    "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT, kind TEXT, n INT, price DOUBLE)",
    "CREATE SHARED TABLE app.kinds (kind TEXT PRIMARY KEY, label TEXT)",
    "CREATE SHARED TABLE app.archive (id BIGINT, name TEXT, kind TEXT, n INT, price DOUBLE)",
];

/// After this step the newest `_seq` is what the questions call `{mark}`.
const MARK: usize = 5;

pub(crate) const HISTORY: &[&str] = &[
    "INSERT INTO kinds VALUES ('fruit', 'Fruit'), ('root', 'Root'), ('nut', 'Nut')",
    "INSERT INTO t VALUES (1, 'apple', 'fruit', 10, 1.5), (2, 'banana', 'fruit', 20, 0.5), (3, 'carrot', 'root', 30, NULL),
     (4, 'date', 'fruit', NULL, 4.0), (5, 'endive', NULL, 50, 2.5), (6, 'fig', 'fruit', 60, 3.0)",
    "UPDATE t SET n = 99 WHERE name = 'banana'",
    "DELETE FROM t WHERE id = 6",
    "INSERT INTO t VALUES (7, 'ginger', 'root', 70, 1.0), (8, 'hazelnut', 'nut', 80, 8.0)",
    "UPDATE t SET name = upper(name), n = n + 1 WHERE n >= 50",
    "INSERT INTO t VALUES (6, 'fig', 'fruit', 6, 6.0)",
    "UPDATE t SET price = NULL WHERE id IN (1, 8)",
    "DELETE FROM t WHERE kind = 'root' AND n < 40",
];

const QUESTIONS: &[(&str, &[&str])] = &[
    (
        "SELECT id, name, kind, n, price FROM t ORDER BY id",
        &[
            "1|apple|fruit|10|NULL",
            "2|BANANA|fruit|100|0.5",
            "4|date|fruit|NULL|4.0",
            "5|ENDIVE|NULL|51|2.5",
            "6|fig|fruit|6|6.0",
            "7|GINGER|root|71|1.0",
            "8|HAZELNUT|nut|81|NULL",
        ],
    ),
    ("SELECT count(*) FROM t", &["7"]),
    ("SELECT count(n), count(price), sum(n), min(n), max(n), sum(price) FROM t", &["6|5|319|6|100|14.0"]),
    ("SELECT min(id), max(id), min(name) FROM t", &["1|8|BANANA"]),
    // Filters on columns that a newer version changed.
    ("SELECT id FROM t WHERE n >= 50 ORDER BY id", &["2", "5", "7", "8"]),
    ("SELECT id FROM t WHERE n IN (20, 30, 50, 60, 70, 80, 99)", &[]),
    ("SELECT id FROM t WHERE n BETWEEN 6 AND 51 ORDER BY id", &["1", "5", "6"]),
    ("SELECT count(*) FROM t WHERE n < 50", &["2"]),
    ("SELECT id FROM t WHERE n = 100 OR price = 4.0 ORDER BY id", &["2", "4"]),
    ("SELECT id FROM t WHERE price = 1.5 OR price = 8.0 OR price = 3.0", &[]),
    // Text and lists.
    ("SELECT name FROM t WHERE name LIKE '%AN%'", &["BANANA"]),
    ("SELECT id FROM t WHERE name LIKE 'fi%'", &["6"]),
    ("SELECT id FROM t WHERE name = 'banana' OR name LIKE 'haz%'", &[]),
    ("SELECT id FROM t WHERE id IN (1, 3, 6, 9) ORDER BY id", &["1", "6"]),
    ("SELECT id FROM t WHERE kind NOT IN ('fruit') ORDER BY id", &["7", "8"]),
    // NULL.
    ("SELECT id FROM t WHERE kind IS NULL", &["5"]),
    ("SELECT id FROM t WHERE price IS NULL ORDER BY id", &["1", "8"]),
    ("SELECT id FROM t WHERE n IS NULL", &["4"]),
    ("SELECT count(*) FROM t WHERE n IS NOT NULL AND price IS NOT NULL", &["4"]),
    // Aggregates by group, joins, order and limits.
    (
        "SELECT kind, count(*), sum(n) FROM t GROUP BY kind ORDER BY kind NULLS LAST",
        &["fruit|4|116", "nut|1|81", "root|1|71", "NULL|1|51"],
    ),
    ("SELECT kind FROM t GROUP BY kind HAVING count(*) > 1", &["fruit"]),
    ("SELECT DISTINCT kind FROM t ORDER BY kind NULLS FIRST", &["NULL", "fruit", "nut", "root"]),
    (
        "SELECT t.id, k.label FROM t JOIN kinds k ON k.kind = t.kind ORDER BY t.id",
        &["1|Fruit", "2|Fruit", "4|Fruit", "6|Fruit", "7|Root", "8|Nut"],
    ),
    ("SELECT t.id, k.label FROM t LEFT JOIN kinds k ON k.kind = t.kind WHERE k.kind IS NULL", &["5|NULL"]),
    ("SELECT x.id, y.id FROM t x JOIN t y ON x.n = y.n - 10 ORDER BY x.id", &["7|8"]),
    ("SELECT name FROM t ORDER BY n DESC NULLS LAST LIMIT 3", &["BANANA", "HAZELNUT", "GINGER"]),
    ("SELECT id FROM t ORDER BY id LIMIT 2 OFFSET 1", &["2", "4"]),
    // By key.
    ("SELECT name, n FROM t WHERE id = 2", &["BANANA|100"]),
    ("SELECT name FROM t WHERE id = 3", &[]),
    ("SELECT name, n FROM t WHERE id = 6", &["fig|6"]),
    ("SELECT id FROM t WHERE id = 2 AND n = 99", &[]),
    // Deleted rows, for those who ask.
    ("SELECT id, n FROM t WHERE _deleted ORDER BY id", &["3|30", "6|60"]),
    ("SELECT count(*) FROM t WHERE _deleted = false", &["7"]),
    ("SELECT count(*) FROM t WHERE _deleted IS NOT NULL", &["9"]),
    // What came after a moment.
    ("SELECT id FROM t WHERE _seq > {mark} ORDER BY id", &["1", "6", "8"]),
    ("SELECT id FROM t WHERE _seq <= {mark} ORDER BY id", &["2", "4", "5", "7"]),
    ("SELECT id FROM t WHERE _seq > {mark} AND _deleted", &["3"]),
    ("SELECT id FROM t WHERE _seq > {mark} AND _deleted IS NOT NULL ORDER BY id", &["1", "3", "6", "8"]),
    // Subqueries and sets.
    ("SELECT id FROM t WHERE n > (SELECT avg(n) FROM t) ORDER BY id", &["2", "7", "8"]),
    (
        "SELECT kind FROM kinds WHERE EXISTS (SELECT 1 FROM t WHERE t.kind = kinds.kind AND t.n > 75) ORDER BY kind",
        &["fruit", "nut"],
    ),
    ("SELECT count(*) FROM (SELECT id FROM t WHERE n > 70 UNION SELECT id FROM t WHERE price > 3) AS u", &["5"]),
    ("WITH big AS (SELECT id, n FROM t WHERE n > 50) SELECT max(n) FROM big WHERE n < 100", &["81"]),
];

const CHANGES: &[(&str, u64)] = &[
    (
        "UPDATE t SET n = n + (SELECT count(*) FROM kinds) WHERE kind IN (SELECT kind FROM kinds WHERE label LIKE 'F%')",
        4,
    ),
    ("DELETE FROM t WHERE n < (SELECT avg(n) FROM t WHERE kind IS NOT NULL) AND price IS NULL", 1),
    ("INSERT INTO t (id, name, kind, n) SELECT id + 100, name, kind, n FROM t WHERE n > 80", 2),
    ("INSERT INTO archive SELECT * FROM t", 8),
    ("UPDATE t SET id = id + 1000 WHERE id >= 100", 2),
    ("DELETE FROM t WHERE id = 5", 1),
    ("DELETE FROM t WHERE id = 5", 0),
    ("UPDATE t SET n = 0 WHERE n = 10 OR n = 100", 0),
];

const AFTER_CHANGES: &[&str] = &[
    "2|BANANA|fruit|103|0.5",
    "4|date|fruit|NULL|4.0",
    "6|fig|fruit|9|6.0",
    "7|GINGER|root|71|1.0",
    "8|HAZELNUT|nut|81|NULL",
    "1102|BANANA|fruit|103|NULL",
    "1108|HAZELNUT|nut|81|NULL",
];

/// Makes the tables.
pub(crate) async fn found(db: &Db) {
    for sql in TABLES {
        db.said(sql).await;
    }
}

/// Takes one step of the history. The mark, at the step that makes it.
pub(crate) async fn step(db: &Db, step: usize) -> Option<i64> {
    db.count(HISTORY[step]).await;
    if step == MARK { Some(db.number("SELECT max(_seq) FROM t").await) } else { None }
}

/// Asks everything.
pub(crate) async fn ask(db: &Db, mark: i64) {
    for (sql, answer) in QUESTIONS {
        let sql = sql.replace("{mark}", &mark.to_string());
        assert_eq!(db.lines(&sql).await, *answer, "{sql}");
    }
}

/// Changes everything, with a flush and a compaction after each change if wanted.
pub(crate) async fn change(db: &Db, flush: bool, compact: bool) {
    for (sql, count) in CHANGES {
        assert_eq!(db.count(sql).await, *count, "{sql}");
        if flush {
            db.said("STORAGE FLUSH ALL WAIT").await;
        }
        if compact {
            db.said("STORAGE COMPACT ALL WAIT").await;
        }
    }
}

const ALL: &str = "SELECT id, name, kind, n, price FROM t ORDER BY id";

/// Asks what the changes made.
pub(crate) async fn ask_about_changes(db: &Db) {
    assert_eq!(db.lines(ALL).await, AFTER_CHANGES, "after the changes");
    assert_eq!(db.lines("SELECT count(*), sum(n) FROM archive").await, ["8|499"]);
}

/// Asks it again after a flush, a compaction and a restart.
pub(crate) async fn end(db: Db) {
    db.said("STORAGE FLUSH ALL WAIT").await;
    assert_eq!(db.lines(ALL).await, AFTER_CHANGES, "after the changes were flushed");
    db.said("STORAGE COMPACT ALL WAIT").await;
    assert_eq!(db.lines(ALL).await, AFTER_CHANGES, "after the changes were compacted");
    let db = db.restart().await;
    assert_eq!(db.lines(ALL).await, AFTER_CHANGES, "after the changes, a flush, a compaction and a restart");
    for line in AFTER_CHANGES {
        let id = line.split('|').next().unwrap();
        let said = db.said(&format!("SELECT id, name, kind, n, price FROM t WHERE id = {id}")).await;
        assert_eq!(said, Said::Rows(vec![line.split('|').map(str::to_owned).collect()]), "the row of key {id}");
    }
}
