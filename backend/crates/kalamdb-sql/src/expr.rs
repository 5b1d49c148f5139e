//! Questions about expressions, for whoever carries a statement out.

use std::ops::ControlFlow;

use kalamdb_commons::{Error, Result};
use sqlparser::ast::{BinaryOperator, Expr, Ident, UnaryOperator, Value, ValueWithSpan, Visit, Visitor};

use crate::complexity;
use crate::cursor::Cursor;
use crate::dialect::KalamDialect;
use crate::source::{self, Source};

/// Whether the expression is the bare word DEFAULT, which INSERT and UPDATE allow in the place of a value.
pub fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(Ident { value, quote_style: None, .. }) if value.eq_ignore_ascii_case("default"))
}

/// Whether the expression is a literal, `$n`, or one of them behind a sign or in parentheses: its value needs no row
/// and no evaluation.
pub fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(inner) => is_constant(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            matches!(&**expr, Expr::Value(value) if matches!(value.value, Value::Number(..) | Value::Placeholder(_)))
        }
        _ => false,
    }
}

/// The columns and constants of a filter that is nothing but a conjunction of `column = constant`, either way round
/// and in any parentheses: what a lookup by key can answer. `None` for every other filter, and where a column comes
/// twice. Columns are bare names; a filter that writes `t.id` is `None`.
pub fn as_key_equality(filter: &Expr) -> Option<Vec<(String, &Expr)>> {
    let mut found = Vec::new();
    collect_equalities(filter, &mut found)?;
    Some(found)
}

fn collect_equalities<'a>(filter: &'a Expr, found: &mut Vec<(String, &'a Expr)>) -> Option<()> {
    match filter {
        Expr::Nested(inner) => collect_equalities(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            collect_equalities(left, found)?;
            collect_equalities(right, found)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (name, value) = match (as_column(left), as_column(right)) {
                (Some(name), None) if is_constant(right) => (name, &**right),
                (None, Some(name)) if is_constant(left) => (name, &**left),
                _ => return None,
            };
            if found.iter().any(|(other, _)| *other == name) {
                return None;
            }
            found.push((name, value));
            Some(())
        }
        _ => None,
    }
}

/// The folded name, if the expression is a column by its bare name.
pub fn as_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) if !is_default(expr) => Some(fold(ident)),
        Expr::Nested(inner) => as_column(inner),
        _ => None,
    }
}

/// The folded name, if the expression is a column, qualified or not. What qualifies it is for whoever knows the tables.
pub fn as_any_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        Expr::Nested(inner) => as_any_column(inner),
        _ => as_column(expr),
    }
}

/// The name of a selected expression that is given none: a column's own, whatever qualifies it, and otherwise its text.
pub fn output_name(expr: &Expr) -> String {
    let column = if matches!(expr, Expr::Nested(_)) { None } else { as_any_column(expr) };
    column.unwrap_or_else(|| expr.to_string())
}

/// The name that an identifier means: unquoted ones in lower case, quoted ones as written.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// A name as SQL text that means exactly it.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The number of `$n`, if the expression is one.
pub fn as_parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => source::parameter(name).ok(),
        Expr::Nested(inner) => as_parameter(inner),
        _ => None,
    }
}

/// Whether `$n` is anywhere within.
pub fn has_parameter(tree: &impl Visit) -> bool {
    struct Parameters;

    impl Visitor for Parameters {
        type Break = ();

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
            match value.value {
                Value::Placeholder(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    tree.visit(&mut Parameters).is_break()
}

/// Reads one expression, such as a default or check of the catalog.
pub fn parse(text: &str) -> Result<Expr> {
    let source = Source::new(text);
    let mut statements = source::statements(text)?;
    let (Some(tokens), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Error::invalid_sql("expected one expression"));
    };
    complexity::check(&tokens)?;
    let dialect = KalamDialect::new(tokens.len());
    let mut cursor = Cursor::new(&source, &dialect, tokens);
    cursor.call("the expression");
    let expr = cursor.expr()?;
    cursor.end()?;
    Ok(expr)
}

#[cfg(test)]
mod tests;
