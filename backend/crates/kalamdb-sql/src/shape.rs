//! The shape of a statement: its words without what somebody wrote into it. For logs, where values are other people's
//! data, and texts may be passwords.

use sqlparser::tokenizer::Token;

use crate::source;

/// What stands in the place of a value.
const VALUE: &str = "?";
/// Words whose next word or text is a secret, however it is written.
const BEFORE_SECRETS: [&str; 4] = ["PASSWORD", "CREDENTIALS", "SECRET", "TOKEN"];

/// The statements of a text with `?` for each value, without comments, one space between words. Empty for a text that is
/// no SQL.
pub fn shape(sql: &str) -> String {
    let Ok(statements) = source::statements(sql) else { return String::new() };
    let mut text = String::new();
    for tokens in statements {
        // Each begins with a semicolon of its own.
        let begin = usize::from(text.is_empty());
        let mut is_secret = false;
        for token in tokens.iter().skip(begin).map(|token| &token.token) {
            let word = if is_secret { VALUE.to_owned() } else { word(token) };
            is_secret =
                matches!(token, Token::Word(word) if BEFORE_SECRETS.contains(&word.value.to_uppercase().as_str()));
            append(&mut text, &word);
        }
    }
    text
}

fn word(token: &Token) -> String {
    match token {
        Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => VALUE.to_owned(),
        token => token.to_string(),
    }
}

/// A long list of values, as of a bulk INSERT, is shown by its beginning.
const REPEATS_MAX: usize = 2;

/// Adds a word, unless it goes on with what has been said often enough.
fn append(text: &mut String, word: &str) {
    let sticks = matches!(word, "," | ")" | "." | ";" | "::") || text.is_empty() || text.ends_with(['(', '.', ':']);
    if !sticks {
        text.push(' ');
    }
    text.push_str(word);
    for unit in [", ?", ", (?)"] {
        if text.ends_with(&unit.repeat(REPEATS_MAX + 1)) {
            text.truncate(text.len() - unit.len());
        }
    }
}

#[cfg(test)]
mod tests;
