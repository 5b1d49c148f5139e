//! A position in the tokens of one statement: what every part of the grammar reads through.
//!
//! Our own statements are read word by word here, so that a word that is not expected is refused where it stands;
//! expressions, types and queries are sqlparser's.

use std::borrow::Cow;

use kalamdb_commons::{Error, ErrorKind, Result};
use sqlparser::ast::{DataType, Expr, Query, SelectItem};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

use crate::all_users::ALL_USERS_MARK;
use crate::dialect::KalamDialect;
use crate::refusals;
use crate::source::Source;
use crate::statement::{Subject, TableName};

/// How deep expressions, subqueries and joins in parentheses may nest.
pub(crate) const NESTING_MAX: usize = 64;
/// The most characters of a request that an error message repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// Words that cannot name anything without quotes, because queries would read them otherwise.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "ALL", "AND", "ANY", "ARRAY", "AS", "BETWEEN", "BY", "CASE", "CAST", "CHECK", "COLLATE", "CONSTRAINT", "CREATE",
    "CROSS", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "DEFAULT", "DISTINCT", "ELSE", "END",
    "EXCEPT", "EXISTS", "FALSE", "FETCH", "FOR", "FOREIGN", "FROM", "FULL", "GROUP", "HAVING", "IN", "INNER",
    "INTERSECT", "INTO", "IS", "JOIN", "LATERAL", "LEFT", "LIKE", "LIMIT", "NATURAL", "NOT", "NULL", "OFFSET", "ON",
    "OR", "ORDER", "OUTER", "PRIMARY", "QUALIFY", "REFERENCES", "RETURNING", "RIGHT", "SELECT", "SESSION_USER", "SET",
    "TABLE", "THEN", "TRUE", "UNION", "UNIQUE", "USER", "USING", "VALUES", "WHEN", "WHERE", "WINDOW", "WITH",
];

/// A position in a statement.
pub(crate) struct Cursor<'a> {
    parser: Parser<'a>,
    dialect: &'a KalamDialect,
    /// The tokens that there are.
    tokens: usize,
    source: &'a Source<'a>,
    /// What the statement is called in errors.
    name: &'static str,
    /// The literal that must not be shown, once it was read.
    secret: Option<Span>,
    /// Whether the statement may hold a secret, so that no literal of it is repeated in an error.
    secretive: bool,
    /// On whose behalf the statement runs.
    subject: Option<Subject>,
}

impl<'a> Cursor<'a> {
    /// The beginning of one of [`source::statements`](crate::source::statements).
    pub(crate) fn new(source: &'a Source<'a>, dialect: &'a KalamDialect, tokens: Vec<TokenWithSpan>) -> Self {
        let count = tokens.len();
        let mut parser = Parser::new(dialect).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens);
        parser.advance_token();
        let (name, secret, secretive) = ("the statement", None, false);
        Self { parser, dialect, tokens: count, source, name, secret, secretive, subject: None }
    }

    /// Names the statement for errors.
    pub(crate) fn call(&mut self, name: &'static str) {
        self.name = name;
    }

    /// Notes on whose behalf the statement runs, which can be said once.
    pub(crate) fn set_subject(&mut self, subject: Subject) -> Result<()> {
        match self.subject.replace(subject) {
            None => Ok(()),
            Some(_) => Err(self.invalid("a statement runs as one user; AS USER is said twice")),
        }
    }

    /// On whose behalf the statement runs.
    pub(crate) fn subject(&mut self) -> Option<Subject> {
        self.subject.take()
    }

    /// How many tokens were read.
    pub(crate) fn position(&self) -> usize {
        // The parser may have read beyond the end.
        self.parser.get_current_index().min(self.tokens - 1)
    }

    /// Goes back to an earlier [`Self::position`].
    pub(crate) fn rewind(&mut self, position: usize) {
        while self.parser.get_current_index() > position {
            self.parser.prev_token();
        }
    }

    /// The next token.
    pub(crate) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    /// The token after `ahead` others.
    pub(crate) fn peek_at(&self, ahead: usize) -> &Token {
        &self.parser.peek_nth_token_ref(ahead).token
    }

    /// Reads the next token, whatever it is.
    pub(crate) fn skip(&mut self) {
        if !self.at_end() {
            self.parser.advance_token();
        }
    }

    /// Whether nothing is left.
    pub(crate) fn at_end(&self) -> bool {
        *self.peek() == Token::EOF
    }

    /// Whether the next token is this unquoted word, in any case.
    pub(crate) fn sees(&self, word: &str) -> bool {
        self.sees_at(0, word)
    }

    /// Whether the token after `ahead` others is this unquoted word, in any case.
    pub(crate) fn sees_at(&self, ahead: usize, word: &str) -> bool {
        is_word(self.peek_at(ahead), word)
    }

    fn sees_all(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(ahead, word)| self.sees_at(ahead, word))
    }

    /// The next token's text in upper case, if it is an unquoted word.
    pub(crate) fn peek_word(&self) -> Option<String> {
        match self.peek() {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Reads the word if it is next.
    pub(crate) fn accept(&mut self, word: &str) -> bool {
        let found = self.sees(word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// Reads the words if all of them are next.
    pub(crate) fn accept_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(ahead, word)| self.sees_at(ahead, word));
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    /// Reads the word, which must be next.
    pub(crate) fn expect(&mut self, word: &str) -> Result<()> {
        if self.accept(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    /// Reads the token if it is next.
    pub(crate) fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// Reads the token, which must be next.
    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.unexpected(&format!("'{token}'"))) }
    }

    /// `IF NOT EXISTS`.
    pub(crate) fn if_not_exists(&mut self) -> bool {
        self.accept_all(&["IF", "NOT", "EXISTS"])
    }

    /// `IF EXISTS`.
    pub(crate) fn if_exists(&mut self) -> bool {
        self.accept_all(&["IF", "EXISTS"])
    }

    /// A name, folded; `what` says of what.
    pub(crate) fn identifier(&mut self, what: &str) -> Result<String> {
        let name = match self.peek() {
            Token::Word(Word { value, quote_style: Some(_), .. }) if value.ends_with(ALL_USERS_MARK) => {
                return Err(self.invalid("ALL USERS OF is for reading, in the FROM of a query"));
            }
            Token::Word(Word { value, quote_style: Some(_), .. }) => value.clone(),
            Token::Word(Word { value, quote_style: None, .. }) => {
                if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(value)) {
                    return Err(self.invalid(format!(
                        "{value} is a reserved word and cannot be {what}; in quotes, \"{}\", it can",
                        value.to_ascii_lowercase()
                    )));
                }
                value.to_ascii_lowercase()
            }
            _ => return Err(self.unexpected(what)),
        };
        self.parser.advance_token();
        Ok(name)
    }

    /// `name` or `namespace.name`.
    pub(crate) fn table_name(&mut self, what: &str) -> Result<TableName> {
        let first = self.identifier(what)?;
        if !self.accept_token(&Token::Period) {
            return Ok(TableName { namespace: None, name: first });
        }
        let name = self.identifier(what)?;
        if *self.peek() == Token::Period {
            return Err(self.invalid(format!("a name has at most two parts, as in namespace.name: {first}.{name}.")));
        }
        Ok(TableName { namespace: Some(first), name })
    }

    /// `a, b, c`, at least one, read by `item`.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(a, b, c)`: names of columns, each once.
    pub(crate) fn columns(&mut self) -> Result<Vec<String>> {
        self.expect_token(&Token::LParen)?;
        let columns = self.list(|cursor| cursor.identifier("a column name"))?;
        self.expect_token(&Token::RParen)?;
        if let Some(twice) = first_duplicate(&columns) {
            return Err(self.invalid(format!("column '{twice}' is named twice in {}", self.name)));
        }
        Ok(columns)
    }

    /// A string literal; `what` says of what.
    pub(crate) fn string(&mut self, what: &str) -> Result<String> {
        let text = match self.peek() {
            Token::SingleQuotedString(text) => text.clone(),
            _ => return Err(self.unexpected(&format!("{what} in single quotes"))),
        };
        self.parser.advance_token();
        Ok(text)
    }

    /// A string literal that [`Self::text`] leaves out.
    pub(crate) fn secret(&mut self, what: &str) -> Result<String> {
        let span = self.parser.peek_token_ref().span;
        let text = self.string(what)?;
        self.secret = Some(span);
        Ok(text)
    }

    /// From now on no error repeats a literal.
    pub(crate) fn keep_secrets(&mut self) {
        self.secretive = true;
    }

    /// A whole number; `what` says of what.
    pub(crate) fn whole_number(&mut self, what: &str) -> Result<u64> {
        let number = match self.peek() {
            Token::Number(digits, false) => digits.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.unexpected(what))?;
        self.parser.advance_token();
        Ok(number)
    }

    /// An expression.
    pub(crate) fn expr(&mut self) -> Result<Expr> {
        let mut expr = self.parser.parse_expr().map_err(|error| self.syntax(error))?;
        refusals::settle(&mut expr)?;
        Ok(expr)
    }

    /// A query.
    pub(crate) fn query(&mut self) -> Result<Box<Query>> {
        let mut query = self.parser.parse_query().map_err(|error| self.syntax(error))?;
        refusals::settle(&mut *query)?;
        Ok(query)
    }

    /// An item of RETURNING.
    pub(crate) fn select_item(&mut self) -> Result<SelectItem> {
        let mut item = self.parser.parse_select_item().map_err(|error| self.syntax(error))?;
        refusals::settle(&mut item)?;
        Ok(item)
    }

    /// The name of a type.
    pub(crate) fn data_type(&mut self) -> Result<DataType> {
        self.parser.parse_data_type().map_err(|error| self.syntax(error))
    }

    /// The statement is over.
    pub(crate) fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.surplus()) }
    }

    /// The text of the tokens from `position` to the last one read.
    pub(crate) fn text_since(&self, position: usize) -> String {
        let first = self.parser.token_at(position + 1).span.start;
        let last = self.parser.token_at(self.position()).span.end;
        self.source.between(first, last).to_owned()
    }

    /// The text of the whole statement, all of which must have been read, without its secret.
    pub(crate) fn text(&self) -> String {
        let first = self.parser.token_at(1).span.start;
        let last = self.parser.token_at(self.position()).span.end;
        match self.secret {
            None => self.source.between(first, last).to_owned(),
            Some(Span { start, end }) => {
                format!("{}'***'{}", self.source.between(first, start), self.source.between(end, last))
            }
        }
    }

    /// An error about the next token: a clause of another database by its name, or whatever else stands there.
    pub(crate) fn surplus(&self) -> Error {
        match self.peek_word() {
            Some(_) => match KNOWN_CLAUSES.iter().find(|clause| self.sees_all(clause)) {
                Some(clause) => self.refuse_clause(clause),
                None => self.unexpected(&format!("the end of {}", self.name)),
            },
            None => self.unexpected(&format!("the end of {}", self.name)),
        }
    }

    /// An error: the clause is understood, and not implemented in this statement.
    pub(crate) fn refuse_clause(&self, clause: &str) -> Error {
        self.not_implemented(&format!("{clause} in {}", self.name))
    }

    /// An error: something else stands where `expected` must.
    pub(crate) fn unexpected(&self, expected: &str) -> Error {
        Error::invalid_sql(format!("expected {expected}, found {}{}", self.found(), self.place()))
    }

    /// An error: `what` is understood, and not implemented.
    pub(crate) fn not_implemented(&self, what: &str) -> Error {
        Error::invalid_sql(format!("{what} is not implemented{}", self.place()))
    }

    /// An error with the place of the next token.
    pub(crate) fn invalid(&self, message: impl Into<Cow<'static, str>>) -> Error {
        Error::invalid_sql(format!("{}{}", message.into(), self.place()))
    }

    fn found(&self) -> String {
        match self.peek() {
            Token::EOF => "the end of the statement".to_owned(),
            Token::Word(word) if self.secretive && word.keyword == Keyword::NoKeyword => "a word".to_owned(),
            Token::Word(word) => shorten(&word.to_string()),
            token if self.secretive && is_literal(token) => "a literal".to_owned(),
            token if is_literal(token) => shorten(&token.to_string()),
            token => format!("'{}'", shorten(&token.to_string())),
        }
    }

    fn place(&self) -> String {
        place(self.parser.peek_token_ref().span.start)
    }

    fn syntax(&self, error: ParserError) -> Error {
        match error {
            ParserError::RecursionLimitExceeded if self.dialect.is_exhausted() => {
                Error::invalid_sql("the statement is not understood: too much in it can be read in more than one way")
            }
            ParserError::RecursionLimitExceeded => Error::new(
                ErrorKind::TooLarge,
                format!("the statement is nested too deeply; at most {NESTING_MAX} levels are allowed"),
            ),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                Error::invalid_sql(reworded(&message))
            }
        }
    }
}

/// Clauses of SQL that other databases have where a statement of ours ends.
#[rustfmt::skip]
const KNOWN_CLAUSES: &[&str] = &[
    "AFTER", "AND CHAIN", "AUTHORIZATION", "CASCADE", "CHARACTER SET", "CLUSTER BY", "COLLATE", "COMMENT",
    "CONCURRENTLY", "CONTINUE IDENTITY", "CREDENTIALS", "DEFERRABLE", "DEFERRED", "ENGINE", "EXCLUSIVE", "EXTENDED",
    "FETCH", "FIRST", "FOR", "FORMAT", "FROM", "GENERATED", "IMMEDIATE", "INCLUDE", "INHERITS", "INITIALLY", "INTO",
    "ISOLATION LEVEL", "LIKE", "LIMIT", "LOCATION", "MATCH", "NULLS", "OFFSET", "ON COMMIT", "ON DUPLICATE KEY",
    "ORDER BY", "OVERRIDING", "PARTITION", "PARTITIONED BY", "POSITION", "PURGE", "READ", "REFERENCES",
    "RESTART IDENTITY", "RESTRICT", "RETURNING", "ROW FORMAT", "SETTINGS", "SORT BY", "STORED", "STRICT", "TABLESPACE",
    "TO SAVEPOINT", "TO", "USING", "VIRTUAL", "WHERE", "WITH", "WITHOUT ROWID",
];

/// Whether a token is this unquoted word, in any case.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// Whether a token is a literal with text of the user's.
pub(crate) fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
    )
}

/// The first name that comes a second time.
pub(crate) fn first_duplicate(names: &[String]) -> Option<&String> {
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    names.iter().find(|name| !seen.insert(name.as_str()))
}

/// ` at line 1, column 2`, or nothing at the end of a statement.
pub(crate) fn place(location: Location) -> String {
    if location.line == 0 { String::new() } else { format!(" at line {}, column {}", location.line, location.column) }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).chain("...".chars()).collect()
}

/// The parser's message in our words, and short even where it repeats a long literal.
fn reworded(message: &str) -> String {
    let (message, place) = match message.rfind(" at Line: ") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let message = message.replacen("Expected: ", "expected ", 1).replacen(", found: ", ", found ", 1);
    let message = message
        .strip_suffix("found EOF")
        .map_or(message.clone(), |before| format!("{before}found the end of the statement"));
    format!("{}{}", shorten(&message), place.replace("Line: ", "line ").replace("Column: ", "column "))
}

#[cfg(test)]
mod tests;
