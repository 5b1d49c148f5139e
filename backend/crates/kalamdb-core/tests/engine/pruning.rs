//! No predicate loses a row to pruning: what WHERE finds is compared with what the same predicate is for each row of a
//! scan of everything, over histories of flushes, changes and ALTER TABLE, and values at which comparisons go wrong.
//!
//! The scan of everything has the predicate in its select list, where nothing can be ruled out by it.

use proptest::prelude::*;

use crate::db::{Db, Said};

const CASES: u32 = 24;
const PREDICATES: usize = 60;

/// A column, and literals of its type: ends of ranges, signs of zero, what has no order, what a bound cuts short.
type Column = (&'static str, &'static str, &'static [&'static str]);

const LONG_A: &str = "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxa'";
const LONG_B: &str = "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxb'";
const GREATEST: &str = "'\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\
    \u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}'";

const COLUMNS: [Column; 14] = [
    ("s", "SMALLINT", &["-32768", "-1", "0", "1", "7", "32767"]),
    ("i", "INT", &["-2147483648", "-5", "0", "3", "70000", "2147483647"]),
    ("j", "INT", &["-7", "-5", "0", "3", "4", "5"]),
    ("b", "BIGINT", &["-9223372036854775807", "-1", "0", "2", "9007199254740993", "9223372036854775807"]),
    ("f", "FLOAT", &["CAST('NaN' AS FLOAT)", "CAST('-0.0' AS FLOAT)", "0", "1.5", "CAST('-inf' AS FLOAT)", "16777216"]),
    (
        "d",
        "DOUBLE",
        &["CAST('NaN' AS DOUBLE)", "CAST('-0.0' AS DOUBLE)", "0", "0.1", "CAST('inf' AS DOUBLE)", "-1e300"],
    ),
    ("e", "DECIMAL(10,2)", &["-99999999.99", "-0.01", "0", "0.01", "12.5", "99999999.99"]),
    ("t", "TEXT", &["''", "'a'", "'ab'", "'Z'", "'ä'", "'xxx'", LONG_A, LONG_B, GREATEST]),
    ("a", "DATE", &["DATE '1969-12-31'", "DATE '1970-01-01'", "DATE '2024-02-29'", "DATE '1901-01-01'"]),
    ("c", "TIME", &["TIME '00:00:00'", "TIME '12:00:00'", "TIME '23:59:59.999999'"]),
    (
        "w",
        "TIMESTAMP",
        &[
            "TIMESTAMP '1969-12-31 23:59:59.999999'",
            "TIMESTAMP '2024-06-01 20:00:00'",
            "TIMESTAMP '2024-06-01 23:00:00'",
            "TIMESTAMP '2024-06-02 08:00:00'",
        ],
    ),
    ("o", "BOOLEAN", &["TRUE", "FALSE"]),
    ("u", "UUID", &["'00000000-0000-0000-0000-000000000000'", "'7f000000-0000-4000-8000-000000000001'"]),
    ("y", "BYTES", &["X'00'", "X'ff00'", "X''"]),
];

/// What happens between two looks.
#[derive(Debug, Clone)]
enum Step {
    /// Rows whose cells are picked by these numbers.
    Insert(Vec<Vec<u8>>),
    Update {
        column: usize,
        value: u8,
        among: u8,
    },
    Delete {
        among: u8,
    },
    Flush,
    Alter(usize),
}

/// Changes of the table, each at most once.
const ALTERATIONS: [&str; 12] = [
    "ALTER TABLE t ADD COLUMN late INT DEFAULT 7",
    "ALTER TABLE t ADD COLUMN later TEXT",
    "ALTER TABLE t MODIFY COLUMN s BIGINT",
    "ALTER TABLE t MODIFY COLUMN i DOUBLE",
    "ALTER TABLE t MODIFY COLUMN f DOUBLE",
    "ALTER TABLE t MODIFY COLUMN e DECIMAL(14,4)",
    "ALTER TABLE t MODIFY COLUMN a TIMESTAMP",
    "ALTER TABLE t MODIFY COLUMN w TIME",
    "ALTER TABLE t MODIFY COLUMN b TEXT",
    "ALTER TABLE t DROP COLUMN t; ALTER TABLE t ADD COLUMN t TEXT DEFAULT 'ab'",
    "ALTER TABLE t RENAME COLUMN i TO k; ALTER TABLE t RENAME COLUMN j TO i; ALTER TABLE t RENAME COLUMN k TO j",
    "ALTER TABLE t MODIFY COLUMN j BOOLEAN",
];

fn step() -> impl Strategy<Value = Step> {
    let cells = prop::collection::vec(any::<u8>(), COLUMNS.len());
    prop_oneof![
        4 => prop::collection::vec(cells, 1..12).prop_map(Step::Insert),
        2 => (0..COLUMNS.len(), any::<u8>(), any::<u8>())
            .prop_map(|(column, value, among)| Step::Update { column, value, among }),
        1 => any::<u8>().prop_map(|among| Step::Delete { among }),
        3 => Just(Step::Flush),
        2 => (0..ALTERATIONS.len()).prop_map(Step::Alter),
    ]
}

/// A literal of a column's type, or NULL.
fn literal((_, _, literals): Column, picked: u8) -> &'static str {
    literals.get(picked as usize % (literals.len() + 1)).copied().unwrap_or("NULL")
}

/// A literal that is not NULL.
fn value((_, _, literals): Column, picked: u8) -> &'static str {
    literals[picked as usize % literals.len()]
}

fn atom() -> impl Strategy<Value = String> {
    let column = || (0..COLUMNS.len()).prop_map(|at| COLUMNS[at]);
    let operator =
        || prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]);
    let maybe_not = || prop::sample::select(vec!["", "NOT "]);
    let list = || prop::collection::vec(any::<u8>(), 1..5);
    prop_oneof![
        6 => (column(), operator(), any::<u8>())
            .prop_map(|(column, operator, picked)| format!("{} {operator} {}", column.0, value(column, picked))),
        2 => (column(), maybe_not(), list()).prop_map(|(column, not, picked)| {
            let values: Vec<&str> = picked.into_iter().map(|picked| value(column, picked)).collect();
            format!("{} {not}IN ({})", column.0, values.join(", "))
        }),
        1 => (maybe_not(), any::<i16>(), 1u16..4000).prop_map(|(not, first, apart)| {
            let values: Vec<String> =
                (0..30).map(|at| (i64::from(first) + at * i64::from(apart)).to_string()).collect();
            format!("j {not}IN ({})", values.join(", "))
        }),
        1 => (column(), maybe_not()).prop_map(|(column, not)| format!("{} IS {not}NULL", column.0)),
        1 => (column(), any::<u8>(), any::<u8>()).prop_map(|(column, from, to)| {
            format!("{} BETWEEN {} AND {}", column.0, value(column, from), value(column, to))
        }),
        1 => (maybe_not(), prop::sample::select(vec!["a%", "x%", "xxx", "%b", "\u{10ffff}%", "", "_b"]))
            .prop_map(|(not, pattern)| format!("t {not}LIKE '{pattern}'")),
        2 => prop::sample::select(vec![
            "CAST(w AS TIME) = TIME '23:00:00'",
            "CAST(w AS TIME) > TIME '21:00:00'",
            "CAST(w AS DATE) = DATE '2024-06-01'",
            "CAST(j AS BOOLEAN)",
            "CAST(j AS BOOLEAN) = TRUE",
            "TRY_CAST(b AS SMALLINT) = 2",
            "TRY_CAST(d AS INT) < 1",
            "-j > 2",
            "NOT o",
            "o",
            "late = 7",
            "late > 7",
            "late IN (6, 8)",
            "later IS NULL",
            "later = 'a'",
        ])
        .prop_map(str::to_owned),
    ]
}

fn predicate() -> impl Strategy<Value = String> {
    atom().prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            1 => inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

async fn take(db: &Db, step: &Step, next_id: &mut u64) {
    // An alteration may have changed a column so that a step no longer fits it: it is refused, and nothing happens.
    match step {
        Step::Insert(rows) => {
            for picked in rows {
                let cells: Vec<&str> = COLUMNS.iter().zip(picked).map(|(column, at)| literal(*column, *at)).collect();
                let names: Vec<&str> = COLUMNS.iter().map(|column| column.0).collect();
                let sql = format!("INSERT INTO t (id, {}) VALUES ({next_id}, {})", names.join(", "), cells.join(", "));
                *next_id += 1;
                db.run(&sql).await.ok();
            }
        }
        Step::Update { column, value, among } => {
            let column = COLUMNS[*column];
            let sql = format!("UPDATE t SET {} = {} WHERE id % 5 = {}", column.0, literal(column, *value), among % 5);
            db.run(&sql).await.ok();
        }
        Step::Delete { among } => drop(db.run(&format!("DELETE FROM t WHERE id % 11 = {}", among % 11)).await),
        Step::Flush => db.flush("t").await,
        Step::Alter(at) => drop(db.run(ALTERATIONS[*at]).await),
    }
}

/// Compares the predicate with itself where it cannot prune. One that no longer fits the columns is left out.
async fn compare(db: &Db, predicate: &str) -> bool {
    let per_row = db.run(&format!("SELECT id, ({predicate}) AS hit FROM t ORDER BY id")).await;
    let Ok(Said::Rows(per_row)) = per_row.map(|mut said| said.remove(0)) else { return false };
    let wanted = per_row.into_iter().filter(|row| row[1] == "true").map(|mut row| vec![row.swap_remove(0)]);
    let found = db.run(&format!("SELECT id FROM t WHERE {predicate} ORDER BY id")).await;
    let found = found.unwrap_or_else(|error| panic!("{predicate}: {error}")).remove(0);
    assert_eq!(found, Said::Rows(wanted.collect()), "{predicate}");
    true
}

async fn run(bloom: bool, steps: &[Step], predicates: &[String]) {
    let db = Db::with(|settings| {
        settings.flush.row_group_rows = 8;
        settings.flush.page_rows = 3;
    })
    .await;
    db.said("CREATE NAMESPACE app").await;
    let columns: Vec<String> = COLUMNS.iter().map(|column| format!("{} {}", column.0, column.1)).collect();
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.0).collect();
    let options = if bloom { format!("WITH (BLOOM_FILTER_COLUMNS = '{}')", names.join(",")) } else { String::new() };
    db.said(&format!("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, {}) {options}", columns.join(", "))).await;
    let mut next_id = 1;
    for step in steps {
        take(&db, step, &mut next_id).await;
    }
    let mut compared = 0;
    for predicate in predicates {
        compared += usize::from(compare(&db, predicate).await);
    }
    assert!(compared * 3 > predicates.len(), "only {compared} of {} predicates fit the table", predicates.len());
    db.engine.close().await.unwrap();
}

fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if asked.cases == 256 { CASES } else { asked.cases };
    ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..asked }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_of_either_sign_in_a_list_rules_nothing_out() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, d DOUBLE)").await;
    for value in ["0", "CAST('-0.0' AS DOUBLE)", "CAST('NaN' AS DOUBLE)", "5"] {
        db.said(&format!("INSERT INTO t SELECT coalesce(max(id), 0) + 1, {value} FROM t")).await;
        db.flush("t").await;
    }
    for zero in ["0", "CAST('-0.0' AS DOUBLE)"] {
        for list in ["d IN", "d NOT IN"] {
            assert!(compare(&db, &format!("{list} (0.1, {zero}, 5, -1e300, 7)")).await);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn pruning_loses_no_row(
        bloom in any::<bool>(),
        steps in prop::collection::vec(step(), 4..24),
        predicates in prop::collection::vec(predicate(), PREDICATES),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(bloom, &steps, &predicates));
    }
}
