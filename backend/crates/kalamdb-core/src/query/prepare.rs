//! What is done to a statement's syntax tree before it is planned.
//!
//! - Parameters become literals, so that everything behind plans constants.
//! - `CURRENT_USER()` and the functions of the present time become literals of this statement: one statement sees
//!   one time, and the engine's clock is the only one.
//! - A SELECT whose own WHERE names `_deleted`, or a statement that names `_seq`, has its relations marked, which asks
//!   for a wider form of the table. The mark is a suffix that no valid table name can have.

use std::collections::HashMap;
use std::ops::ControlFlow;

use kalamdb_commons::ids::UserId;
use kalamdb_commons::system_columns::{DELETED, SEQ};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{
    DataType, ExcludeSelectItem, Expr, Function, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TimezoneInfo, TypedString, Value, ValueWithSpan, Visit, VisitMut,
    Visitor, VisitorMut,
};
use kalamdb_sql::expr::fold;
use kalamdb_sql::{ConflictAction, Insert, InsertSource, OnConflict};

use crate::api::Param;
use crate::tables::Exposure;

const MARK: char = '\u{1f}';

/// What the literals of a statement are made from.
#[derive(Debug)]
pub(crate) struct Constants<'a> {
    /// The values of `$1..$n`.
    pub(crate) params: &'a [Param],
    /// The value of `CURRENT_USER()`.
    pub(crate) user: &'a UserId,
    /// The value of `NOW()`, nanoseconds since 1970.
    pub(crate) now_ns: i64,
}

impl Constants<'_> {
    /// Replaces parameters and functions of the present in anything that holds expressions.
    pub(crate) fn apply(&self, node: &mut impl VisitMut) -> Result<()> {
        match node.visit(&mut Literals { constants: self }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// The same in an INSERT.
    pub(crate) fn apply_to_insert(&self, insert: &mut Insert) -> Result<()> {
        match &mut insert.source {
            InsertSource::Values(rows) => self.apply(rows)?,
            InsertSource::Query(query) => self.apply(&mut **query)?,
            InsertSource::DefaultValues => {}
        }
        if let Some(OnConflict { action: ConflictAction::DoUpdate { assignments, filter }, .. }) =
            &mut insert.on_conflict
        {
            assignments.iter_mut().try_for_each(|(_, expr)| self.apply(expr))?;
            self.apply(filter)?;
        }
        self.apply(&mut insert.returning)
    }

    fn param(&self, name: &str) -> Result<Value> {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let Some(number) = number.filter(|number| *number > 0) else {
            return Err(Error::invalid_parameter(format!("parameter '{name}' is not of the form $1, $2, ...")));
        };
        let Some(param) = self.params.get(number - 1) else {
            return Err(Error::invalid_parameter(format!(
                "the statement uses ${number}, but {} parameters were given",
                self.params.len()
            )));
        };
        Ok(match param {
            Param::Null => Value::Null,
            Param::Boolean(value) => Value::Boolean(*value),
            Param::Number(number) => Value::Number(number.to_string(), false),
            Param::Text(text) => Value::SingleQuotedString(text.clone()),
        })
    }

    fn present(&self, function: &Function) -> Option<Expr> {
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
        let no_arguments = match &function.args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => list.args.is_empty(),
            FunctionArguments::Subquery(_) => false,
        };
        if !no_arguments {
            return None;
        }
        let time = chrono::DateTime::from_timestamp_nanos(self.now_ns).naive_utc();
        let typed = |data_type, text: String| {
            Expr::TypedString(TypedString {
                data_type,
                value: Value::SingleQuotedString(text).into(),
                uses_odbc_syntax: false,
            })
        };
        match name.value.to_ascii_lowercase().as_str() {
            "current_user" | "session_user" | "user" => {
                Some(Expr::Value(Value::SingleQuotedString(self.user.to_string()).into()))
            }
            "now" | "current_timestamp" | "localtimestamp" => Some(typed(
                DataType::Timestamp(None, TimezoneInfo::None),
                time.format("%Y-%m-%d %H:%M:%S%.9f").to_string(),
            )),
            "current_date" | "today" => Some(typed(DataType::Date, time.format("%Y-%m-%d").to_string())),
            "current_time" | "localtime" => {
                Some(typed(DataType::Time(None, TimezoneInfo::None), time.format("%H:%M:%S%.6f").to_string()))
            }
            _ => None,
        }
    }
}

struct Literals<'a> {
    constants: &'a Constants<'a>,
}

impl VisitorMut for Literals<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let negative = |value: &Value| matches!(value, Value::Number(digits, _) if digits.starts_with('-'));
        let replacement = match expr {
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => match self.constants.param(name) {
                // A negative number is an operator and a literal, as the parser would have it.
                Ok(value) if negative(&value) => kalamdb_sql::expr::parse(&value.to_string()).ok(),
                Ok(value) => Some(Expr::Value(value.into())),
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::Function(function) => self.constants.present(function),
            _ => None,
        };
        if let Some(replacement) = replacement {
            *expr = replacement;
        }
        ControlFlow::Continue(())
    }
}

/// Marks the relations of a query that must show more than their visible columns and live rows.
pub(crate) fn mark_exposed(query: &mut Query) {
    let seq = names(query, SEQ, true);
    // The visitor never breaks.
    let _: ControlFlow<()> = VisitMut::visit(query, &mut Marker { seq });
}

struct Marker {
    seq: bool,
}

impl VisitorMut for Marker {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_repeated_outputs(select);
        let deleted = select.selection.as_ref().is_some_and(|filter| names(filter, DELETED, false));
        if !deleted && !self.seq {
            return ControlFlow::Continue(());
        }
        let exposure = Exposure { seq: self.seq, born: false, deleted_rows: deleted };
        let mut any_table = false;
        for from in &mut select.from {
            any_table |= mark_relation(&mut from.relation, exposure);
            for join in &mut from.joins {
                any_table |= mark_relation(&mut join.relation, exposure);
            }
        }
        if self.seq && any_table {
            hide_from_stars(select);
        }
        ControlFlow::Continue(())
    }
}

/// Gives each output of a query that is an expression its own text as its name, as it was written: before parameters
/// become literals, and instead of DataFusion's names, which say `Int64(2)` for 2.
pub(crate) fn name_outputs(query: &mut Query) {
    let mut body = &mut *query.body;
    // The first part of a union names the whole.
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = &mut inner.body,
            _ => return,
        }
    };
    // An ORDER BY of a DISTINCT must find its expressions among the outputs as they are.
    if select.distinct.is_some() && query.order_by.is_some() {
        return;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let text = expr.to_string();
        let before = seen.entry(text.clone()).or_default();
        let name = if *before == 0 { text } else { format!("{text}:{before}") };
        *before += 1;
        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', name) };
    }
}

/// DataFusion wants outputs of different names: an expression that comes again gets a number.
fn name_repeated_outputs(select: &mut Select) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let times = seen.entry(expr.to_string()).or_default();
        *times += 1;
        if *times > 1 {
            let alias = Ident::with_quote('"', format!("{expr}:{}", *times - 1));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

fn mark_relation(relation: &mut TableFactor, exposure: Exposure) -> bool {
    let TableFactor::Table { name, alias, args: None, .. } = relation else { return false };
    let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else { return false };
    let folded = fold(last);
    if alias.is_none() {
        *alias = Some(TableAlias {
            explicit: true,
            name: Ident::with_quote('"', folded.clone()),
            columns: Vec::new(),
            at: None,
        });
    }
    *last = Ident::with_quote('"', marked(&folded, exposure));
    true
}

/// A star never shows `_seq`.
fn hide_from_stars(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item
            && options.opt_exclude.is_none()
            && options.opt_except.is_none()
        {
            options.opt_exclude = Some(ExcludeSelectItem::Single(ObjectName::from(vec![Ident::with_quote('"', SEQ)])));
        }
    }
}

/// A table's name with what is asked of it.
pub(crate) fn marked(name: &str, exposure: Exposure) -> String {
    let flag = |set, letter| if set { letter } else { '-' };
    let (seq, born) = (flag(exposure.seq, 's'), flag(exposure.born, 'b'));
    format!("{name}{MARK}{seq}{born}{}", flag(exposure.deleted_rows, 'd'))
}

/// The table's name and what is asked of it, of a name that may be [`marked`].
pub(crate) fn unmarked(name: &str) -> (&str, Exposure) {
    match name.split_once(MARK) {
        None => (name, Exposure::default()),
        Some((name, flags)) => {
            let has = |flag| flags.contains(flag);
            (name, Exposure { seq: has('s'), born: has('b'), deleted_rows: has('d') })
        }
    }
}

/// Whether an expression or query names a column, qualified or not; below the first level of subqueries only if
/// `everywhere`.
fn names(node: &impl Visit, column: &str, everywhere: bool) -> bool {
    struct Search<'a> {
        column: &'a str,
        everywhere: bool,
        depth: usize,
    }
    impl Visitor for Search<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let named = match expr {
                Expr::Identifier(name) => fold(name) == self.column,
                Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|name| fold(name) == self.column),
                _ => false,
            };
            if named && (self.everywhere || self.depth == 0) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    node.visit(&mut Search { column, everywhere, depth: 0 }).is_break()
}
