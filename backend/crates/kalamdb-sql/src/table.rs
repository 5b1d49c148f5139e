//! CREATE TABLE.

use kalamdb_commons::schema::{FlushPolicy, TableKind};
use kalamdb_commons::system_columns::ID;
use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{Error, Result};
use sqlparser::tokenizer::{Token, Word};

use crate::column::{self, Constraint};
use crate::cursor::{Cursor, first_duplicate};
use crate::options::TableOptionSet;
use crate::statement::{ColumnDef, CreateTable, KeyDef};

/// CREATE TABLE, from the name on.
pub(crate) fn create(cursor: &mut Cursor<'_>, kind: Option<TableKind>) -> Result<CreateTable> {
    cursor.call("CREATE TABLE");
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.table_name("a table name")?;
    let mut table = CreateTable {
        kind,
        if_not_exists,
        name,
        columns: Vec::new(),
        primary_key: None,
        uniques: Vec::new(),
        checks: Vec::new(),
        options: TableOptionSet::default(),
        as_query: None,
    };
    let parentheses = cursor.accept_token(&Token::LParen);
    if parentheses {
        columns(cursor, &mut table)?;
    }
    clauses(cursor, &mut table)?;
    table.kind = one_kind(table.kind, table.options.kind)?;
    match (parentheses, &table.as_query) {
        (false, None) => return Err(cursor.unexpected("'(' and the columns of the table, or AS and a query")),
        (true, Some(_)) => return Err(cursor.not_implemented("a list of columns together with AS in CREATE TABLE")),
        (true, None) => check_names(&mut table)?,
        (false, Some(_)) => {}
    }
    Ok(table)
}

fn columns(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<()> {
    loop {
        if column::begins_constraint(cursor) {
            match column::constraint(cursor)? {
                Constraint::PrimaryKey(key) => set_primary_key(cursor, table, key)?,
                Constraint::Unique(key) => table.uniques.push(key),
                Constraint::Check(check) => table.checks.push(check),
            }
        } else {
            let column::Column { definition, primary_key, unique } = column::column(cursor)?;
            if let Some(key) = primary_key {
                set_primary_key(cursor, table, key)?;
            }
            table.uniques.extend(unique);
            table.checks.extend(definition.checks.iter().cloned());
            table.columns.push(definition);
        }
        if !cursor.accept_token(&Token::Comma) {
            return cursor.expect_token(&Token::RParen);
        }
    }
}

fn set_primary_key(cursor: &Cursor<'_>, table: &mut CreateTable, key: KeyDef) -> Result<()> {
    match table.primary_key.replace(key) {
        None => Ok(()),
        Some(_) => Err(cursor.invalid(format!(
            "table '{}' has two primary keys; one over several columns is written PRIMARY KEY (a, b)",
            table.name
        ))),
    }
}

/// What follows the columns, in any order; AS is the last.
fn clauses(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Result<()> {
    while !cursor.at_end() {
        if cursor.sees("WITH") && *cursor.peek_at(1) == Token::LParen {
            cursor.skip();
            with(cursor, &mut table.options)?;
        } else if cursor.accept("FLUSH") {
            let policy = flush_clause(cursor)?;
            unset(cursor, "FLUSH_POLICY", table.options.flush.replace(policy).is_none())?;
        } else if cursor.accept("TTL") {
            let seconds = seconds(cursor, "TTL")?;
            unset(cursor, "TTL_SECONDS", table.options.ttl_seconds.is_none())?;
            table.options.set("TTL_SECONDS", &seconds.to_string())?;
        } else if cursor.accept("AS") {
            table.as_query = Some(cursor.query()?);
            if cursor.sees("WITH") {
                return Err(cursor.not_implemented("WITH [NO] DATA"));
            }
            return cursor.end();
        } else {
            return Err(cursor.surplus());
        }
    }
    Ok(())
}

fn unset(cursor: &Cursor<'_>, option: &str, first: bool) -> Result<()> {
    if first { Ok(()) } else { Err(cursor.invalid(format!("the option {option} is set twice"))) }
}

/// `(option = value, ...)`: the options of a table.
pub(crate) fn with(cursor: &mut Cursor<'_>, options: &mut TableOptionSet) -> Result<()> {
    cursor.expect_token(&Token::LParen)?;
    let mut names = Vec::new();
    if *cursor.peek() != Token::RParen {
        cursor.list(|cursor| {
            let (name, value) = option(cursor)?;
            options_conflict(cursor, options, &name, &names)?;
            options.set(&name, &value)?;
            names.push(name);
            Ok(())
        })?;
    }
    cursor.expect_token(&Token::RParen)
}

fn options_conflict(cursor: &Cursor<'_>, options: &TableOptionSet, name: &str, names: &[String]) -> Result<()> {
    let by_clause =
        (name == "FLUSH_POLICY" && options.flush.is_some()) || (name == "TTL_SECONDS" && options.ttl_seconds.is_some());
    unset(cursor, name, !by_clause && !names.iter().any(|before| before == name))
}

/// `name = value`: the name in upper case, the value as text.
fn option(cursor: &mut Cursor<'_>) -> Result<(String, String)> {
    let name = match cursor.peek() {
        Token::Word(Word { value, .. }) | Token::SingleQuotedString(value) => value.to_ascii_uppercase(),
        _ => return Err(cursor.unexpected("the name of an option")),
    };
    cursor.skip();
    cursor.expect_token(&Token::Eq)?;
    Ok((name, option_value(cursor)?))
}

/// The value of an option: a string, a number with or without a sign, or a word.
pub(crate) fn option_value(cursor: &mut Cursor<'_>) -> Result<String> {
    let sign = if cursor.accept_token(&Token::Minus) { "-" } else { "" };
    let value = match cursor.peek() {
        Token::Number(digits, _) => format!("{sign}{digits}"),
        Token::Word(Word { value, .. }) if sign.is_empty() => value.clone(),
        Token::SingleQuotedString(_) if sign.is_empty() => return cursor.string("a value"),
        _ => return Err(cursor.unexpected("a string, a number or a word")),
    };
    cursor.skip();
    Ok(value)
}

/// `ROW_THRESHOLD n INTERVAL Ss`, either part alone, in either order.
fn flush_clause(cursor: &mut Cursor<'_>) -> Result<FlushPolicy> {
    let mut policy = FlushPolicy::default();
    loop {
        if policy.rows.is_none() && cursor.accept("ROW_THRESHOLD") {
            policy.rows = Some(positive(cursor, "ROW_THRESHOLD", |cursor| cursor.whole_number("a number of rows"))?);
        } else if policy.interval_seconds.is_none() && cursor.accept("INTERVAL") {
            policy.interval_seconds = Some(positive(cursor, "INTERVAL", |cursor| seconds(cursor, "INTERVAL"))?);
        } else if policy == FlushPolicy::default() {
            return Err(cursor.unexpected("ROW_THRESHOLD n or INTERVAL n"));
        } else {
            return Ok(policy);
        }
    }
}

fn positive<'a>(cursor: &mut Cursor<'a>, what: &str, read: impl FnOnce(&mut Cursor<'a>) -> Result<u64>) -> Result<u64> {
    match read(cursor)? {
        0 => Err(Error::invalid_input(format!("{what} cannot be 0; it is a whole number from 1"))),
        number => Ok(number),
    }
}

/// `60`, `60s`, `5m`, `1h`, `1d`, in quotes or not, or `60 SECONDS` and its like: a number of seconds.
fn seconds(cursor: &mut Cursor<'_>, what: &str) -> Result<u64> {
    let expected = "a number of seconds, such as 60, 60s, 5m, 1h or 1d";
    let bad = |text: &str| {
        let shown: String = text.chars().take(64).collect();
        Error::invalid_input(format!("{what} cannot be '{shown}'; it is {expected}"))
    };
    let (number, unit) = match cursor.peek() {
        Token::SingleQuotedString(text) => {
            let text = text.trim();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            (number.parse().map_err(|_| bad(text))?, unit.trim().to_ascii_uppercase())
        }
        Token::Number(..) => {
            let number = cursor.whole_number(expected)?;
            let unit = cursor.peek_word().filter(|word| unit_seconds(word).is_some()).unwrap_or_default();
            if unit.is_empty() {
                return Ok(number);
            }
            (number, unit)
        }
        _ => return Err(cursor.unexpected(expected)),
    };
    cursor.skip();
    let unit = if unit.is_empty() { Some(1) } else { unit_seconds(&unit) };
    unit.and_then(|unit| unit.checked_mul(number)).ok_or_else(|| bad(&format!("{number}")))
}

fn unit_seconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "S" | "SEC" | "SECOND" | "SECONDS" => 1,
        "M" | "MIN" | "MINUTE" | "MINUTES" => 60,
        "H" | "HOUR" | "HOURS" => 3_600,
        "D" | "DAY" | "DAYS" => 86_400,
        _ => return None,
    })
}

fn one_kind(keyword: Option<TableKind>, option: Option<TableKind>) -> Result<Option<TableKind>> {
    match (keyword, option) {
        (Some(keyword), Some(option)) if keyword != option => Err(Error::invalid_sql(format!(
            "the table is {} by its keyword and {} by its option TYPE",
            keyword.as_str().to_uppercase(),
            option.as_str().to_uppercase()
        ))),
        (keyword, option) => Ok(keyword.or(option)),
    }
}

/// Names fit together: columns differ, and keys and options name columns that there are.
fn check_names(table: &mut CreateTable) -> Result<()> {
    let names: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    if names.is_empty() {
        return Err(Error::invalid_sql(format!("table '{}' has no columns", table.name)));
    }
    if let Some(twice) = first_duplicate(&names) {
        return Err(Error::invalid_sql(format!("column '{twice}' is declared twice in table '{}'", table.name)));
    }
    if let Some(key) = &table.primary_key {
        for name in &key.columns {
            let column = key_column(&mut table.columns, "PRIMARY KEY", name)?;
            column.nullable = false;
        }
    }
    for name in table.uniques.iter().flat_map(|key| &key.columns) {
        key_column(&mut table.columns, "UNIQUE", name)?;
    }
    for name in table.options.bloom_filter_columns.iter().flatten() {
        column_of(&mut table.columns, "BLOOM_FILTER_COLUMNS", name)?;
    }
    for name in table.options.bloom_filter_off.iter().flatten().filter(|name| *name != ID) {
        column_of(&mut table.columns, "BLOOM_FILTER_OFF", name)?;
    }
    Ok(())
}

fn key_column<'t>(columns: &'t mut [ColumnDef], by: &str, name: &str) -> Result<&'t mut ColumnDef> {
    let column = column_of(columns, by, name)?;
    if !column.column_type.can_be_key() {
        return Err(not_a_key(by, name, column.column_type));
    }
    Ok(column)
}

/// The refusal of a key over a type that cannot be one.
pub(crate) fn not_a_key(by: &str, name: &str, column_type: ColumnType) -> Error {
    Error::invalid_sql(format!("column '{name}' is {column_type}, which cannot be part of a {by}"))
}

fn column_of<'t>(columns: &'t mut [ColumnDef], by: &str, name: &str) -> Result<&'t mut ColumnDef> {
    let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).take(64).collect();
    let unknown = Error::invalid_sql(format!(
        "{by} names the column '{name}', which is not declared; there are {}",
        known.join(", ")
    ));
    columns.iter_mut().find(|column| column.name == name).ok_or(unknown)
}

#[cfg(test)]
mod tests;
