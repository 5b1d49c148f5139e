//! SHOW, DESCRIBE, USE, FLUSH, STORAGE, CHECK TABLE, BACKUP, RESTORE, SUBSCRIBE and KILL.

use kalamdb_commons::Result;
use sqlparser::tokenizer::{Token, Word};

use crate::cursor::Cursor;
use crate::statement::{
    Backup, CheckTable, Chore, Compact, Flush, Restore, Show, Statement, StorageTarget, TableName, Tidy,
};
use crate::storages;

/// SHOW, after the word.
pub(crate) fn show(cursor: &mut Cursor<'_>) -> Result<Show> {
    cursor.call("SHOW");
    if cursor.accept("TABLES") {
        let namespace = if accepts_in(cursor) { Some(cursor.identifier("a namespace name")?) } else { None };
        return Ok(Show::Tables { namespace });
    }
    if cursor.accept("NAMESPACES") || cursor.accept("SCHEMAS") || cursor.accept("DATABASES") {
        return Ok(Show::Namespaces);
    }
    if cursor.accept("STORAGES") {
        return Ok(Show::Storages);
    }
    if cursor.accept("COLUMNS") {
        if !accepts_in(cursor) {
            return Err(cursor.unexpected("IN or FROM and a table"));
        }
        return show_columns(cursor);
    }
    if cursor.accept("ALL") {
        return Ok(Show::All);
    }
    if cursor.accept("MANIFEST") {
        if cursor.accept("CACHE") {
            return Ok(Show::ManifestCache);
        }
        let said = cursor.accept("FOR") || accepts_in(cursor);
        let table = if said { Some(table(cursor)?) } else { None };
        return Ok(Show::Manifest { table });
    }
    if cursor.accept("STATS") {
        cursor.expect("FOR")?;
        cursor.expect("TABLE")?;
        return Ok(Show::StatsForTable { table: cursor.table_name("a table name")? });
    }
    Err(match cursor.peek_word() {
        Some(word) => cursor.not_implemented(&format!("SHOW {word}")),
        None => cursor.unexpected("TABLES, NAMESPACES, STORAGES, COLUMNS, ALL, MANIFEST or STATS"),
    })
}

/// `t [IN ns]`.
fn show_columns(cursor: &mut Cursor<'_>) -> Result<Show> {
    let mut table = table(cursor)?;
    if accepts_in(cursor) {
        let namespace = cursor.identifier("a namespace name")?;
        if table.namespace.replace(namespace).is_some() {
            return Err(cursor.invalid("the namespace is said twice"));
        }
    }
    Ok(Show::Columns { table })
}

fn accepts_in(cursor: &mut Cursor<'_>) -> bool {
    cursor.accept("IN") || cursor.accept("FROM")
}

/// `[TABLE] t`.
fn table(cursor: &mut Cursor<'_>) -> Result<TableName> {
    let _ = cursor.accept("TABLE");
    cursor.table_name("a table name")
}

/// DESCRIBE, after the word.
pub(crate) fn describe(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("DESCRIBE");
    Ok(Statement::Describe { table: table(cursor)? })
}

/// USE, after the word.
pub(crate) fn use_namespace(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("USE");
    let said = ["NAMESPACE", "SCHEMA", "DATABASE"].iter().any(|word| cursor.sees(word));
    if said && matches!(cursor.peek_at(1), Token::Word(_)) {
        cursor.skip();
    }
    Ok(Statement::Use { namespace: cursor.identifier("a namespace name")? })
}

/// STORAGE, after the word.
pub(crate) fn storage(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.accept("FLUSH") {
        cursor.call("STORAGE FLUSH");
        return flush(cursor);
    }
    if cursor.accept("COMPACT") {
        cursor.call("STORAGE COMPACT");
        let target = storage_target(cursor)?;
        return Ok(Statement::Compact(Compact { target, wait: cursor.accept("WAIT") }));
    }
    if cursor.accept("EVICT") {
        cursor.call("STORAGE EVICT MANIFESTS");
        cursor.expect("MANIFESTS")?;
        return Ok(Statement::Tidy(Tidy { chore: Chore::EvictManifests, wait: cursor.accept("WAIT") }));
    }
    if cursor.accept("REMOVE") {
        cursor.call("STORAGE REMOVE ORPHANS");
        cursor.expect("ORPHANS")?;
        return Ok(Statement::Tidy(Tidy { chore: Chore::RemoveOrphans, wait: cursor.accept("WAIT") }));
    }
    if cursor.accept("CHECK") {
        return storages::check(cursor);
    }
    Err(match cursor.peek_word() {
        Some(word) => cursor.not_implemented(&format!("STORAGE {word}")),
        None => cursor.unexpected("FLUSH, COMPACT, EVICT, REMOVE or CHECK"),
    })
}

/// FLUSH, after the word: a target, `[WAIT]`.
pub(crate) fn flush(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let target = storage_target(cursor)?;
    Ok(Statement::Flush(Flush { target, wait: cursor.accept("WAIT") }))
}

/// `TABLE t`, `ALL [TABLES] [IN ns]`.
fn storage_target(cursor: &mut Cursor<'_>) -> Result<StorageTarget> {
    if cursor.accept("TABLE") {
        return Ok(StorageTarget::Table(cursor.table_name("a table name")?));
    }
    if !cursor.accept("ALL") {
        return Err(cursor.unexpected("TABLE or ALL"));
    }
    let _ = cursor.accept("TABLES");
    if !cursor.accept("IN") {
        return Ok(StorageTarget::All);
    }
    let _ = cursor.sees("NAMESPACE") && matches!(cursor.peek_at(1), Token::Word(_)) && cursor.accept("NAMESPACE");
    Ok(StorageTarget::Namespace(cursor.identifier("a namespace name")?))
}

/// CHECK, after the word: `TABLE t [REPAIR]`.
pub(crate) fn check(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("CHECK TABLE");
    cursor.expect("TABLE")?;
    let table = cursor.table_name("a table name")?;
    Ok(Statement::CheckTable(CheckTable { table, repair: cursor.accept("REPAIR") }))
}

/// BACKUP, after the word: `DATABASE ns TO 'place' [WAIT]`.
pub(crate) fn backup(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("BACKUP DATABASE");
    let namespace = database(cursor)?;
    cursor.expect("TO")?;
    let to = cursor.string("a directory or a storage, as text")?;
    Ok(Statement::Backup(Backup { namespace, to, wait: cursor.accept("WAIT") }))
}

/// RESTORE, after the word: `DATABASE ns FROM 'place' [WAIT]`.
pub(crate) fn restore(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("RESTORE DATABASE");
    let namespace = database(cursor)?;
    cursor.expect("FROM")?;
    let from = cursor.string("a directory or a storage, as text")?;
    Ok(Statement::Restore(Restore { namespace, from, wait: cursor.accept("WAIT") }))
}

/// `DATABASE ns`.
fn database(cursor: &mut Cursor<'_>) -> Result<String> {
    if !["DATABASE", "NAMESPACE", "SCHEMA"].iter().any(|word| cursor.accept(word)) {
        return Err(cursor.unexpected("DATABASE"));
    }
    cursor.identifier("a namespace name")
}

/// SUBSCRIBE, after the word: `TO ns.t [WHERE ...]`, or `TO SELECT ...`.
pub(crate) fn subscribe(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("SUBSCRIBE TO");
    cursor.expect("TO")?;
    let start = cursor.position();
    if cursor.sees("SELECT") {
        cursor.query()?;
        return Ok(Statement::Subscribe { sql: cursor.text_since(start) });
    }
    cursor.table_name("a table name or a SELECT")?;
    if cursor.accept("WHERE") {
        cursor.expr()?;
    }
    Ok(Statement::Subscribe { sql: format!("SELECT * FROM {}", cursor.text_since(start)) })
}

/// KILL, after the word.
pub(crate) fn kill(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("KILL");
    if cursor.accept("JOB") {
        return Ok(Statement::KillJob { job: id(cursor, "a job id")? });
    }
    if cursor.accept("LIVE") {
        cursor.expect("QUERY")?;
        return Ok(Statement::KillLive { live: id(cursor, "a live id")? });
    }
    Err(match cursor.peek_word() {
        Some(word) => cursor.not_implemented(&format!("KILL {word}")),
        None => cursor.unexpected("JOB or LIVE QUERY"),
    })
}

fn id(cursor: &mut Cursor<'_>, what: &str) -> Result<String> {
    Ok(match cursor.peek() {
        Token::SingleQuotedString(_) => cursor.string(what)?,
        Token::Word(Word { value, quote_style: Some(_), .. }) => {
            let id = value.clone();
            cursor.skip();
            id
        }
        Token::Word(_) | Token::Number(..) => bare_id(cursor),
        _ => return Err(cursor.unexpected(what)),
    })
}

/// `FL-7f3a`: words, numbers and hyphens, as they stand.
fn bare_id(cursor: &mut Cursor<'_>) -> String {
    let before = cursor.position();
    while matches!(cursor.peek(), Token::Word(Word { quote_style: None, .. }) | Token::Number(..) | Token::Minus) {
        cursor.skip();
    }
    cursor.text_since(before)
}

#[cfg(test)]
mod tests;
