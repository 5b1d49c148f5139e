//! SQL text to typed statements. No I/O, no catalog, and no knowledge of what a table holds.
//!
//! # The way of a request
//!
//! [`parse`] takes the text of a request and gives a [`Parsed`] for each statement, in order:
//!
//! | step | module | what it does |
//! |---|---|---|
//! | tokens | `source` | sqlparser's tokenizer, white space and comments dropped, cut at `;`, parameters counted |
//! | limits | `complexity`, `refusals` | trees that could get too deep, AS OF and the like, refused before parsing |
//! | on whose behalf | `subject`, `all_users` | EXECUTE AS USER taken off, AS USER in INSERT, UPDATE and DELETE, ALL USERS OF |
//! | grammar | `grammar`, and from there `dml`, `table`, `column`, `alter`, `objects`, `accounts`, `storages`, `admin` | our own statements, word by word, through `cursor` |
//! | queries | sqlparser with our `dialect` | queries and expressions, which go to DataFusion's planner |
//! | rewriting | `rewrite` | FETCH to LIMIT, long chains of AND and OR balanced |
//! | refusals | `refusals` | clauses of a query that nobody carries out, trees that are too deep |
//!
//! # Promises
//!
//! - Nothing that was written is ignored: a statement is understood whole, or refused by the name of what is not
//!   implemented. Our own grammar refuses every word that it does not expect; queries are searched for clauses that
//!   DataFusion would drop.
//! - Unquoted names are folded to lower case, quoted ones keep theirs, as in DataFusion.
//! - No text makes it panic or run out of stack. Nesting, length, the number of statements, of operators in a chain
//!   and of relations are limited.
//! - A password is in no error, no `Debug` and not in [`Parsed::text`].
//!
//! Expressions, types and the list of table options are [`expr`], `types` and [`TABLE_OPTIONS`]. Whoever stores an
//! expression stores its text, and reads it back by [`expr::parse`].
//!
//! To add a statement: a variant of [`Statement`], a line in `grammar`, a function that reads it, and tests of every
//! spelling and of every clause that it refuses.

mod accounts;
mod admin;
mod all_users;
mod alter;
mod column;
mod complexity;
mod cursor;
mod dialect;
mod dml;
mod grammar;
mod objects;
mod options;
mod refusals;
mod rewrite;
mod shape;
mod source;
mod statement;
mod storages;
mod subject;
mod table;
mod types;

pub mod expr;

pub use all_users::ALL_USERS_MARK;
pub use options::{TABLE_OPTIONS, TableOption, TableOptionSet};
pub use shape::shape;
pub use sqlparser::ast;
pub use statement::*;

use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::{Error, ErrorKind, Result};

use cursor::Cursor;
use dialect::KalamDialect;
use source::Source;

/// Reads the statements of a request, at least one.
///
/// # Errors
///
/// [`ErrorKind::EmptySql`] without a statement; [`ErrorKind::TooLarge`] over a limit; [`ErrorKind::InvalidSql`] for
/// what is not understood or not implemented, with its line and column in the request where they are known;
/// [`ErrorKind::InvalidInput`] for an option or role that is unknown or has a bad value. The first error of the
/// request is the answer: no statement is given then.
pub fn parse(sql: &str, limits: &LimitSettings) -> Result<Vec<Parsed>> {
    if sql.len() > limits.sql_bytes_max {
        return Err(Error::too_large(format!(
            "the SQL of the request has {} bytes; at most {} are allowed",
            sql.len(),
            limits.sql_bytes_max
        )));
    }
    let statements = source::statements(sql)?;
    if statements.is_empty() {
        return Err(Error::new(ErrorKind::EmptySql, "the request holds no statement"));
    }
    if statements.len() > limits.statements_max {
        return Err(Error::too_large(format!(
            "the request has {} statements; at most {} are allowed",
            statements.len(),
            limits.statements_max
        )));
    }
    let source = Source::new(sql);
    statements.into_iter().map(|tokens| parse_one(&source, tokens)).collect()
}

fn parse_one(source: &Source<'_>, mut tokens: Vec<sqlparser::tokenizer::TokenWithSpan>) -> Result<Parsed> {
    let params = source::highest_parameter(&tokens)?;
    complexity::check(&tokens)?;
    refusals::check_words(&tokens)?;
    let all_users = all_users::mark(&mut tokens)?;
    let (around, tokens) = subject::unwrap(tokens)?;
    let dialect = KalamDialect::new(tokens.len());
    let mut cursor = Cursor::new(source, &dialect, tokens);
    let is_within = around.is_some();
    if let Some(subject) = around {
        cursor.set_subject(subject)?;
    }
    let statement = grammar::statement(&mut cursor)?;
    if is_within {
        subject::check(&statement)?;
    }
    if !all_users.is_empty() {
        all_users::check(&statement)?;
    }
    Ok(Parsed { statement, text: cursor.text(), params, as_user: cursor.subject(), all_users })
}

#[cfg(test)]
mod tests;
