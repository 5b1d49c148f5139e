//! The text of a request, cut into statements of tokens.
//!
//! Tokens carry line and column; [`Source`] turns those back into the text between them, so that views, defaults,
//! checks and logs show what was written.

use std::cell::Cell;

use kalamdb_commons::{Error, Result};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::dialect::KalamDialect;

/// As many tokens are made room for from the start, and no more: the text may be one long literal.
const TOKENS_FORESEEN_MAX: usize = 256;

/// A request's text with its lines found.
pub(crate) struct Source<'a> {
    text: &'a str,
    /// The byte at which each line begins.
    lines: Vec<usize>,
    ascii: bool,
    /// The last position found, from which the next one on the same line is near. Without it, long lines that are
    /// not ASCII would be walked from their beginning for each token.
    near: Cell<(Location, usize)>,
}

impl<'a> Source<'a> {
    /// Finds the lines.
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { text, lines, ascii: text.is_ascii(), near: Cell::new((Location { line: 1, column: 1 }, 0)) }
    }

    /// The text between two locations; empty if they are not of this text.
    pub(crate) fn between(&self, start: Location, end: Location) -> &'a str {
        let (start, end) = (self.byte_at(start), self.byte_at(end));
        self.text.get(start..end).unwrap_or_default()
    }

    fn byte_at(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or_default().saturating_sub(1);
        let columns = usize::try_from(location.column).unwrap_or_default().saturating_sub(1);
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        if self.ascii {
            return start.saturating_add(columns).min(self.text.len());
        }
        let (near, near_byte) = self.near.get();
        let (from, skip) = if near.line == location.line && near.column <= location.column {
            (near_byte, usize::try_from(location.column - near.column).unwrap_or_default())
        } else {
            (start, columns)
        };
        let rest = self.text.get(from..).unwrap_or_default();
        let byte = from + rest.char_indices().nth(skip).map_or(rest.len(), |(at, _)| at);
        self.near.set((location, byte));
        byte
    }
}

/// The tokens of each statement, without white space and comments. Each begins with a semicolon, as if after another
/// statement, because the parser can tell the index of a token only once it has read one. Statements without a token
/// of their own are left out.
pub(crate) fn statements(sql: &str) -> Result<Vec<Vec<TokenWithSpan>>> {
    let mut tokens = Vec::with_capacity((sql.len() / 4).min(TOKENS_FORESEEN_MAX));
    let dialect = KalamDialect::new(0);
    Tokenizer::new(&dialect, sql).tokenize_with_location_into_buf(&mut tokens).map_err(unreadable)?;
    let mut statements = Vec::new();
    let begin = |foreseen| {
        let mut tokens = Vec::with_capacity(foreseen);
        tokens.push(TokenWithSpan { token: Token::SemiColon, span: Span::empty() });
        tokens
    };
    // Most requests are one statement.
    let mut current = begin(1 + tokens.len());
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => statements.push(std::mem::replace(&mut current, begin(1))),
            token => current.push(TokenWithSpan { token: plain(token), span }),
        }
    }
    statements.push(current);
    statements.retain(|tokens| tokens.len() > 1);
    Ok(statements)
}

/// One form of each literal: every spelling of text is a string in single quotes (the tokenizer has resolved the
/// escapes), and numbers lose their underscores.
fn plain(token: Token) -> Token {
    match token {
        Token::EscapedStringLiteral(text) | Token::UnicodeStringLiteral(text) | Token::NationalStringLiteral(text) => {
            Token::SingleQuotedString(text)
        }
        Token::DollarQuotedString(text) => Token::SingleQuotedString(text.value),
        Token::Number(digits, long) if digits.contains('_') => Token::Number(digits.replace('_', ""), long),
        token => token,
    }
}

fn unreadable(error: TokenizerError) -> Error {
    let TokenizerError { message, location } = error;
    Error::invalid_sql(format!("{message} at line {}, column {}", location.line, location.column))
}

/// The highest `$n` among the tokens; 0 for none.
pub(crate) fn highest_parameter(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut highest = 0;
    for token in tokens {
        if let Token::Placeholder(name) = &token.token {
            highest = highest.max(parameter(name)?);
        }
    }
    Ok(highest)
}

/// The number of `$n`.
pub(crate) fn parameter(name: &str) -> Result<usize> {
    let number = name.strip_prefix('$').and_then(|digits| digits.parse().ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        let shown: String = name.chars().take(32).collect();
        Error::invalid_sql(format!("'{shown}' is not a parameter; parameters are written $1, $2 and so on"))
    })
}

#[cfg(test)]
mod tests;
