use super::*;
use crate::Statement;
use crate::tests::one;

/// The operands of a chain from left to right, and the depth of its tree.
fn leaves(expr: &Expr, op: &BinaryOperator) -> (Vec<String>, usize) {
    match expr {
        Expr::BinaryOp { left, op: found, right } if found == op => {
            let ((mut names, left), (more, right)) = (leaves(left, op), leaves(right, op));
            names.extend(more);
            (names, 1 + left.max(right))
        }
        other => (vec![other.to_string()], 0),
    }
}

#[test]
fn long_chains_are_balanced_and_keep_their_operands_in_order() {
    for (word, op) in [("OR", BinaryOperator::Or), ("AND", BinaryOperator::And)] {
        for length in [65, 100, 1_000, 3_000] {
            let names: Vec<String> = (0..length).map(|n| format!("c{n} = {n}")).collect();
            let expr = crate::expr::parse(&names.join(&format!(" {word} "))).expect("a chain");
            let (found, depth) = leaves(&expr, &op);
            assert_eq!(found, names);
            assert!(depth <= 13, "{length}: {depth}");
        }
    }
}

#[test]
fn short_chains_stay_as_they_are() {
    let names: Vec<String> = (0..64).map(|n| format!("c{n}")).collect();
    let expr = crate::expr::parse(&names.join(" OR ")).expect("a chain");
    assert_eq!(leaves(&expr, &BinaryOperator::Or), (names, 63));
}

#[test]
fn chains_within_chains_and_subqueries_are_balanced() {
    let inner = vec!["x"; 200].join(" AND ");
    let outer = vec![format!("a IN (SELECT b FROM t WHERE {inner})"); 10].join(" OR ");
    let Statement::Query(query) = one(&format!("SELECT 1 WHERE {outer}")) else { panic!("a query") };
    assert_eq!(query.to_string().matches('x').count(), 2_000);
}

#[test]
fn fetch_first_is_limit() {
    for (fetch, limit) in [
        ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "SELECT a FROM t LIMIT 3"),
        ("SELECT a FROM t OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY", "SELECT a FROM t LIMIT 3 OFFSET 2 ROWS"),
        ("SELECT a FROM t FETCH FIRST ROW ONLY", "SELECT a FROM t LIMIT 1"),
        ("SELECT (SELECT a FROM t FETCH FIRST 1 ROW ONLY)", "SELECT (SELECT a FROM t LIMIT 1)"),
        ("SELECT a FROM t LIMIT 5 OFFSET 2", "SELECT a FROM t LIMIT 5 OFFSET 2"),
        ("SELECT a FROM t OFFSET 2", "SELECT a FROM t OFFSET 2"),
    ] {
        let Statement::Query(query) = one(fetch) else { panic!("a query") };
        assert_eq!(query.to_string(), limit);
    }
}
