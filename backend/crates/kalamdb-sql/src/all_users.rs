//! `FROM ALL USERS OF ns.t`: reading a table's rows of every user.
//!
//! The words are taken out before parsing, and the table's name gets a mark at its end that no name can have, by
//! which whoever resolves names knows it. Text cannot make the mark: [`crate::refusals`] refuses its character.

use kalamdb_commons::{Error, Result};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::cursor::{is_word, place};
use crate::expr::fold;
use crate::statement::{Statement, TableName};

/// The end of the name of a table that is read across users.
pub const ALL_USERS_MARK: char = '\u{1e}';

/// Marks the tables that a statement reads across users, and names them.
pub(crate) fn mark(tokens: &mut Vec<TokenWithSpan>) -> Result<Vec<TableName>> {
    let mut found = Vec::new();
    let mut at = 1;
    while at + 3 < tokens.len() {
        if begins(tokens, at) {
            tokens.drain(at..at + 3);
            found.push(mark_name(tokens, at)?);
        }
        at += 1;
    }
    Ok(found)
}

fn begins(tokens: &[TokenWithSpan], at: usize) -> bool {
    let before = &tokens[at - 1].token;
    let in_from =
        matches!(before, Token::Comma | Token::LParen) || ["FROM", "JOIN"].iter().any(|word| is_word(before, word));
    let words = ["ALL", "USERS", "OF"];
    in_from && words.iter().enumerate().all(|(ahead, word)| is_word(&tokens[at + ahead].token, word))
}

fn mark_name(tokens: &mut [TokenWithSpan], at: usize) -> Result<TableName> {
    let qualified = matches!(tokens.get(at + 1).map(|token| &token.token), Some(Token::Period));
    let last = if qualified { at + 2 } else { at };
    let namespace = if qualified { Some(name_at(tokens, at)?) } else { None };
    let name = name_at(tokens, last)?;
    let value = format!("{name}{ALL_USERS_MARK}");
    tokens[last].token = Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword });
    Ok(TableName { namespace, name })
}

fn name_at(tokens: &[TokenWithSpan], at: usize) -> Result<String> {
    match tokens.get(at) {
        Some(TokenWithSpan { token: Token::Word(Word { value, quote_style, .. }), .. }) => Ok(match quote_style {
            Some(_) => value.clone(),
            None => value.to_ascii_lowercase(),
        }),
        Some(TokenWithSpan { token, span }) => Err(Error::invalid_sql(format!(
            "expected a table name after ALL USERS OF, found '{token}'{}",
            place(span.start)
        ))),
        None => Err(Error::invalid_sql("expected a table name after ALL USERS OF")),
    }
}

/// Gives a marked table the alias that its name would be.
pub(crate) fn name_relation(relation: &mut TableFactor) {
    let TableFactor::Table { name: ObjectName(parts), alias: alias @ None, .. } = relation else { return };
    let Some(ObjectNamePart::Identifier(last)) = parts.last() else { return };
    if let Some(plain) = fold(last).strip_suffix(ALL_USERS_MARK) {
        let name = Ident::with_quote('"', plain);
        *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    }
}

/// Refuses the form where it would be out of sight of whoever reads: in a view.
pub(crate) fn check(statement: &Statement) -> Result<()> {
    match statement {
        Statement::CreateView(_) => Err(Error::invalid_sql(
            "ALL USERS OF cannot stand in a view: whoever reads across users must say so in the query itself",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
