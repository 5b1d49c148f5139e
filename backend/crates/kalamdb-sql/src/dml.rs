//! INSERT, UPDATE and DELETE.

use kalamdb_commons::{Error, Result};
use sqlparser::ast::{Expr, Ident, UnaryOperator, Value};
use sqlparser::tokenizer::{Span, Token, Word};

use crate::cursor::{Cursor, first_duplicate};
use crate::statement::{ConflictAction, Delete, Insert, InsertSource, OnConflict, TableName, Update};
use crate::subject;

/// Words that can follow the table's name, and are no alias of it.
#[rustfmt::skip]
const NO_ALIAS: &[&str] = &[
    "CROSS", "FOR", "FROM", "INNER", "JOIN", "LEFT", "LIMIT", "ON", "OR", "ORDER", "OUTPUT", "PARTITION", "RETURNING",
    "RIGHT", "SET", "TABLESAMPLE", "USING", "WHERE", "WITH",
];

/// INSERT, after the word.
pub(crate) fn insert(cursor: &mut Cursor<'_>) -> Result<Insert> {
    cursor.call("INSERT");
    for clause in ["OR", "OVERWRITE", "IGNORE", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "ALL", "FIRST"] {
        if cursor.sees(clause) {
            return Err(cursor.not_implemented(&format!("INSERT {clause}")));
        }
    }
    cursor.expect("INTO")?;
    if cursor.sees("TABLE") {
        return Err(cursor.not_implemented("INSERT INTO TABLE"));
    }
    let table = cursor.table_name("a table name")?;
    subject::accept(cursor)?;
    if cursor.sees("AS") {
        return Err(cursor.not_implemented("an alias of the table in INSERT"));
    }
    let columns = if *cursor.peek() == Token::LParen && !begins_query(cursor.peek_at(1)) {
        Some(cursor.columns()?)
    } else {
        None
    };
    let source = insert_source(cursor, columns.as_deref())?;
    let on_conflict = if cursor.accept("ON") { Some(on_conflict(cursor)?) } else { None };
    let returning = returning(cursor)?;
    Ok(Insert { table, columns, source, on_conflict, returning })
}

fn begins_query(token: &Token) -> bool {
    *token == Token::LParen
        || ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| crate::cursor::is_word(token, word))
}

fn insert_source(cursor: &mut Cursor<'_>, columns: Option<&[String]>) -> Result<InsertSource> {
    if cursor.accept_all(&["DEFAULT", "VALUES"]) {
        if columns.is_some() {
            return Err(cursor.invalid("INSERT ... DEFAULT VALUES takes no list of columns"));
        }
        return Ok(InsertSource::DefaultValues);
    }
    if cursor.sees("VALUES") {
        let before = cursor.position();
        cursor.skip();
        let rows = rows(cursor, columns)?;
        if cursor.at_end() || cursor.sees("ON") || cursor.sees("RETURNING") {
            return Ok(InsertSource::Values(rows));
        }
        if rows.iter().flatten().any(crate::expr::is_default) {
            return Err(cursor.surplus());
        }
        cursor.rewind(before);
    }
    if begins_query(cursor.peek()) {
        return Ok(InsertSource::Query(cursor.query()?));
    }
    for clause in ["OVERRIDING", "SET", "PARTITION", "FORMAT", "SETTINGS"] {
        if cursor.sees(clause) {
            return Err(cursor.refuse_clause(clause));
        }
    }
    Err(cursor.unexpected("VALUES, DEFAULT VALUES or a query"))
}

fn rows(cursor: &mut Cursor<'_>, columns: Option<&[String]>) -> Result<Vec<Vec<Expr>>> {
    let mut width = columns.map(<[String]>::len);
    let mut rows: Vec<Vec<Expr>> = Vec::new();
    loop {
        cursor.expect_token(&Token::LParen)?;
        let mut row = Vec::with_capacity(width.unwrap_or(8));
        loop {
            row.push(value(cursor)?);
            if !cursor.accept_token(&Token::Comma) {
                break;
            }
        }
        if *width.get_or_insert(row.len()) != row.len() {
            return Err(uneven(rows.len() + 1, row.len(), columns, rows.first().map(Vec::len)));
        }
        cursor.expect_token(&Token::RParen)?;
        rows.push(row);
        if !cursor.accept_token(&Token::Comma) {
            return Ok(rows);
        }
    }
}

fn uneven(row: usize, values: usize, columns: Option<&[String]>, first: Option<usize>) -> Error {
    let wanted = match (columns, first) {
        (Some(columns), _) => format!("INSERT names {} columns", columns.len()),
        (None, first) => format!("row 1 has {}", first.unwrap_or_default()),
    };
    Error::invalid_sql(format!("row {row} of VALUES has {values} values; {wanted}"))
}

/// A value of VALUES or SET: an expression, or DEFAULT. Literals that fill it alone are made from their token at once,
/// which is what makes large INSERTs fast.
fn value(cursor: &mut Cursor<'_>) -> Result<Expr> {
    if let Some((literal, tokens)) = literal(cursor) {
        for _ in 0..tokens {
            cursor.skip();
        }
        return Ok(literal);
    }
    cursor.expr()
}

/// A literal that ends at a comma, a parenthesis or the end, and the number of its tokens.
fn literal(cursor: &Cursor<'_>) -> Option<(Expr, usize)> {
    let ends = |token: &Token| matches!(token, Token::Comma | Token::RParen | Token::EOF);
    let number = |digits: &String| Expr::Value(Value::Number(digits.clone(), false).with_empty_span());
    let value = match (cursor.peek(), cursor.peek_at(1)) {
        (Token::Minus, Token::Number(digits, false)) if ends(cursor.peek_at(2)) => {
            let expr = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number(digits)) };
            return Some((expr, 2));
        }
        (_, next) if !ends(next) => return None,
        (Token::Number(digits, false), _) => return Some((number(digits), 1)),
        (Token::SingleQuotedString(text), _) => Value::SingleQuotedString(text.clone()),
        (Token::Placeholder(name), _) => Value::Placeholder(name.clone()),
        (Token::Word(Word { value, quote_style: None, .. }), _) => match value.len() {
            4 if value.eq_ignore_ascii_case("NULL") => Value::Null,
            4 if value.eq_ignore_ascii_case("TRUE") => Value::Boolean(true),
            5 if value.eq_ignore_ascii_case("FALSE") => Value::Boolean(false),
            7 if value.eq_ignore_ascii_case("DEFAULT") => {
                let ident = Ident { value: "DEFAULT".to_owned(), quote_style: None, span: Span::empty() };
                return Some((Expr::Identifier(ident), 1));
            }
            _ => return None,
        },
        _ => return None,
    };
    Some((Expr::Value(value.with_empty_span()), 1))
}

fn on_conflict(cursor: &mut Cursor<'_>) -> Result<OnConflict> {
    if cursor.sees("DUPLICATE") {
        return Err(cursor.not_implemented("ON DUPLICATE KEY UPDATE; use ON CONFLICT (key) DO UPDATE, it"));
    }
    cursor.expect("CONFLICT")?;
    if cursor.sees("ON") {
        return Err(cursor.not_implemented("ON CONFLICT ON CONSTRAINT"));
    }
    let target = if *cursor.peek() == Token::LParen { Some(cursor.columns()?) } else { None };
    if cursor.sees("WHERE") {
        return Err(cursor.not_implemented("WHERE in the target of ON CONFLICT"));
    }
    cursor.expect("DO")?;
    if cursor.accept("NOTHING") {
        return Ok(OnConflict { target, action: ConflictAction::DoNothing });
    }
    if target.is_none() {
        return Err(cursor.invalid("ON CONFLICT DO UPDATE must name the columns of a key, as in ON CONFLICT (id)"));
    }
    cursor.expect("UPDATE")?;
    cursor.expect("SET")?;
    let assignments = assignments(cursor)?;
    let filter = filter(cursor)?;
    Ok(OnConflict { target, action: ConflictAction::DoUpdate { assignments, filter } })
}

/// UPDATE, after the word.
pub(crate) fn update(cursor: &mut Cursor<'_>) -> Result<Update> {
    cursor.call("UPDATE");
    for clause in ["OR", "ONLY", "LOW_PRIORITY", "IGNORE"] {
        if cursor.sees(clause) {
            return Err(cursor.not_implemented(&format!("UPDATE {clause}")));
        }
    }
    let (table, alias) = target(cursor)?;
    cursor.expect("SET")?;
    let assignments = assignments(cursor)?;
    if cursor.sees("FROM") {
        return Err(cursor.refuse_clause("FROM"));
    }
    let filter = filter(cursor)?;
    let returning = returning(cursor)?;
    Ok(Update { table, alias, assignments, filter, returning })
}

/// DELETE, after the word.
pub(crate) fn delete(cursor: &mut Cursor<'_>) -> Result<Delete> {
    cursor.call("DELETE");
    cursor.expect("FROM")?;
    if cursor.sees("ONLY") {
        return Err(cursor.not_implemented("DELETE FROM ONLY"));
    }
    let (table, alias) = target(cursor)?;
    let filter = filter(cursor)?;
    let returning = returning(cursor)?;
    Ok(Delete { table, alias, filter, returning })
}

fn target(cursor: &mut Cursor<'_>) -> Result<(TableName, Option<String>)> {
    let table = cursor.table_name("a table name")?;
    subject::accept(cursor)?;
    let said = cursor.accept("AS");
    let alias = match cursor.peek() {
        Token::Word(Word { value, quote_style: None, .. })
            if !said && NO_ALIAS.iter().any(|word| word.eq_ignore_ascii_case(value)) =>
        {
            None
        }
        Token::Word(_) => Some(cursor.identifier("an alias")?),
        _ if said => return Err(cursor.unexpected("an alias")),
        _ => None,
    };
    subject::accept(cursor)?;
    for clause in
        ["USING", "JOIN", "INNER", "LEFT", "RIGHT", "CROSS", "PARTITION", "TABLESAMPLE", "FOR", "WITH", "OUTPUT"]
    {
        if cursor.sees(clause) {
            return Err(cursor.refuse_clause(clause));
        }
    }
    if *cursor.peek() == Token::Comma {
        return Err(cursor.not_implemented("changing several tables in one statement"));
    }
    Ok((table, alias))
}

fn filter(cursor: &mut Cursor<'_>) -> Result<Option<Expr>> {
    if !cursor.accept("WHERE") {
        return Ok(None);
    }
    if cursor.sees("CURRENT") && cursor.sees_at(1, "OF") {
        return Err(cursor.not_implemented("WHERE CURRENT OF"));
    }
    cursor.expr().map(Some)
}

fn returning(cursor: &mut Cursor<'_>) -> Result<Option<Vec<sqlparser::ast::SelectItem>>> {
    if !cursor.accept("RETURNING") {
        return Ok(None);
    }
    cursor.list(Cursor::select_item).map(Some)
}

fn assignments(cursor: &mut Cursor<'_>) -> Result<Vec<(String, Expr)>> {
    let assignments: Vec<(String, Expr)> = cursor.list(assignment)?.into_iter().flatten().collect();
    let names: Vec<String> = assignments.iter().map(|(name, _)| name.clone()).collect();
    match first_duplicate(&names) {
        Some(twice) => Err(cursor.invalid(format!("column '{twice}' is set twice"))),
        None => Ok(assignments),
    }
}

/// `column = value`, or `(columns) = [ROW] (values)`.
fn assignment(cursor: &mut Cursor<'_>) -> Result<Vec<(String, Expr)>> {
    if *cursor.peek() != Token::LParen {
        let column = cursor.identifier("a column name")?;
        if *cursor.peek() == Token::Period {
            return Err(cursor.invalid("SET names columns without their table"));
        }
        if *cursor.peek() == Token::LBracket {
            return Err(cursor.not_implemented("setting a part of a column"));
        }
        cursor.expect_token(&Token::Eq)?;
        return Ok(vec![(column, value(cursor)?)]);
    }
    let columns = cursor.columns()?;
    cursor.expect_token(&Token::Eq)?;
    let _ = cursor.accept("ROW");
    if *cursor.peek() == Token::LParen && begins_query(cursor.peek_at(1)) {
        return Err(cursor.not_implemented("setting several columns from a subquery"));
    }
    cursor.expect_token(&Token::LParen)?;
    let values = cursor.list(value)?;
    cursor.expect_token(&Token::RParen)?;
    if values.len() != columns.len() {
        return Err(cursor.invalid(format!("{} columns are set to {} values", columns.len(), values.len())));
    }
    Ok(columns.into_iter().zip(values).collect())
}

#[cfg(test)]
mod tests;
