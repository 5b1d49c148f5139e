//! Namespaces, indexes and views, and what is dropped and truncated.

use kalamdb_commons::Result;
use kalamdb_commons::schema::TableKind;
use serde_json::Value;
use sqlparser::tokenizer::{Token, Word};

use crate::cursor::{Cursor, first_duplicate};
use crate::statement::{CreateIndex, CreateView, NamespaceOption, Statement, TableName};
use crate::{accounts, alter, expr, storages, table};

/// CREATE, after the word.
pub(crate) fn create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let kinds = [("USER", TableKind::User), ("SHARED", TableKind::Shared), ("STREAM", TableKind::Stream)];
    for (word, kind) in kinds {
        if cursor.accept_all(&[word, "TABLE"]) {
            return table::create(cursor, Some(kind)).map(Statement::CreateTable);
        }
    }
    if cursor.accept("TABLE") {
        return table::create(cursor, None).map(Statement::CreateTable);
    }
    if accepts_namespace(cursor) {
        return create_namespace(cursor);
    }
    if cursor.accept("INDEX") {
        return create_index(cursor).map(Statement::CreateIndex);
    }
    let or_replace = cursor.sees("OR") && cursor.sees_at(1, "REPLACE") && cursor.sees_at(2, "VIEW");
    if or_replace {
        cursor.accept_all(&["OR", "REPLACE"]);
    }
    if cursor.accept("VIEW") {
        return create_view(cursor, or_replace).map(Statement::CreateView);
    }
    if cursor.accept("USER") {
        return accounts::create(cursor);
    }
    if cursor.accept("STORAGE") {
        return storages::create(cursor);
    }
    Err(unknown_object(cursor, "CREATE"))
}

/// ALTER, after the word.
pub(crate) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.accept("TABLE") {
        return alter::table(cursor);
    }
    if accepts_namespace(cursor) {
        return alter_namespace(cursor);
    }
    if cursor.accept("USER") {
        return accounts::alter(cursor);
    }
    if cursor.accept("STORAGE") {
        return storages::alter(cursor);
    }
    Err(unknown_object(cursor, "ALTER"))
}

/// DROP, after the word.
pub(crate) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let kind = ["USER", "SHARED", "STREAM"].iter().any(|kind| cursor.sees(kind)) && cursor.sees_at(1, "TABLE");
    if kind {
        cursor.skip();
    }
    if cursor.accept("TABLE") {
        cursor.call("DROP TABLE");
        let if_exists = cursor.if_exists();
        return Ok(Statement::DropTable { tables: names(cursor, "a table name")?, if_exists });
    }
    if accepts_namespace(cursor) {
        cursor.call("DROP NAMESPACE");
        let if_exists = cursor.if_exists();
        let name = cursor.identifier("a namespace name")?;
        let cascade = cursor.accept("CASCADE");
        // Without CASCADE a namespace that holds anything is refused, which is what RESTRICT asks for.
        let _ = !cascade && cursor.accept("RESTRICT");
        return Ok(Statement::DropNamespace { name, if_exists, cascade });
    }
    if cursor.accept("INDEX") {
        cursor.call("DROP INDEX");
        let if_exists = cursor.if_exists();
        return Ok(Statement::DropIndex { name: cursor.table_name("an index name")?, if_exists });
    }
    if cursor.accept("VIEW") {
        cursor.call("DROP VIEW");
        let if_exists = cursor.if_exists();
        return Ok(Statement::DropView { views: names(cursor, "a view name")?, if_exists });
    }
    if cursor.accept("USER") {
        return accounts::drop(cursor);
    }
    if cursor.accept("STORAGE") {
        return storages::drop(cursor);
    }
    Err(unknown_object(cursor, "DROP"))
}

/// TRUNCATE, after the word.
pub(crate) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("TRUNCATE");
    let _ = cursor.accept("TABLE");
    if cursor.sees("ONLY") {
        return Err(cursor.not_implemented("TRUNCATE ONLY"));
    }
    Ok(Statement::Truncate { tables: names(cursor, "a table name")? })
}

fn names(cursor: &mut Cursor<'_>, what: &str) -> Result<Vec<TableName>> {
    let names = cursor.list(|cursor| cursor.table_name(what))?;
    let shown: Vec<String> = names.iter().map(TableName::to_string).collect();
    match first_duplicate(&shown) {
        Some(twice) => Err(cursor.invalid(format!("'{twice}' is named twice"))),
        None => Ok(names),
    }
}

fn unknown_object(cursor: &Cursor<'_>, verb: &str) -> kalamdb_commons::Error {
    match cursor.peek_word() {
        // OR REPLACE, TEMPORARY and the like say more with the word after them.
        Some(word) => {
            let next = match cursor.peek_at(1) {
                Token::Word(Word { value, quote_style: None, .. })
                    if [
                        "OR",
                        "TEMP",
                        "TEMPORARY",
                        "UNIQUE",
                        "EXTERNAL",
                        "MATERIALIZED",
                        "UNLOGGED",
                        "GLOBAL",
                        "LOCAL",
                    ]
                    .contains(&word.as_str()) =>
                {
                    format!(" {}", value.to_ascii_uppercase())
                }
                _ => String::new(),
            };
            let hint = if word == "UNIQUE" { "; declare UNIQUE in CREATE TABLE: it" } else { "" };
            cursor.not_implemented(&format!("{verb} {word}{next}{hint}"))
        }
        None => cursor.unexpected(&format!("TABLE, NAMESPACE, INDEX, VIEW or USER after {verb}")),
    }
}

/// NAMESPACE, or what other databases call it.
fn accepts_namespace(cursor: &mut Cursor<'_>) -> bool {
    cursor.accept("NAMESPACE") || cursor.accept("SCHEMA")
}

fn create_namespace(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("CREATE NAMESPACE");
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.identifier("a namespace name")?;
    let said = cursor.accept("WITH") || cursor.accept("OPTIONS");
    let options = if said { namespace_options(cursor)? } else { Vec::new() };
    Ok(Statement::CreateNamespace { name, if_not_exists, options })
}

fn alter_namespace(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("ALTER NAMESPACE");
    let name = cursor.identifier("a namespace name")?;
    if !cursor.sees("SET") {
        return Err(match cursor.peek_word() {
            Some(word) => cursor.not_implemented(&format!("ALTER NAMESPACE ... {word}")),
            None => cursor.unexpected("SET"),
        });
    }
    cursor.skip();
    let _ = cursor.accept("OPTIONS");
    Ok(Statement::AlterNamespace { name, options: namespace_options(cursor)? })
}

/// `(key = value, ...)`, each key once.
fn namespace_options(cursor: &mut Cursor<'_>) -> Result<Vec<NamespaceOption>> {
    cursor.expect_token(&Token::LParen)?;
    let options = cursor.list(|cursor| {
        let key = if matches!(cursor.peek(), Token::SingleQuotedString(_)) {
            cursor.string("a key")?
        } else {
            cursor.identifier("a key")?
        };
        cursor.expect_token(&Token::Eq)?;
        Ok((key, namespace_value(cursor)?))
    })?;
    cursor.expect_token(&Token::RParen)?;
    let keys: Vec<String> = options.iter().map(|(key, _)| key.clone()).collect();
    match first_duplicate(&keys) {
        Some(twice) => Err(cursor.invalid(format!("the option '{twice}' is set twice"))),
        None => Ok(options),
    }
}

fn namespace_value(cursor: &mut Cursor<'_>) -> Result<Value> {
    let word = cursor.peek_word();
    let bare = !matches!(cursor.peek(), Token::SingleQuotedString(_));
    let text = table::option_value(cursor)?;
    Ok(match word.as_deref() {
        Some("TRUE") => Value::Bool(true),
        Some("FALSE") => Value::Bool(false),
        Some("NULL") => Value::Null,
        _ if bare => serde_json::from_str(&text).ok().filter(Value::is_number).unwrap_or(Value::String(text)),
        _ => Value::String(text),
    })
}

fn create_index(cursor: &mut Cursor<'_>) -> Result<CreateIndex> {
    cursor.call("CREATE INDEX");
    if cursor.sees("CONCURRENTLY") {
        return Err(cursor.not_implemented("CREATE INDEX CONCURRENTLY"));
    }
    let if_not_exists = cursor.if_not_exists();
    let name = if cursor.sees("ON") { None } else { Some(cursor.identifier("an index name")?) };
    if name.is_none() && if_not_exists {
        return Err(cursor.unexpected("an index name after IF NOT EXISTS"));
    }
    if *cursor.peek() == Token::Period {
        return Err(cursor.invalid("an index lies in the namespace of its table, and is named without it"));
    }
    cursor.expect("ON")?;
    let table = cursor.table_name("a table name")?;
    if cursor.sees("USING") {
        return Err(cursor.refuse_clause("USING"));
    }
    let columns = index_columns(cursor)?;
    let name = name.unwrap_or_else(|| format!("{}_{}_idx", table.name, columns.join("_")));
    Ok(CreateIndex { name, table, columns, if_not_exists })
}

fn index_columns(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let before = cursor.position();
    match cursor.columns() {
        Ok(columns) => Ok(columns),
        Err(error) => {
            if let Some(word @ ("ASC" | "DESC" | "NULLS" | "COLLATE")) = cursor.peek_word().as_deref() {
                return Err(cursor.refuse_clause(word));
            }
            let call = *cursor.peek() == Token::LParen && cursor.position() > before;
            Err(if call { cursor.not_implemented("an index of an expression") } else { error })
        }
    }
}

fn create_view(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<CreateView> {
    cursor.call("CREATE VIEW");
    let if_not_exists = cursor.if_not_exists();
    if or_replace && if_not_exists {
        return Err(cursor.invalid("CREATE VIEW has either OR REPLACE or IF NOT EXISTS"));
    }
    let name = cursor.table_name("a view name")?;
    let columns = if *cursor.peek() == Token::LParen { cursor.columns()? } else { Vec::new() };
    if cursor.sees("WITH") {
        return Err(cursor.refuse_clause("WITH (options)"));
    }
    cursor.expect("AS")?;
    let before = cursor.position();
    let query = cursor.query()?;
    let query_text = cursor.text_since(before);
    if cursor.sees("WITH") {
        return Err(cursor.not_implemented("WITH CHECK OPTION"));
    }
    if expr::has_parameter(&*query) {
        return Err(cursor.invalid("a view cannot use a parameter"));
    }
    Ok(CreateView { name, or_replace, if_not_exists, columns, query, query_text })
}

#[cfg(test)]
mod tests;
