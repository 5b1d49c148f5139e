//! On whose behalf a statement runs: `AS USER` in INSERT, UPDATE and DELETE, and `EXECUTE AS USER 'u' (statement)`
//! around any other.
//!
//! The outer form is taken apart before the grammar begins, so that what stands in the parentheses is read exactly
//! as it would be by itself. One statement has one subject: neither form stands within the other, or within itself.

use kalamdb_commons::{Error, Result};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::cursor::{Cursor, is_word, place};
use crate::source::parameter;
use crate::statement::{Statement, Subject};

/// `AS USER 'u'`, if it is next.
pub(crate) fn accept(cursor: &mut Cursor<'_>) -> Result<()> {
    if !cursor.sees("AS") || !cursor.sees_at(1, "USER") {
        return Ok(());
    }
    cursor.skip();
    cursor.skip();
    let subject = match cursor.peek() {
        Token::SingleQuotedString(_) => Subject::Name(cursor.string("a user name")?),
        Token::Placeholder(name) => {
            let subject = Subject::Param(parameter(name)?);
            cursor.skip();
            subject
        }
        _ => Subject::Name(cursor.identifier("a user name")?),
    };
    cursor.set_subject(subject)
}

/// The subject and the tokens of the statement within `EXECUTE AS USER 'u' (...)`; other statements as they are.
pub(crate) fn unwrap(mut tokens: Vec<TokenWithSpan>) -> Result<(Option<Subject>, Vec<TokenWithSpan>)> {
    if !begins(&tokens, 1) {
        return Ok((None, tokens));
    }
    let at = |index: usize| tokens.get(index).map_or(&Token::EOF, |token| &token.token);
    let subject = match at(4) {
        Token::SingleQuotedString(name) => Subject::Name(name.clone()),
        Token::Placeholder(name) => Subject::Param(parameter(name)?),
        Token::Word(Word { value, quote_style: Some(_), .. }) => Subject::Name(value.clone()),
        Token::Word(Word { value, quote_style: None, .. }) => Subject::Name(value.to_ascii_lowercase()),
        _ => return Err(expected("a user name", &tokens, 4)),
    };
    if *at(5) != Token::LParen {
        return Err(expected("'(' and a statement", &tokens, 5));
    }
    if begins(&tokens, 6) {
        return Err(Error::invalid_sql(format!(
            "EXECUTE AS USER within EXECUTE AS USER is not implemented{}",
            place(tokens[6].span.start)
        )));
    }
    let end =
        closing(&tokens, 5).ok_or_else(|| Error::invalid_sql("the parenthesis of EXECUTE AS USER is not closed"))?;
    if end + 1 != tokens.len() {
        return Err(expected("the end of EXECUTE AS USER", &tokens, end + 1));
    }
    if end == 6 {
        return Err(expected("a statement", &tokens, end));
    }
    tokens.truncate(end);
    tokens.drain(1..6);
    Ok((Some(subject), tokens))
}

/// Refuses statements that are about the request rather than about data.
pub(crate) fn check(statement: &Statement) -> Result<()> {
    let name = match statement {
        Statement::Begin => "BEGIN",
        Statement::Commit => "COMMIT",
        Statement::Rollback => "ROLLBACK",
        Statement::Use { .. } => "USE",
        _ => return Ok(()),
    };
    Err(Error::invalid_sql(format!("{name} cannot stand in EXECUTE AS USER")))
}

fn begins(tokens: &[TokenWithSpan], at: usize) -> bool {
    let words = ["EXECUTE", "AS", "USER"];
    words
        .iter()
        .enumerate()
        .all(|(ahead, word)| tokens.get(at + ahead).is_some_and(|token| is_word(&token.token, word)))
}

/// The index of the parenthesis that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn expected(what: &str, tokens: &[TokenWithSpan], at: usize) -> Error {
    match tokens.get(at) {
        Some(TokenWithSpan { token, span }) => {
            Error::invalid_sql(format!("expected {what}, found '{token}'{}", place(span.start)))
        }
        None => Error::invalid_sql(format!("expected {what}, found the end of the statement")),
    }
}

#[cfg(test)]
mod tests;
