//! A limit on how deep the tree of a statement can get, found before there is a tree.
//!
//! `a OR a OR a ...` makes a tree as deep as it is long, and even dropping it takes stack in proportion. The parser
//! limits what nests in parentheses, not this; what is accepted in the end is in `refusals`. An operator or keyword deepens the tree around
//! it by one at most, a comma begins a new expression, and of several pairs of parentheses a way down the tree goes
//! through one. So the operators between two commas, and the deepest parentheses among them, are an upper bound.
//!
//! What the parser itself does without a limit is limited here too: joins in parentheses and `ARRAY<ARRAY<...` recurse
//! without counting, and `((SELECT ...` is read once for each of its parentheses when it fails, which multiplies where
//! it nests.

use kalamdb_commons::{Error, ErrorKind, Result};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::cursor::{NESTING_MAX, is_literal, is_word, place};

/// The most operators and keywords in a way down the parser's tree: some 4 000 conditions such as `a = 1` joined by OR.
/// Dropping a tree of that depth takes half a megabyte of stack.
pub(crate) const OPERATORS_MAX: usize = 8_000;

/// How deep parentheses may nest, of any use.
const PARENTHESES_MAX: usize = 128;
/// The most times that the parser may come to read the same tokens.
const ATTEMPTS_MAX: usize = 128;

/// What was counted within one pair of parentheses.
#[derive(Default)]
struct Level {
    /// Operators since the last comma.
    current: usize,
    /// The most of them between two commas.
    longest: usize,
    /// The depth of the deepest parentheses within.
    inner: usize,
}

impl Level {
    fn count(&mut self) {
        self.current += 1;
        self.longest = self.longest.max(self.current);
    }

    fn depth(&self) -> usize {
        self.longest + self.inner
    }
}

/// Refuses a statement whose tree could get too deep, or whose parsing could take too long.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    check_depth(tokens)?;
    check_types(tokens)?;
    check_attempts(tokens)
}

fn check_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match &token.token {
            Token::LParen => outer.push(std::mem::take(&mut level)),
            Token::LBracket | Token::LBrace => {
                // Types nest by brackets side by side: INT[][].
                level.count();
                outer.push(std::mem::take(&mut level));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                let inner = std::mem::replace(&mut level, outer.pop().unwrap_or_default());
                level.inner = level.inner.max(inner.depth() + 1);
            }
            Token::Comma => level.current = 0,
            Token::Period | Token::Placeholder(_) | Token::SemiColon => {}
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            literal if is_literal(literal) => {}
            _ => level.count(),
        }
        if outer.len() > PARENTHESES_MAX {
            return Err(too_large(
                token,
                &format!("parentheses are nested too deeply; at most {PARENTHESES_MAX} levels are allowed"),
            ));
        }
        if level.depth() > OPERATORS_MAX {
            return Err(too_large(
                token,
                &format!(
                    "an expression or query has more than {OPERATORS_MAX} operators and keywords in a row; a long chain \
                     of OR can be written as IN (...)"
                ),
            ));
        }
    }
    Ok(())
}

fn check_types(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut nested = 0;
    for pair in tokens.windows(2) {
        let [first, second] = pair else { continue };
        if is_word(&first.token, "ARRAY") && second.token == Token::Lt {
            nested += 1;
        } else if !is_word(&second.token, "ARRAY") {
            nested = 0;
        }
        if nested > NESTING_MAX {
            return Err(too_large(
                first,
                &format!("a type is nested too deeply; at most {NESTING_MAX} levels are allowed"),
            ));
        }
    }
    Ok(())
}

/// Multiplies the lengths of the rows of parentheses that begin a query, for those that are within each other.
fn check_attempts(tokens: &[TokenWithSpan]) -> Result<()> {
    let begins_query = |token: &Token| ["SELECT", "WITH", "VALUES"].iter().any(|word| is_word(token, word));
    let mut attempts = 1_usize;
    let mut opened: Vec<usize> = Vec::new();
    let mut row = 0;
    for token in tokens {
        match &token.token {
            Token::LParen => {
                row += 1;
                opened.push(1);
                continue;
            }
            Token::RParen => attempts /= opened.pop().unwrap_or(1),
            query if row > 1 && begins_query(query) => {
                if let Some(innermost) = opened.last_mut() {
                    *innermost = row;
                    attempts = attempts.saturating_mul(row);
                }
            }
            _ => {}
        }
        row = 0;
        if attempts > ATTEMPTS_MAX {
            return Err(too_large(token, "queries in several parentheses are nested too deeply"));
        }
    }
    Ok(())
}

fn too_large(token: &TokenWithSpan, message: &str) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{message}{}", place(token.span.start)))
}

#[cfg(test)]
mod tests;
