//! Which statement it is: the first words decide, and every statement of SQL that is not ours is refused by name.

use kalamdb_commons::{Error, Result};
use sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::statement::Statement;
use crate::{accounts, admin, dml, objects};

/// Statements of SQL and of other databases that are known and not implemented.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "ANALYZE", "ATTACH", "CACHE", "CALL", "CHECKPOINT", "CLOSE", "CLUSTER", "COMMENT", "COPY", "DEALLOCATE",
    "DECLARE", "DENY", "DETACH", "DISCARD", "DO", "EXECUTE", "EXPORT", "FETCH", "GRANT", "IMPORT", "INSTALL", "LISTEN",
    "LOAD", "LOCK", "MERGE", "MOVE", "MSCK", "NOTIFY", "OPEN", "OPTIMIZE", "PRAGMA", "PREPARE", "REASSIGN", "REFRESH",
    "REINDEX", "RELEASE", "RENAME", "REPAIR", "REPLACE", "RESET", "REVOKE", "SAVEPOINT", "SET", "UNCACHE",
    "UNLISTEN", "UNLOAD", "UNLOCK", "UPSERT", "VACUUM",
];

/// Reads the whole of a statement.
pub(crate) fn statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let statement = begin(cursor)?;
    cursor.end()?;
    Ok(statement)
}

fn begin(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if *cursor.peek() == Token::LParen {
        return query(cursor);
    }
    let Some(word) = cursor.peek_word() else {
        return Err(cursor.unexpected("a statement"));
    };
    if matches!(word.as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE") {
        return query(cursor);
    }
    if word == "FROM" {
        return Err(cursor.not_implemented("FROM before SELECT"));
    }
    let unknown = other(cursor, &word);
    cursor.skip();
    Ok(match word.as_str() {
        "INSERT" => Statement::Insert(dml::insert(cursor)?),
        "UPDATE" => Statement::Update(dml::update(cursor)?),
        "DELETE" => Statement::Delete(dml::delete(cursor)?),
        "EXPLAIN" => explain(cursor)?,
        "BEGIN" => transaction(cursor, "BEGIN", Statement::Begin)?,
        "START" => {
            cursor.call("START TRANSACTION");
            cursor.expect("TRANSACTION")?;
            Statement::Begin
        }
        "COMMIT" => transaction(cursor, "COMMIT", Statement::Commit)?,
        "END" => transaction(cursor, "END", Statement::Commit)?,
        "ROLLBACK" => transaction(cursor, "ROLLBACK", Statement::Rollback)?,
        "ABORT" => transaction(cursor, "ABORT", Statement::Rollback)?,
        "CREATE" => objects::create(cursor)?,
        "ALTER" => objects::alter(cursor)?,
        "DROP" => objects::drop(cursor)?,
        "TRUNCATE" => objects::truncate(cursor)?,
        "SHOW" => Statement::Show(admin::show(cursor)?),
        "DESCRIBE" | "DESC" => admin::describe(cursor)?,
        "USE" => admin::use_namespace(cursor)?,
        "STORAGE" => admin::storage(cursor)?,
        "FLUSH" => {
            cursor.call("FLUSH");
            admin::flush(cursor)?
        }
        "CHECK" => admin::check(cursor)?,
        "EXPORT" if cursor.sees("USER") => accounts::export(cursor)?,
        "ERASE" => accounts::erase(cursor)?,
        "BACKUP" => admin::backup(cursor)?,
        "RESTORE" => admin::restore(cursor)?,
        "KILL" => admin::kill(cursor)?,
        "VERIFY" => {
            cursor.call("VERIFY AUDIT");
            cursor.expect("AUDIT")?;
            Statement::VerifyAudit
        }
        "SUBSCRIBE" => admin::subscribe(cursor)?,
        _ => return Err(unknown),
    })
}

fn query(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("the query");
    cursor.query().map(Statement::Query)
}

fn transaction(cursor: &mut Cursor<'_>, name: &'static str, statement: Statement) -> Result<Statement> {
    cursor.call(name);
    let _ = cursor.accept("TRANSACTION") || cursor.accept("WORK");
    Ok(statement)
}

fn other(cursor: &Cursor<'_>, word: &str) -> Error {
    if KNOWN.contains(&word) {
        return cursor.not_implemented(word);
    }
    cursor.unexpected("a statement")
}

/// EXPLAIN, after the word.
fn explain(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("EXPLAIN");
    let (mut analyze, mut verbose) = (false, false);
    if *cursor.peek() == Token::LParen && cursor.peek_at(1) != &Token::LParen && !begins_query(cursor) {
        explain_options(cursor, &mut analyze, &mut verbose)?;
    } else {
        analyze = cursor.accept("ANALYZE");
        verbose = cursor.accept("VERBOSE");
    }
    for clause in ["FORMAT", "QUERY", "ESTIMATE", "EXTENDED", "AST", "SYNTAX", "PIPELINE", "ANALYZE"] {
        if cursor.sees(clause) {
            return Err(cursor.not_implemented(&format!("EXPLAIN {clause}")));
        }
    }
    let word = cursor.peek_word().unwrap_or_default();
    let explainable = matches!(word.as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE" | "INSERT" | "UPDATE" | "DELETE");
    if !explainable && *cursor.peek() != Token::LParen {
        return Err(match word.as_str() {
            "" => cursor.unexpected("a statement to explain"),
            word => cursor.not_implemented(&format!("EXPLAIN {word}")),
        });
    }
    Ok(Statement::Explain { analyze, verbose, statement: Box::new(begin(cursor)?) })
}

fn begins_query(cursor: &Cursor<'_>) -> bool {
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| cursor.sees_at(1, word))
}

/// `(ANALYZE [on], VERBOSE [on])`.
fn explain_options(cursor: &mut Cursor<'_>, analyze: &mut bool, verbose: &mut bool) -> Result<()> {
    cursor.expect_token(&Token::LParen)?;
    cursor.list(|cursor| {
        let option = match cursor.peek_word().as_deref() {
            Some("ANALYZE") => &mut *analyze,
            Some("VERBOSE") => &mut *verbose,
            Some(word) => return Err(cursor.not_implemented(&format!("the option {word} of EXPLAIN"))),
            None => return Err(cursor.unexpected("ANALYZE or VERBOSE")),
        };
        cursor.skip();
        *option = ["FALSE", "OFF"].iter().all(|word| !cursor.accept(word));
        let _ = *option && (cursor.accept("TRUE") || cursor.accept("ON"));
        Ok(())
    })?;
    cursor.expect_token(&Token::RParen)
}

#[cfg(test)]
mod tests;
