//! A limit on how deep the tree of a statement can get, found before there is a tree.
//!
//! `a OR a OR a ...` makes a tree as deep as it is long, and dropping, cloning or planning a tree takes stack in
//! proportion. The parser limits what nests in parentheses, not this. Each operator or keyword deepens a tree by one
//! at most, and a comma ends an expression, so counting them between commas, parentheses included, is an upper bound.

use kalamdb_commons::{Error, ErrorKind, Result};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::cursor::{is_literal, place};

/// The most operators and keywords between two commas: some 1 500 conditions joined by OR.
pub(crate) const OPERATORS_MAX: usize = 5_000;

/// What was counted within one pair of parentheses.
#[derive(Default)]
struct Level {
    /// Since the last comma.
    current: usize,
    /// The most between two commas.
    deepest: usize,
}

impl Level {
    fn add(&mut self, operators: usize) {
        self.current += operators;
        self.deepest = self.deepest.max(self.current);
    }
}

/// Refuses a statement whose tree could get too deep.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => outer.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket | Token::RBrace => {
                let inner = std::mem::replace(&mut level, outer.pop().unwrap_or_default());
                level.add(inner.deepest + 1);
            }
            Token::Comma => level.current = 0,
            Token::Period | Token::Placeholder(_) | Token::SemiColon => {}
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            literal if is_literal(literal) => {}
            _ => level.add(1),
        }
        if level.deepest > OPERATORS_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "one expression or query has more than {OPERATORS_MAX} operators and keywords{}; a long chain of OR \
                     can be written as IN (...)",
                    place(token.span.start)
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
