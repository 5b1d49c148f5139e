//! Columns and constraints: what CREATE TABLE has between its parentheses, and ALTER TABLE adds.

use std::ops::ControlFlow;

use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{Error, Result};
use sqlparser::ast::{Expr, Query, Value, ValueWithSpan, Visit, Visitor};
use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::expr::quote;
use crate::statement::{CheckDef, ColumnDef, KeyDef};
use crate::types::{TypeName, type_name};

/// What AUTO_INCREMENT and SERIAL are stored as.
const SNOWFLAKE_DEFAULT: &str = "SNOWFLAKE_ID()";

/// A column's type, its own constraints, and what they are called.
pub(crate) struct Column {
    /// The column.
    pub(crate) definition: ColumnDef,
    /// PRIMARY KEY of the column.
    pub(crate) primary_key: Option<KeyDef>,
    /// UNIQUE of the column.
    pub(crate) unique: Option<KeyDef>,
}

/// A constraint of the table.
pub(crate) enum Constraint {
    /// PRIMARY KEY (columns).
    PrimaryKey(KeyDef),
    /// UNIQUE (columns).
    Unique(KeyDef),
    /// CHECK (expression).
    Check(CheckDef),
}

/// What was said of a column so far.
#[derive(Default)]
struct Said {
    nullable: Option<bool>,
    default: Option<String>,
    increments: bool,
    primary_key: Option<KeyDef>,
    unique: Option<KeyDef>,
    checks: Vec<CheckDef>,
}

/// `name type [constraint ...]`.
pub(crate) fn column(cursor: &mut Cursor<'_>) -> Result<Column> {
    let name = cursor.identifier("a column name")?;
    if matches!(cursor.peek(), Token::Comma | Token::RParen | Token::EOF) {
        return Err(cursor.invalid(format!("column '{name}' has no type")));
    }
    let written = type_name(&cursor.data_type()?).map_err(|error| error.context(format!("column '{name}'")))?;
    let mut said = Said::default();
    while !matches!(cursor.peek(), Token::Comma | Token::RParen | Token::EOF) {
        column_constraint(cursor, &name, &mut said)?;
    }
    assemble(cursor, name, written, said)
}

fn column_constraint(cursor: &mut Cursor<'_>, column: &str, said: &mut Said) -> Result<()> {
    let name = constraint_name(cursor)?;
    if cursor.accept_all(&["NOT", "NULL"]) {
        set_nullable(cursor, column, said, false)
    } else if cursor.accept("NULL") {
        set_nullable(cursor, column, said, true)
    } else if cursor.accept("DEFAULT") {
        let text = default_text(cursor)?;
        once(cursor, column, "DEFAULT", said.default.replace(text).is_none())
    } else if cursor.accept("AUTO_INCREMENT") || cursor.accept("AUTOINCREMENT") {
        once(cursor, column, "AUTO_INCREMENT", !std::mem::replace(&mut said.increments, true))
    } else if cursor.accept_all(&["PRIMARY", "KEY"]) {
        let key = KeyDef { name, columns: vec![column.to_owned()] };
        once(cursor, column, "PRIMARY KEY", said.primary_key.replace(key).is_none())
    } else if cursor.accept("UNIQUE") {
        let key = KeyDef { name, columns: vec![column.to_owned()] };
        once(cursor, column, "UNIQUE", said.unique.replace(key).is_none())
    } else if cursor.accept("CHECK") {
        said.checks.push(CheckDef { name, expression: check_text(cursor)? });
        Ok(())
    } else if cursor.sees("REFERENCES") {
        Err(cursor.not_implemented("REFERENCES (a foreign key)"))
    } else if cursor.sees("GENERATED") || cursor.sees("AS") {
        Err(cursor.not_implemented("a generated column"))
    } else if cursor.sees_at(1, "UPDATE") && cursor.sees("ON") {
        Err(cursor.not_implemented("ON UPDATE of a column"))
    } else if cursor.sees("ON") {
        Err(cursor.not_implemented("ON CONFLICT of a constraint"))
    } else {
        Err(column_surplus(cursor))
    }
}

fn column_surplus(cursor: &Cursor<'_>) -> Error {
    match cursor.peek_word() {
        Some(word) => cursor.not_implemented(&format!("{word} after a column's type")),
        None => cursor.unexpected("a constraint, ',' or ')'"),
    }
}

fn constraint_name(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.accept("CONSTRAINT") { cursor.identifier("a constraint name").map(Some) } else { Ok(None) }
}

fn once(cursor: &Cursor<'_>, column: &str, what: &str, first: bool) -> Result<()> {
    if first { Ok(()) } else { Err(cursor.invalid(format!("column '{column}' has {what} twice"))) }
}

fn set_nullable(cursor: &Cursor<'_>, column: &str, said: &mut Said, nullable: bool) -> Result<()> {
    if said.nullable.replace(nullable).is_some_and(|before| before != nullable) {
        return Err(cursor.invalid(format!("column '{column}' is both NULL and NOT NULL")));
    }
    Ok(())
}

fn assemble(cursor: &Cursor<'_>, name: String, written: TypeName, said: Said) -> Result<Column> {
    let TypeName { column_type, length, serial } = written;
    let Said { nullable, default, increments, primary_key, unique, mut checks } = said;
    let increments = increments || serial;
    if increments && column_type != ColumnType::BigInt {
        return Err(cursor.invalid(format!(
            "column '{name}' is {column_type}; AUTO_INCREMENT needs BIGINT, because a Snowflake id has 64 bits"
        )));
    }
    if increments && default.is_some() {
        return Err(cursor.invalid(format!("column '{name}' has both AUTO_INCREMENT and DEFAULT")));
    }
    if nullable == Some(true) && (increments || primary_key.is_some()) {
        return Err(cursor.invalid(format!("column '{name}' is a key or AUTO_INCREMENT and cannot be NULL")));
    }
    if let Some(length) = length {
        checks.insert(0, length_check(&name, length));
    }
    let definition = ColumnDef {
        nullable: nullable.unwrap_or(!increments && primary_key.is_none()),
        default: if increments { Some(SNOWFLAKE_DEFAULT.to_owned()) } else { default },
        unique: unique.is_some(),
        primary_key: primary_key.is_some(),
        checks,
        column_type,
        name,
    };
    Ok(Column { definition, primary_key, unique })
}

/// `VARCHAR(n)` is TEXT with a check. (The name is what PostgreSQL would choose for a check of the column.)
fn length_check(column: &str, length: u64) -> CheckDef {
    CheckDef {
        name: Some(format!("{column}_length")),
        expression: format!("char_length({}) <= {length}", quote(column)),
    }
}

/// Whether the next word begins a constraint of the table, not a column.
pub(crate) fn begins_constraint(cursor: &Cursor<'_>) -> bool {
    let followed_by = |words: &[&str]| words.iter().any(|word| cursor.sees_at(1, word));
    match cursor.peek_word().as_deref() {
        Some("CONSTRAINT" | "UNIQUE" | "CHECK" | "FOREIGN" | "PRIMARY" | "LIKE") => true,
        Some("EXCLUDE") => *cursor.peek_at(1) == Token::LParen || followed_by(&["USING"]),
        Some("INDEX" | "KEY" | "FULLTEXT" | "SPATIAL" | "PERIOD") => {
            *cursor.peek_at(1) == Token::LParen || followed_by(&["INDEX", "KEY", "FOR"])
        }
        _ => false,
    }
}

/// `[CONSTRAINT name] PRIMARY KEY (...) | UNIQUE (...) | CHECK (...)`.
pub(crate) fn constraint(cursor: &mut Cursor<'_>) -> Result<Constraint> {
    let name = constraint_name(cursor)?;
    let constraint = if cursor.accept_all(&["PRIMARY", "KEY"]) {
        Constraint::PrimaryKey(KeyDef { name, columns: cursor.columns()? })
    } else if cursor.accept("UNIQUE") {
        if cursor.sees("NULLS") {
            return Err(cursor.not_implemented("UNIQUE NULLS [NOT] DISTINCT"));
        }
        Constraint::Unique(KeyDef { name, columns: cursor.columns()? })
    } else if cursor.accept("CHECK") {
        Constraint::Check(CheckDef { name, expression: check_text(cursor)? })
    } else {
        let what = match cursor.peek_word().as_deref() {
            Some("FOREIGN") => "FOREIGN KEY",
            Some("LIKE") => "LIKE in CREATE TABLE",
            Some("EXCLUDE") => "EXCLUDE",
            Some("INDEX" | "KEY" | "FULLTEXT" | "SPATIAL") => "an index in CREATE TABLE; use CREATE INDEX, it",
            Some("PERIOD") => "PERIOD",
            _ => return Err(cursor.unexpected("PRIMARY KEY, UNIQUE or CHECK")),
        };
        return Err(cursor.not_implemented(what));
    };
    if !matches!(cursor.peek(), Token::Comma | Token::RParen) {
        return Err(match cursor.peek_word() {
            Some(word) => cursor.not_implemented(&format!("{word} after a constraint")),
            None => cursor.unexpected("',' or ')'"),
        });
    }
    Ok(constraint)
}

/// The text of a default: an expression without columns, parameters and subqueries.
pub(crate) fn default_text(cursor: &mut Cursor<'_>) -> Result<String> {
    let before = cursor.position();
    let expr = cursor.expr()?;
    if let Some(found) = foreign_to_default(&expr) {
        return Err(cursor.invalid(format!("a DEFAULT cannot use {found}")));
    }
    Ok(cursor.text_since(before))
}

/// The text between the parentheses of CHECK: an expression without parameters and subqueries.
fn check_text(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.expect_token(&Token::LParen)?;
    let before = cursor.position();
    let expr = cursor.expr()?;
    if let Some(found) = (Unfit { columns: false }).find(&expr) {
        return Err(cursor.invalid(format!("a CHECK cannot use {found}")));
    }
    let text = cursor.text_since(before);
    cursor.expect_token(&Token::RParen)?;
    Ok(text)
}

fn foreign_to_default(expr: &Expr) -> Option<&'static str> {
    Unfit { columns: true }.find(expr)
}

/// Looks for what a stored expression cannot have.
struct Unfit {
    /// Whether it cannot have columns either.
    columns: bool,
}

impl Unfit {
    fn find(mut self, expr: &Expr) -> Option<&'static str> {
        match expr.visit(&mut self) {
            ControlFlow::Break(found) => Some(found),
            ControlFlow::Continue(()) => None,
        }
    }
}

impl Visitor for Unfit {
    type Break = &'static str;

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<&'static str> {
        ControlFlow::Break("a subquery")
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<&'static str> {
        match expr {
            Expr::Collate { .. } => ControlFlow::Break("COLLATE, which is not implemented"),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.columns => {
                ControlFlow::Break("a column; text is written in single quotes")
            }
            Expr::Function(function) if function.over.is_some() => ControlFlow::Break("a window function"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<&'static str> {
        match value.value {
            Value::Placeholder(_) => ControlFlow::Break("a parameter"),
            _ => ControlFlow::Continue(()),
        }
    }
}
