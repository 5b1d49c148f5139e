//! What the parser understands and nobody carries out: refused by name, so that no clause is ever ignored.
//!
//! DataFusion's planner drops several clauses without a word, so every field of a query, a SELECT and a relation is
//! named here; one that a new version of the parser adds fails to compile until it is considered.

use std::ops::ControlFlow;

use kalamdb_commons::{Error, Result};
use sqlparser::ast::{
    Cte, CteAsMaterialized, Expr, Fetch, Join, LimitClause, LockType, Query, Select, SelectFlavor, SetExpr, TableAlias,
    TableFactor, Value, ValueWithSpan, Visit, VisitMut, Visitor, With,
};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::cursor::{is_word, place};
use crate::rewrite;
use crate::source::parameter;

/// The most tables, views and subqueries that one statement may read.
pub(crate) const RELATIONS_MAX: usize = 256;

/// How deep a tree may be after [`rewrite`](crate::rewrite): what follows takes stack in proportion, and cloning takes
/// most, some 1 KiB for each level of an expression and 4 KiB for each set operation.
pub(crate) const DEPTH_MAX: usize = 500;
/// The most UNION, EXCEPT and INTERSECT in a row.
pub(crate) const SET_OPERATIONS_MAX: usize = 200;

/// Characters by which names are marked in the tree.
const MARKS: [char; 2] = ['\u{1e}', '\u{1f}'];
/// The first words of statements that can say AS USER; where it stands is the grammar's.
const SUBJECT_FIRST: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "EXPLAIN", "EXECUTE"];

/// Brings an expression, item or query into the form that it goes on in, and refuses what is not implemented in it.
pub(crate) fn settle(tree: &mut (impl Visit + VisitMut)) -> Result<()> {
    rewrite::rewrite(tree);
    match Visit::visit(tree, &mut Refusals { relations: 0, depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Refuses what the grammar would read as something else, or fail on without naming it: AS OF, AS USER in a query,
/// functions of their own grammar in FROM, and names with characters that mark names in the tree.
pub(crate) fn check_words(tokens: &[TokenWithSpan]) -> Result<()> {
    let may_name_subject =
        tokens.get(1).is_some_and(|first| SUBJECT_FIRST.iter().any(|word| is_word(&first.token, word)));
    for (at, pair) in tokens.windows(2).enumerate() {
        let [TokenWithSpan { token: first, span }, TokenWithSpan { token: second, .. }] = pair else { continue };
        if *second == Token::AtSign {
            return Err(Error::invalid_sql(format!("'@' is not implemented{}", place(span.end))));
        }
        if let Token::Word(Word { value, quote_style: Some(_), .. }) = second
            && value.contains(MARKS)
        {
            return Err(Error::invalid_sql(format!(
                "a name cannot hold the control characters U+001E and U+001F{}",
                place(span.end)
            )));
        }
        let Token::Word(Word { quote_style: None, .. }) = first else { continue };
        let third = tokens.get(at + 2).map(|token| &token.token);
        let named = matches!(third, Some(Token::SingleQuotedString(_) | Token::Placeholder(_)));
        if !may_name_subject && named && is_word(first, "AS") && is_word(second, "USER") {
            return Err(Error::invalid_sql(format!(
                "AS USER in a query is not implemented; write EXECUTE AS USER '...' (SELECT ...){}",
                place(span.start)
            )));
        }
        if let Some(what) = refused_words(first, second, third) {
            return Err(Error::invalid_sql(format!("{what} is not implemented{}", place(span.start))));
        }
    }
    Ok(())
}

fn refused_words(first: &Token, second: &Token, third: Option<&Token>) -> Option<&'static str> {
    if is_word(first, "AS") && is_word(second, "OF") && third.is_some_and(begins_version) {
        return Some("AS OF");
    }
    if is_word(first, "FOR") && is_word(second, "SYSTEM_TIME") {
        return Some("FOR SYSTEM_TIME");
    }
    if is_word(first, "TABLE") && *second == Token::LParen {
        return Some("TABLE (...)");
    }
    let call = |name: &&&str| *second == Token::LParen && is_word(first, name);
    ["JSON_TABLE", "OPENJSON", "XMLTABLE"].iter().find(call).copied()
}

/// Whether a token after AS OF is a version or time; otherwise OF is an alias.
fn begins_version(token: &Token) -> bool {
    matches!(token, Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::LParen)
        || ["SYSTEM", "TIME", "TIMESTAMP", "VERSION", "NOW", "CURRENT_TIMESTAMP"]
            .iter()
            .any(|word| is_word(token, word))
}

struct Refusals {
    relations: usize,
    /// Of the expressions around.
    depth: usize,
}

impl Visitor for Refusals {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        let Query {
            with,
            body,
            order_by: _,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        refuse(locks.iter().any(|lock| matches!(lock.lock_type, LockType::Update)), "FOR UPDATE")?;
        refuse(!locks.is_empty(), "FOR SHARE")?;
        refuse(for_clause.is_some(), "FOR XML and FOR JSON")?;
        refuse(settings.is_some(), "SETTINGS")?;
        refuse(format_clause.is_some(), "FORMAT")?;
        refuse(!pipe_operators.is_empty(), "the pipe operator |>")?;
        if let Some(Fetch { with_ties, percent, quantity: _ }) = fetch {
            refuse(*with_ties, "FETCH ... WITH TIES")?;
            refuse(*percent, "FETCH ... PERCENT")?;
            refuse(true, "FETCH together with LIMIT")?;
        }
        match limit_clause {
            Some(LimitClause::LimitOffset { limit: _, offset: _, limit_by }) => {
                refuse(!limit_by.is_empty(), "LIMIT BY")?;
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => refuse(true, "LIMIT with a comma")?,
            None => {}
        }
        if let Some(With { with_token: _, recursive: _, cte_tables }) = with {
            cte_tables.iter().try_for_each(refuse_cte)?;
        }
        refuse_body(body, with.is_some(), 0)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection: _,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by: _,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        refuse(!optimizer_hints.is_empty(), "an optimizer hint")?;
        refuse(select_modifiers.is_some(), "a modifier of SELECT")?;
        refuse(top.is_some(), "TOP")?;
        refuse(exclude.is_some(), "EXCLUDE after the list of SELECT")?;
        refuse(into.is_some(), "SELECT INTO")?;
        refuse(!lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse(prewhere.is_some(), "PREWHERE")?;
        refuse(!connect_by.is_empty(), "CONNECT BY")?;
        refuse(!cluster_by.is_empty(), "CLUSTER BY")?;
        refuse(!distribute_by.is_empty(), "DISTRIBUTE BY")?;
        refuse(!sort_by.is_empty(), "SORT BY")?;
        refuse(value_table_mode.is_some(), "SELECT AS STRUCT and AS VALUE")?;
        refuse(*flavor != SelectFlavor::Standard, "FROM before SELECT")?;
        for Join { relation: _, global, join_operator: _ } in from.iter().flat_map(|table| &table.joins) {
            refuse(*global, "GLOBAL JOIN")?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, relation: &TableFactor) -> ControlFlow<Error> {
        self.relations += 1;
        if self.relations > RELATIONS_MAX {
            return ControlFlow::Break(Error::too_large(format!(
                "the statement reads from more than {RELATIONS_MAX} tables and subqueries"
            )));
        }
        match relation {
            TableFactor::Table {
                name: _,
                alias,
                args: _,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                refuse(!with_hints.is_empty(), "WITH (hints) of a table")?;
                refuse(version.is_some(), "AS OF")?;
                refuse(*with_ordinality, "WITH ORDINALITY")?;
                refuse(!partitions.is_empty(), "PARTITION of a table")?;
                refuse(json_path.is_some(), "a path into a table")?;
                refuse(sample.is_some(), "TABLESAMPLE")?;
                refuse(!index_hints.is_empty(), "an index hint")?;
                refuse_alias(alias.as_ref())
            }
            TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
                refuse(sample.is_some(), "TABLESAMPLE")?;
                refuse_alias(alias.as_ref())
            }
            TableFactor::Function { lateral: _, name: _, args: _, with_ordinality, alias } => {
                refuse(*with_ordinality, "WITH ORDINALITY")?;
                refuse_alias(alias.as_ref())
            }
            TableFactor::UNNEST { alias, array_exprs: _, with_offset, with_offset_alias: _, with_ordinality } => {
                refuse(*with_offset, "UNNEST ... WITH OFFSET")?;
                refuse(*with_ordinality, "WITH ORDINALITY")?;
                refuse_alias(alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                for Join { relation: _, global, join_operator: _ } in &table_with_joins.joins {
                    refuse(*global, "GLOBAL JOIN")?;
                }
                refuse_alias(alias.as_ref())
            }
            TableFactor::TableFunction { .. } => refuse(true, "TABLE(function)"),
            TableFactor::JsonTable { .. } => refuse(true, "JSON_TABLE"),
            TableFactor::OpenJsonTable { .. } => refuse(true, "OPENJSON"),
            TableFactor::Pivot { .. } => refuse(true, "PIVOT"),
            TableFactor::Unpivot { .. } => refuse(true, "UNPIVOT"),
            TableFactor::MatchRecognize { .. } => refuse(true, "MATCH_RECOGNIZE"),
            TableFactor::XmlTable { .. } => refuse(true, "XMLTABLE"),
            TableFactor::SemanticView { .. } => refuse(true, "SEMANTIC_VIEW"),
        }
    }

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return ControlFlow::Break(Error::too_large(format!(
                "an expression has more than {DEPTH_MAX} levels of operators, functions and subqueries"
            )));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Error> {
        match &value.value {
            Value::Placeholder(name) => match parameter(name) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn refuse(present: bool, what: &str) -> ControlFlow<Error> {
    if present {
        ControlFlow::Break(Error::invalid_sql(format!("{what} is not implemented")))
    } else {
        ControlFlow::Continue(())
    }
}

fn refuse_cte(cte: &Cte) -> ControlFlow<Error> {
    let Cte { alias, query: _, from, materialized, closing_paren_token: _ } = cte;
    refuse(from.is_some(), "FROM after a WITH query")?;
    refuse(matches!(materialized, Some(CteAsMaterialized::Materialized)), "AS MATERIALIZED")?;
    refuse(matches!(materialized, Some(CteAsMaterialized::NotMaterialized)), "AS NOT MATERIALIZED")?;
    refuse_alias(Some(alias))
}

fn refuse_alias(alias: Option<&TableAlias>) -> ControlFlow<Error> {
    let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else { return ControlFlow::Continue(()) };
    refuse(columns.iter().any(|column| column.data_type.is_some()), "a type in a list of column aliases")?;
    refuse(at.is_some(), "AT in an alias")
}

fn refuse_body(body: &SetExpr, with: bool, operations: usize) -> ControlFlow<Error> {
    if operations > SET_OPERATIONS_MAX {
        return ControlFlow::Break(Error::too_large(format!(
            "a query has more than {SET_OPERATIONS_MAX} of UNION, EXCEPT and INTERSECT in a row"
        )));
    }
    let place = if with { "after WITH; in INSERT, WITH can follow the list of columns," } else { "in a query" };
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        // The parser drops words after it.
        SetExpr::Table(_) => refuse(true, "TABLE as a query; use SELECT * FROM, it"),
        SetExpr::SetOperation { left, op: _, set_quantifier: _, right } => {
            refuse_body(left, with, operations + 1)?;
            refuse_body(right, with, operations + 1)
        }
        SetExpr::Insert(_) => refuse(true, &format!("INSERT {place}")),
        SetExpr::Update(_) => refuse(true, &format!("UPDATE {place}")),
        SetExpr::Delete(_) => refuse(true, &format!("DELETE {place}")),
        SetExpr::Merge(_) => refuse(true, "MERGE"),
    }
}

#[cfg(test)]
mod tests;
