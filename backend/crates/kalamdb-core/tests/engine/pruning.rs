//! No predicate loses a row to pruning: what WHERE finds is compared with what the same predicate is for each row of a
//! scan of everything, over histories of flushes, compactions, restarts, changes and ALTER TABLE, and values at which
//! comparisons go wrong; once as the table is, and once more within a transaction that has changed it.
//!
//! The scan of everything has the predicate in its select list, where nothing can be ruled out by it.
//!
//! What cannot be written down beforehand stands in a predicate as `«seq 7 -1»`: the seventh of the table's `_seq`, less
//! one; `«updated 7 -1»`, the same as a time; `«id 7»`; and `«param 3»`, a parameter with the third value of [`PARAMS`].

use kalamdb_core::api::Param;
use proptest::prelude::*;

use crate::db::{Db, Said};

const CASES: u32 = 16;
const PREDICATES: usize = 60;

/// A column, and literals of its type: ends of ranges, signs of zero, what has no order, what a bound cuts short.
type Column = (&'static str, &'static str, &'static [&'static str]);

const LONG_A: &str = "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxa'";
const LONG_B: &str = "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxb'";
const GREATEST: &str = "'\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\
    \u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}'";

const COLUMNS: [Column; 16] = [
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
    (
        "q",
        "DATETIME",
        &[
            "TIMESTAMP '1969-12-31 23:59:59.999999'",
            "TIMESTAMP '2024-06-01 20:00:00'",
            "TIMESTAMP '2024-06-01 20:00:00.000001'",
        ],
    ),
    ("r", "JSON", &["'{\"a\": 1}'", "'{\"a\": 2, \"b\": null}'", "'[1, 2]'", "'\"x\"'", "'null'"]),
];

/// Columns, and parameters to compare them with: as text what JSON has no type for.
const PARAMS: [(&str, &str); 16] = [
    ("s", "7"),
    ("i", "70000"),
    ("j", "3"),
    ("j", "-7"),
    ("j", "null"),
    ("b", "9007199254740993"),
    ("d", "0.1"),
    ("d", "0"),
    ("e", "12.5"),
    ("t", "'ab"),
    ("t", "'"),
    ("o", "true"),
    ("a", "'1970-01-01"),
    ("w", "'2024-06-01 23:00:00"),
    ("q", "'2024-06-01 20:00:00"),
    ("u", "'7f000000-0000-4000-8000-000000000001"),
];

fn parameter(at: usize) -> Param {
    match PARAMS[at].1 {
        text if text.starts_with('\'') => Param::Text(text[1..].to_owned()),
        "null" => Param::Null,
        "true" => Param::Boolean(true),
        number => Param::Number(serde_json::from_str(number).unwrap()),
    }
}

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
    Compact,
    Restart,
    Alter(usize),
}

/// Changes of the table, each at most once.
const ALTERATIONS: [&str; 14] = [
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
    "ALTER TABLE t MODIFY COLUMN q DATE",
    "ALTER TABLE t MODIFY COLUMN r TEXT",
];

fn step() -> impl Strategy<Value = Step> {
    let cells = prop::collection::vec(any::<u8>(), COLUMNS.len());
    prop_oneof![
        8 => prop::collection::vec(cells, 1..12).prop_map(Step::Insert),
        4 => (0..COLUMNS.len(), any::<u8>(), any::<u8>())
            .prop_map(|(column, value, among)| Step::Update { column, value, among }),
        2 => any::<u8>().prop_map(|among| Step::Delete { among }),
        6 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
        4 => (0..ALTERATIONS.len()).prop_map(Step::Alter),
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
    let of_a_row = || (any::<u8>(), -1i8..=1);
    prop_oneof![
        2 => (prop::sample::select(vec!["_seq", "_updated"]), operator(), of_a_row()).prop_map(|(column, operator, (at, off))| {
            format!("{column} {operator} «{} {at} {off}»", &column[1..])
        }),
        1 => (prop::sample::select(vec!["seq", "updated", "id"]), maybe_not(), of_a_row(), of_a_row()).prop_map(
            |(kind, not, (a, a_off), (b, b_off))| format!("_{kind} {not}IN («{kind} {a} {a_off}», «{kind} {b} {b_off}»)")
        ),
        1 => (prop::sample::select(vec!["seq", "updated", "id"]), of_a_row(), of_a_row()).prop_map(|(kind, (a, a_off), (b, b_off))| {
            format!("_{kind} BETWEEN «{kind} {a} {a_off}» AND «{kind} {b} {b_off}»")
        }),
        1 => (operator(), of_a_row()).prop_map(|(operator, (at, off))| format!("_id {operator} «id {at} {off}»")),
        2 => (0..PARAMS.len(), operator()).prop_map(|(at, operator)| format!("{} {operator} «param {at}»", PARAMS[at].0)),
        1 => (0..PARAMS.len(), maybe_not()).prop_map(|(at, not)| format!("{} {not}IN («param {at}», NULL)", PARAMS[at].0)),
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
            "_deleted",
            "NOT _deleted",
            "_deleted IS NOT NULL",
            "_deleted = (o OR NOT o)",
            "CAST(q AS DATE) = DATE '2024-06-01'",
            "r ->> 'a' = '1'",
            "r -> 0 IS NULL",
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

async fn take(db: Db, step: &Step, next_id: &mut u64) -> Db {
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
        Step::Compact => drop(db.compact("t").await),
        Step::Restart => return db.restart().await,
        Step::Alter(at) => drop(db.run(ALTERATIONS[*at]).await),
    }
    db
}

/// What the table has of what a predicate can only name by its place.
struct Known {
    seqs: Vec<i64>,
    ids: Vec<i64>,
}

impl Known {
    async fn of(db: &Db) -> Self {
        let column = async |name: &str| {
            let sql = format!("SELECT {name} FROM t WHERE _deleted OR NOT _deleted ORDER BY 1");
            db.lines(&sql).await.iter().map(|line| line.parse().unwrap()).collect()
        };
        Self { seqs: column("_seq").await, ids: column("_id").await }
    }

    /// The predicate as it is sent, with `params` lengthened by its parameters.
    fn written(&self, predicate: &str, params: &mut Vec<Param>) -> String {
        let mut pieces = predicate.split(['«', '»']);
        let mut written = pieces.next().unwrap().to_owned();
        while let (Some(place), Some(rest)) = (pieces.next(), pieces.next()) {
            let words: Vec<&str> = place.split(' ').collect();
            let at: usize = words[1].parse().unwrap();
            let near = |values: &[i64]| match values.len() {
                0 => 0,
                len => values[at % len] + words[2].parse::<i64>().unwrap(),
            };
            written += &match words[0] {
                "seq" => near(&self.seqs).to_string(),
                "updated" => format!("to_timestamp_nanos({})", near(&self.seqs)),
                "id" => near(&self.ids).to_string(),
                _ => {
                    params.push(parameter(at));
                    format!("${}", params.len())
                }
            };
            written += rest;
        }
        written
    }
}

/// Two queries: the predicate for each row, where it cannot prune, and the rows that WHERE finds with it.
fn both(predicate: &str) -> [String; 2] {
    // A WHERE that names `_deleted` sees deleted rows, a select list does not.
    let all = if predicate.contains("_deleted") { "WHERE _deleted OR NOT _deleted" } else { "" };
    [
        format!("SELECT _id, ({predicate}) AS hit FROM t {all} ORDER BY _id"),
        format!("SELECT _id FROM t WHERE {predicate} ORDER BY _id"),
    ]
}

/// Asserts that two answers of [`both`] agree.
fn assert_agree(per_row: Said, found: Said, predicate: &str) {
    let Said::Rows(per_row) = per_row else { panic!("{predicate}: {per_row:?}") };
    let wanted = per_row.into_iter().filter(|row| row[1] == "true").map(|mut row| vec![row.swap_remove(0)]);
    assert_eq!(found, Said::Rows(wanted.collect()), "{predicate}");
}

/// Compares the predicate with itself where it cannot prune. One that no longer fits the columns is left out.
async fn compare(db: &Db, predicate: &str, params: Vec<Param>) -> bool {
    let [per_row, found] = both(predicate);
    let Ok(mut per_row) = db.run_as(Db::root(), &per_row, params.clone()).await else { return false };
    let found = db.run_as(Db::root(), &found, params).await;
    let mut found = found.unwrap_or_else(|error| panic!("{predicate}: {error}"));
    assert_agree(per_row.remove(0), found.remove(0), predicate);
    true
}

/// Changes of a transaction that fit the table whatever was altered.
const PENDING: &str = "BEGIN; DELETE FROM t WHERE id % 7 = 1; UPDATE t SET d = 0.1, o = TRUE WHERE id % 5 = 2; \
    INSERT INTO t (id, d, o) VALUES (100001, CAST('NaN' AS DOUBLE), FALSE), (100002, NULL, NULL)";
const PENDING_STATEMENTS: usize = 4;

/// The same for as many predicates as fit a request, in a transaction that is rolled back.
async fn compare_pending(db: &Db, known: &Known, predicates: &[&String]) {
    let limits = &db.settings.limits;
    let (mut sql, mut params, mut compared) = (PENDING.to_owned(), Vec::new(), Vec::new());
    for predicate in predicates {
        let count = params.len() + predicate.matches("«param").count();
        if count > limits.params_max || PENDING_STATEMENTS + 2 * compared.len() + 3 > limits.statements_max {
            break;
        }
        let written = known.written(predicate, &mut params);
        sql = format!("{sql}; {}", both(&written).join("; "));
        compared.push(written);
    }
    let said = db.run_as(Db::root(), &format!("{sql}; ROLLBACK"), params).await;
    let mut said = said.unwrap_or_else(|error| panic!("{sql}: {error}")).into_iter().skip(PENDING_STATEMENTS);
    for predicate in compared {
        assert_agree(said.next().unwrap(), said.next().unwrap(), &format!("{predicate}, in a transaction"));
    }
}

async fn create(db: &Db, options: &str) {
    let columns: Vec<String> = COLUMNS.iter().map(|column| format!("{} {}", column.0, column.1)).collect();
    let create = format!("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, {}) {options}", columns.join(", "));
    db.said(&format!("CREATE NAMESPACE app; {create}")).await;
}

async fn run(bloom: bool, steps: &[Step], predicates: &[String]) {
    let mut db = Db::with(|settings| {
        settings.flush.row_group_rows = 8;
        settings.flush.page_rows = 3;
    })
    .await;
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.0).collect();
    let options = if bloom { format!("WITH (BLOOM_FILTER_COLUMNS = '{}')", names.join(",")) } else { String::new() };
    create(&db, &options).await;
    let mut next_id = 1;
    for step in steps {
        db = take(db, step, &mut next_id).await;
    }
    let known = Known::of(&db).await;
    let mut fitting = Vec::new();
    for predicate in predicates {
        let mut params = Vec::new();
        let written = known.written(predicate, &mut params);
        fitting.extend(compare(&db, &written, params).await.then_some(predicate));
    }
    assert!(fitting.len() * 3 > predicates.len(), "only {} of {} predicates fit", fitting.len(), predicates.len());
    compare_pending(&db, &known, &fitting).await;
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
            assert!(compare(&db, &format!("{list} (0.1, {zero}, 5, -1e300, 7)"), Vec::new()).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_from_before_an_added_column_are_found_by_seq() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n INT)").await;
    db.said("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)").await;
    db.flush("t").await;
    let first = db.number("SELECT _seq FROM t WHERE n = 1").await;
    // It stands where the files of before have the time of the commit.
    db.said("ALTER TABLE t ADD COLUMN late INT DEFAULT 7").await;
    assert_eq!(db.lines(&format!("SELECT n, late FROM t WHERE _seq > {first}")).await, ["2|7"]);
    assert_eq!(db.lines(&format!("SELECT n FROM t WHERE _seq <= {first} AND late = 7")).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_for_values_of_the_table_and_for_parameters_fits_a_new_table() {
    let mut db = Db::with(|settings| settings.compaction.automatic = false).await;
    create(&db, "").await;
    let mut next_id = 1;
    for picked in 0..4 {
        db = take(db, &Step::Insert(vec![vec![picked; COLUMNS.len()]; 2]), &mut next_id).await;
        db = take(db, &Step::Delete { among: 1 }, &mut next_id).await;
        db = take(db, &Step::Flush, &mut next_id).await;
    }
    let known = Known::of(&db).await;
    assert_eq!((known.seqs.len(), known.ids.len()), (8, 8));
    let mut predicates: Vec<String> = (0..PARAMS.len()).map(|at| format!("{} >= «param {at}»", PARAMS[at].0)).collect();
    for (column, place) in [("_seq", "seq"), ("_updated", "updated"), ("_id", "id")] {
        predicates.extend((0..8).map(|at| format!("{column} > «{place} {at} -1»")));
        predicates.push(format!("{column} IN («{place} 1 0», «{place} 6 0»)"));
    }
    predicates.extend(["_deleted".to_owned(), "NOT _deleted AND _id > «id 3 0»".to_owned()]);
    for predicate in &predicates {
        let mut params = Vec::new();
        let written = known.written(predicate, &mut params);
        assert!(compare(&db, &written, params).await, "{written}");
    }
    compare_pending(&db, &known, &predicates.iter().collect::<Vec<_>>()).await;
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
