//! The dialect: PostgreSQL's grammar and precedence, which `->` and `->>` need, without what only PostgreSQL can
//! carry out, and with the stars that DataFusion can (`* EXCLUDE`, `* EXCEPT`, `* REPLACE`).
//!
//! It also bounds the parser's work. Where a word or parenthesis has two meanings the parser tries one and then the
//! other, and nested that is two to the power of the depth. Each expression that it begins costs a step, a statement
//! has steps in proportion to its tokens, and without one left the parser gives up.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::{Expr, ObjectName};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

/// How many expressions the parser may begin for each token. One is what almost every statement takes.
const STEPS_PER_TOKEN: usize = 16;
/// How many it may begin in any statement.
const STEPS_MIN: usize = 1_000;

/// How deep INTERVAL may be in INTERVAL. The parser has no limit of its own for it.
const INTERVALS_MAX: usize = 4;

/// The dialect of one statement.
#[derive(Debug)]
pub(crate) struct KalamDialect {
    steps_left: Cell<usize>,
    /// The INTERVALs that are being read.
    intervals: Cell<usize>,
}

impl KalamDialect {
    /// The dialect for a statement of so many tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        let steps = tokens.saturating_mul(STEPS_PER_TOKEN).saturating_add(STEPS_MIN);
        Self { steps_left: Cell::new(steps), intervals: Cell::new(0) }
    }

    /// `INTERVAL '1' DAY` and its like, or a column that is called so.
    fn parse_interval(&self, parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
        if self.intervals.get() == INTERVALS_MAX {
            return Err(ParserError::RecursionLimitExceeded);
        }
        self.intervals.set(self.intervals.get() + 1);
        let interval = parser.maybe_parse(|parser| {
            parser.parse_data_type()?;
            parser.parse_interval()
        });
        self.intervals.set(self.intervals.get() - 1);
        match interval? {
            Some(interval) => Ok(interval),
            None => parser.parse_identifier().map(Expr::Identifier),
        }
    }

    /// Whether the parser gave up.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.steps_left.get() == 0
    }
}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

impl Dialect for KalamDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('"')
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    /// Counts the step. (The error is the only one that the parser does not take for a reason to try something else.)
    ///
    /// Literals are most of the tokens of a large INSERT. The parser's own way first tries them as the name of a type.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        self.steps_left.set(self.steps_left.get().saturating_sub(1));
        if self.is_exhausted() {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        match parser.peek_tokens_ref().map(|token| &token.token) {
            [Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_), _] => {
                Some(parser.parse_value().map(Expr::Value))
            }
            [Token::Word(Word { keyword: Keyword::INTERVAL, .. }), next] if *next != Token::Period => {
                Some(self.parse_interval(parser))
            }
            // PostgreSQL has these without parentheses only.
            [Token::Word(Word { keyword: Keyword::CURRENT_USER | Keyword::SESSION_USER, .. }), Token::LParen] => {
                Some(parser.parse_identifier().and_then(|name| parser.parse_function(ObjectName::from(vec![name]))))
            }
            _ => None,
        }
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    /// `NOT NULL` after an expression is no operator, as in PostgreSQL: in `DEFAULT 1 NOT NULL` it is the column's.
    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match parser.peek_tokens_ref().map(|token| &token.token) {
            [Token::Word(not), Token::Word(null)] if not.keyword == Keyword::NOT && null.keyword == Keyword::NULL => {
                Some(Ok(self.prec_unknown()))
            }
            _ => POSTGRES.get_next_precedence(parser),
        }
    }

    /// `SELECT 1 ON CONFLICT ...`: what begins a clause is no alias, unless AS says so.
    fn is_column_alias(&self, keyword: &Keyword, _parser: &mut Parser<'_>) -> bool {
        !RESERVED_FOR_COLUMN_ALIAS.contains(keyword)
            && !matches!(keyword, Keyword::ON | Keyword::QUALIFY | Keyword::WINDOW | Keyword::FOR | Keyword::USING)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_explain_with_utility_options(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }
}
