//! What is written differently before DataFusion sees it, with the same meaning.
//!
//! `FETCH FIRST n ROWS ONLY` becomes LIMIT, which DataFusion knows. Long chains of AND and OR become balanced: the
//! parser's tree of `a OR b OR c ...` is as deep as the chain is long, and whatever walks it later needs stack for it.
//! A table that is read by ALL USERS OF is called by its own name.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Fetch, LimitClause, Query, TableFactor, Value, VisitMut, VisitorMut};

use crate::all_users;

/// Chains of fewer operators stay as they are, so that what people look at in EXPLAIN is what they wrote.
const BALANCED_MIN: usize = 64;

/// Rewrites everything within.
pub(crate) fn rewrite(tree: &mut impl VisitMut) {
    let ControlFlow::Continue(()) = VisitMut::visit(tree, &mut Rewrite);
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        fetch_to_limit(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<Self::Break> {
        all_users::name_relation(relation);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr {
            let op = op.clone();
            if chain_length(expr, &op) >= BALANCED_MIN {
                balance(expr, &op);
            }
        }
        ControlFlow::Continue(())
    }
}

/// FETCH with ties, with a percentage or beside LIMIT stays, and is refused later.
fn fetch_to_limit(query: &mut Query) {
    let offset = match &mut query.limit_clause {
        None => None,
        Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) if limit_by.is_empty() => offset.take(),
        Some(_) => return,
    };
    let limit = match query.fetch.take() {
        // FETCH FIRST ROW ONLY, without a number, is one row.
        Some(Fetch { with_ties: false, percent: false, quantity }) => {
            quantity.unwrap_or_else(|| Expr::Value(Value::Number("1".to_owned(), false).with_empty_span()))
        }
        other => {
            query.fetch = other;
            if let Some(LimitClause::LimitOffset { offset: place, .. }) = &mut query.limit_clause {
                *place = offset;
            }
            return;
        }
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(limit), offset, limit_by: Vec::new() });
}

fn chain_length(mut expr: &Expr, wanted: &BinaryOperator) -> usize {
    let mut length = 0;
    while let Expr::BinaryOp { left, op, .. } = expr
        && op == wanted
    {
        length += 1;
        expr = left;
    }
    length
}

/// Takes the chain apart from its end, and puts its operands together again, in order, neighbours first.
fn balance(expr: &mut Expr, wanted: &BinaryOperator) {
    let nothing = || Expr::Value(Value::Null.with_empty_span());
    let mut operands = Vec::new();
    let mut rest = std::mem::replace(expr, nothing());
    loop {
        match rest {
            Expr::BinaryOp { left, op, right } if op == *wanted => {
                operands.push(*right);
                rest = *left;
            }
            first => {
                operands.push(first);
                break;
            }
        }
    }
    operands.reverse();
    while operands.len() > 1 {
        let mut pairs = Vec::with_capacity(operands.len().div_ceil(2));
        let mut singles = operands.into_iter();
        while let Some(left) = singles.next() {
            pairs.push(match singles.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: wanted.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = pairs;
    }
    if let Some(whole) = operands.pop() {
        *expr = whole;
    }
}

#[cfg(test)]
mod tests;
