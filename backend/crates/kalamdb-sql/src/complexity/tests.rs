use kalamdb_commons::settings::LimitSettings;
use sqlparser::ast::{Visit, Visitor};

use super::*;
use crate::Statement;
use crate::tests::{failed, one};

fn chain(unit: &str, length: usize) -> String {
    format!("SELECT * FROM t WHERE a = 0{}", unit.repeat(length))
}

#[test]
fn long_chains_are_an_error_and_not_a_crash() {
    for unit in [
        " OR a = 1",
        " AND a = 1",
        " + 1",
        " || 'x'",
        "::INT",
        " IS NULL",
        " COLLATE x",
        " AT TIME ZONE 'utc'",
        " BETWEEN 1 AND 2",
        " LIKE 'x'",
        " IN (1)",
        " UNION SELECT 1",
        " EXCEPT ALL SELECT 1",
        "[1]",
        " -> 'a'",
        " + (1)",
        " + f(1)",
        " + CASE WHEN a AND b THEN 1 END",
        " NOT IN (1)",
        " IS DISTINCT FROM 1",
        " + INTERVAL '1' DAY",
        "::DOUBLE PRECISION",
        " + then",
        " + and",
        " ESCAPE 'x'",
        " XOR 1",
        "!",
        " NOTNULL",
        " ISNULL",
    ] {
        let repeated = LimitSettings::default().sql_bytes_max / unit.len() - 30;
        let error = failed(&chain(unit, repeated));
        assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::InvalidSql), "{unit}: {error}");
    }
}

#[test]
fn thousands_of_conditions_are_accepted() {
    for unit in [" OR a = 1", " AND a = 1", " OR (a = 1 AND b = 2)", " + 1", " OR a IN (1, 2)", " OR f(a) = 'x'"] {
        let statement = one(&chain(unit, if unit == " + 1" { 490 } else { 2_000 }));
        assert!(matches!(statement, Statement::Query(_)), "{unit}");
    }
}

#[test]
fn lists_are_limited_by_their_bytes_alone() {
    let list = vec!["-1"; 100_000].join(", ");
    one(&format!("SELECT * FROM t WHERE a IN ({list})"));
    let rows = vec!["(1 + 1, NOW(), 'x')"; 20_000].join(", ");
    one(&format!("INSERT INTO t VALUES {rows}"));
    let branches = "WHEN a = 1 THEN 2 ".repeat(2_000);
    one(&format!("SELECT CASE {branches} END"));
}

/// The deepest trees that pass, and those that are refused last, take little stack to read, drop, clone, show and visit.
#[test]
fn the_deepest_trees_fit_on_a_small_stack() {
    struct Nothing;
    impl Visitor for Nothing {
        type Break = ();
    }

    let refused = ["+1", "::INT", " IS NULL", " UNION SELECT 1", " LIKE b", " BETWEEN 1 AND 2", " AT TIME ZONE b"];
    for unit in refused {
        let sql = format!("SELECT a{}", unit.repeat(OPERATORS_MAX / unit.split(' ').count() - 2));
        on_a_small_stack(move || assert_eq!(failed(&sql).kind(), ErrorKind::TooLarge));
    }
    let accepted =
        [("+1", 499), ("::INT", 499), (" UNION SELECT 1", 199), (" AND a = 1", 3_900), (" OR a IN (1, 2)", 3_900)];
    for (unit, length) in accepted {
        let sql = format!("SELECT a{}", unit.repeat(length));
        on_a_small_stack(move || {
            let Statement::Query(query) = one(&sql) else { panic!("a query") };
            let copy = query.clone();
            assert!(copy == query);
            assert!(copy.visit(&mut Nothing).is_continue());
            assert!(copy.to_string().len() > 1_000);
        });
    }
}

fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(work);
    small.expect("a thread").join().expect("no overflow");
}
