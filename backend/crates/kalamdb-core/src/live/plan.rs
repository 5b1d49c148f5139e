//! From the SQL of a subscription to a live query: a projection and a predicate over single rows of one table, both
//! compiled once. What cannot be decided from a row alone is refused with a reason, never widened.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::Volatility;
use datafusion::physical_expr::PhysicalExpr;
use kalamdb_commons::ids::ColumnId;
use kalamdb_commons::schema::{Table, TableKind};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::system_columns::{DELETED, ID, SEQ};
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::ast::{
    BinaryOperator, Expr, Function, GroupByExpr, Ident, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, Visit, Visitor,
};
use kalamdb_sql::expr::{as_any_column, fold, is_constant, output_name};
use kalamdb_sql::{Parsed, Statement};
use kalamdb_store::rows::key_bytes;

use super::{LiveCode, LiveError};
use crate::access::{Access, sees_view};
use crate::api::ColumnFlags;
use crate::catalog::ddl::RESERVED_NAMESPACES;
use crate::dml::direct;
use crate::dml::returning::Returning;
use crate::query::point::only_table;
use crate::query::{Planner, StatementScope, plan_error};
use crate::tables::{Exposure, exposed};

/// Functions whose value is not the row's: a filter with one of them would change without a write.
const OF_THE_MOMENT: &[&str] =
    &["now", "current_timestamp", "localtimestamp", "current_date", "today", "current_time", "localtime"];

/// What of the table a live query reads: everything that a query may name.
const READS: Exposure = Exposure { seq: true, born: false, deleted_rows: false };

/// A subscription's query, as many subscriptions as have the same share it.
#[derive(Debug)]
pub(crate) struct LiveQuery {
    /// The table, in the version that the query was planned with.
    pub(crate) table: Arc<Table>,
    /// What subscribers get of a row.
    pub(crate) shape: Arc<Shape>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// A value that a column must have in every row that matches.
    pub(crate) route: Option<Route>,
}

/// What of a live query only its snapshot needs: kept as long as that takes, for it is large.
#[derive(Debug)]
pub(crate) struct Source {
    /// `FROM`, as written.
    pub(crate) from: TableWithJoins,
    /// `WHERE`, with its constants filled in.
    pub(crate) filter: Option<Expr>,
}

/// `column = value`, as changes are routed by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// The column's index among what a live query reads.
    pub(crate) column: usize,
    /// The value's canonical bytes.
    pub(crate) value: Vec<u8>,
}

/// What subscribers get of a row: the columns that they selected, the exact version, and the row's keys.
pub(crate) struct Shape {
    list: Returning,
    keys: Returning,
    /// The columns of a row, the exact version among them.
    pub(crate) schema: SchemaRef,
    /// What is known of each.
    pub(crate) flags: Vec<ColumnFlags>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shape").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Shape {
    /// The subscribers' columns of rows that a live query read.
    pub(crate) fn rows(&self, planner: &Planner, read: &RecordBatch) -> Result<RecordBatch> {
        self.list.project(planner, read)
    }

    /// The keys of the rows, by which clients know them again.
    pub(crate) fn keys(&self, planner: &Planner, read: &RecordBatch) -> Result<RecordBatch> {
        self.keys.project(planner, read)
    }
}

impl LiveQuery {
    /// Which rows match.
    pub(crate) fn matches(&self, planner: &Planner, read: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(predicate) = &self.predicate else { return Ok(None) };
        let matches = planner.evaluate(predicate, read)?;
        let matches = matches.as_boolean_opt().ok_or_else(|| Error::execution("the WHERE is not a BOOLEAN"))?;
        Ok(Some(matches.clone()))
    }
}

/// Whether a row matches, by the answer of [`LiveQuery::matches`].
pub(crate) fn matches_at(matches: Option<&BooleanArray>, row: usize) -> bool {
    matches.is_none_or(|matches| matches.is_valid(row) && matches.value(row))
}

/// A query that has been understood, before it is compiled: what it is shared by.
pub(crate) struct Wanted {
    table: Arc<Table>,
    select: Select,
    alias: Option<String>,
    /// Queries with the same text over the same version of a table are one.
    pub(crate) text: String,
}

impl Wanted {
    /// The table, as the scope's moment has it.
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What the snapshot is read from.
    pub(crate) fn source(&self) -> Result<Source, LiveError> {
        let from = self.select.from.first().cloned().ok_or_else(|| unsupported("it reads no table"))?;
        Ok(Source { from, filter: self.select.selection.clone() })
    }

    /// What the projection is shared by.
    pub(crate) fn list_text(&self) -> String {
        let items: Vec<String> = self.select.projection.iter().map(ToString::to_string).collect();
        format!("{}\u{1f}{}", self.alias.as_deref().unwrap_or_default(), items.join(","))
    }
}

fn unsupported(reason: impl std::fmt::Display) -> LiveError {
    LiveError::new(LiveCode::Unsupported, Error::invalid_sql(format!("this query cannot be live: {reason}")))
}

/// Parses the SQL of a subscription: one statement, which may say AS USER.
pub(crate) fn parse(limits: &LimitSettings, sql: &str) -> Result<Parsed, LiveError> {
    let mut parsed = kalamdb_sql::parse(sql, limits)?;
    let (Some(only), true) = (parsed.pop(), parsed.is_empty()) else {
        return Err(unsupported("it is more than one statement"));
    };
    if only.params > 0 {
        return Err(unsupported("its parameters must be bound before it is sent"));
    }
    if !only.all_users.is_empty() {
        return Err(unsupported("it reads the rows of all users"));
    }
    Ok(only)
}

/// Reads the query of a subscription in its scope, which is that of the user that the statement names, if it does.
pub(crate) fn read(scope: &StatementScope, parsed: Parsed) -> Result<Wanted, LiveError> {
    let Statement::Query(query) = parsed.statement else { return Err(unsupported("only a SELECT can be")) };
    understand(scope, *query)
}

fn understand(scope: &StatementScope, mut query: Query) -> Result<Wanted, LiveError> {
    refuse_clauses(&query)?;
    refuse_functions(scope.engine.planner(), &query)?;
    scope.engine.constants(scope.subject(), &[]).apply(&mut query)?;
    let text = query.to_string();
    let SetExpr::Select(select) = *query.body else { return Err(unsupported("only a SELECT can be")) };
    refuse_select(&select)?;
    let Some((name, alias)) = only_table(&select) else {
        return Err(unsupported("it must read exactly one table, without joins"));
    };
    let resolved = name.resolve(scope.namespace.as_str())?;
    if RESERVED_NAMESPACES.contains(&resolved.namespace.as_str()) {
        return Err(unsupported("the server's own tables tell no changes"));
    }
    if let Some(view) = scope.catalog().view(&resolved)
        && sees_view(scope.catalog(), scope.subject().role, view)
    {
        return Err(unsupported("it reads a view; subscribe to the table behind it"));
    }
    let table = scope.table(&name, Access::Read)?;
    Ok(Wanted { table, select: *select, alias, text })
}

fn refuse_clauses(query: &Query) -> Result<(), LiveError> {
    let refused = [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY: changes come in the order of their commits"),
        (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT: use the option last_rows"),
        (!query.pipe_operators.is_empty(), "pipe operators"),
    ];
    match refused.iter().find(|(there, _)| *there) {
        Some((_, clause)) => Err(unsupported(format_args!("it has {clause}"))),
        None => Ok(()),
    }
}

fn refuse_select(select: &Select) -> Result<(), LiveError> {
    let grouped =
        !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
    let refused = [
        (select.distinct.is_some(), "DISTINCT"),
        (grouped || select.having.is_some(), "GROUP BY or HAVING"),
        (select.qualify.is_some(), "QUALIFY"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.projection.iter().any(has_star_options), "EXCLUDE, REPLACE or RENAME in a star"),
    ];
    if let Some((_, clause)) = refused.iter().find(|(there, _)| *there) {
        return Err(unsupported(format_args!("it has {clause}")));
    }
    match &select.selection {
        Some(filter) if names_column(filter, DELETED) => {
            Err(unsupported(format_args!("its WHERE names {DELETED}; deletions are told as changes")))
        }
        _ => Ok(()),
    }
}

fn has_star_options(item: &SelectItem) -> bool {
    let (SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options)) = item else { return false };
    options.opt_exclude.is_some()
        || options.opt_except.is_some()
        || options.opt_rename.is_some()
        || options.opt_replace.is_some()
        || options.opt_ilike.is_some()
}

fn names_column(expr: &Expr, column: &str) -> bool {
    struct Names<'a>(&'a str);
    impl Visitor for Names<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let last = match expr {
                Expr::Identifier(name) => Some(name),
                Expr::CompoundIdentifier(parts) => parts.last(),
                _ => None,
            };
            if last.is_some_and(|name| fold(name) == self.0) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    expr.visit(&mut Names(column)).is_break()
}

/// Refuses what is not a function of the row: subqueries, aggregates, windows, the present time, random numbers.
fn refuse_functions(planner: &Planner, query: &Query) -> Result<(), LiveError> {
    struct OfTheRow<'a> {
        planner: &'a Planner,
        depth: usize,
    }
    impl Visitor for OfTheRow<'_> {
        type Break = String;
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
            self.depth += 1;
            if self.depth > 1 { ControlFlow::Break("it has a subquery".to_owned()) } else { ControlFlow::Continue(()) }
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
            match expr {
                Expr::Function(function) => match not_of_the_row(self.planner, function) {
                    Some(reason) => ControlFlow::Break(reason),
                    None => ControlFlow::Continue(()),
                },
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match query.visit(&mut OfTheRow { planner, depth: 0 }) {
        ControlFlow::Break(reason) => Err(unsupported(reason)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn not_of_the_row(planner: &Planner, function: &Function) -> Option<String> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    let name = name.value.to_ascii_lowercase();
    let state = planner.state();
    if function.over.is_some() {
        return Some(format!("{name}() with OVER looks at other rows"));
    }
    if OF_THE_MOMENT.contains(&name.as_str()) {
        return Some(format!("{name} changes without a write; send a fixed time instead"));
    }
    if let Some(scalar) = state.scalar_functions().get(&name) {
        let volatile = scalar.signature().volatility == Volatility::Volatile;
        return volatile.then(|| format!("{name}() is different each time"));
    }
    state.aggregate_functions().contains_key(&name).then(|| format!("{name}() looks at other rows"))
}

/// Compiles a projection.
pub(crate) fn shape(planner: &Planner, wanted: &Wanted) -> Result<Shape, LiveError> {
    let mut items = wanted.select.projection.clone();
    if items.iter().any(is_renamed_to_version) {
        return Err(unsupported(format_args!("another column is named {SEQ}, which is the cursor")));
    }
    if !items.iter().any(is_version) {
        items.push(SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', SEQ))));
    }
    let table = &wanted.table;
    let list = Returning::plan(planner, table, wanted.alias.as_deref(), &items).map_err(not_understood)?;
    let schema = list.schema();
    let mut names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(unsupported(format_args!("two of its columns have the name '{}'", twice[0])));
    }
    let key = table.primary_key().map_or(&[] as &[ColumnId], |key| &key.columns);
    let keys = key.iter().filter_map(|id| table.column_by_id(*id)).map(|column| column.name.to_string());
    let keys = keys.chain(std::iter::once(ID.to_owned()));
    let keys: Vec<SelectItem> =
        keys.map(|name| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('"', name)))).collect();
    let keys = Returning::plan(planner, table, None, &keys)?;
    let flags = crate::engine::execution::flags_of(&schema, Some(table));
    Ok(Shape { list, keys, schema, flags })
}

fn is_version(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) => output_name(expr) == SEQ,
        SelectItem::ExprWithAlias { alias, expr } => fold(alias) == SEQ && output_name(expr) == SEQ,
        _ => false,
    }
}

fn is_renamed_to_version(item: &SelectItem) -> bool {
    matches!(item, SelectItem::ExprWithAlias { alias, expr } if fold(alias) == SEQ && output_name(expr) != SEQ)
}

fn not_understood(error: Error) -> LiveError {
    match error.kind() {
        ErrorKind::InvalidSql | ErrorKind::Execution | ErrorKind::Internal => {
            LiveError::new(LiveCode::InvalidSql, Error::invalid_sql(error.message().to_owned()))
        }
        _ => error.into(),
    }
}

/// Compiles a query.
pub(crate) fn compile(planner: &Planner, wanted: Wanted, shape: Arc<Shape>) -> Result<LiveQuery, LiveError> {
    let Wanted { table, mut select, alias, .. } = wanted;
    let (_, schema) = exposed(&table, READS);
    let filter = select.selection.take();
    let predicate = match &filter {
        None => None,
        Some(filter) => {
            let name = alias.as_deref().unwrap_or(table.name.table.as_str());
            let qualified = DFSchema::try_from_qualified_schema(TableReference::bare(name), &schema)
                .map_err(|error| plan_error(error, "the query"))?;
            Some(planner.qualified_expression(filter.clone(), &qualified).map_err(not_understood)?)
        }
    };
    let route = filter.as_ref().and_then(|filter| route(&table, filter));
    let query = LiveQuery { table, shape, predicate, route };
    // What is no BOOLEAN is refused now, not with the first change.
    query.matches(planner, &RecordBatch::new_empty(schema)).map_err(not_understood)?;
    Ok(query)
}

/// The first `column = literal` among the conditions that must all hold.
fn route(table: &Table, filter: &Expr) -> Option<Route> {
    match filter {
        Expr::Nested(inner) => route(table, inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => route(table, left).or_else(|| route(table, right)),
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (name, value) = match (as_any_column(left), as_any_column(right)) {
                (Some(name), None) if is_constant(right) => (name, right),
                (None, Some(name)) if is_constant(left) => (name, left),
                _ => return None,
            };
            let at = table.columns().iter().position(|column| *column.name == *name)?;
            let column = &table.columns()[at];
            if !is_routable(column.column_type) {
                return None;
            }
            let value: ArrayRef = direct::literal(value, column)?;
            // Among what is read, the row's id comes before the columns.
            Some(Route { column: at + 1, value: key_bytes(&[&value], 0).ok()?? })
        }
        _ => None,
    }
}

/// Types whose equality is that of their bytes in every comparison that the planner may choose.
fn is_routable(column_type: ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Boolean
            | ColumnType::SmallInt
            | ColumnType::Int
            | ColumnType::BigInt
            | ColumnType::Text
            | ColumnType::Uuid
    )
}

/// Whether a table kind keeps what a cursor older than its change log asks for.
pub(crate) fn keeps_history(table: &Table) -> bool {
    table.kind != TableKind::Stream
}

/// `FROM` with the relation's name replaced, so that it asks for a wider form of the table.
pub(crate) fn relation_named(from: &TableWithJoins, name: impl FnOnce(&str) -> String) -> TableWithJoins {
    let mut from = from.clone();
    if let TableFactor::Table { name: relation, .. } = &mut from.relation
        && let Some(ObjectNamePart::Identifier(last)) = relation.0.last_mut()
    {
        *last = Ident::with_quote('"', name(&fold(last)));
    }
    from
}

/// A template's query with a live query's FROM and WHERE in the place of its own.
pub(crate) fn fill(template: &str, from: TableWithJoins, filter: Option<Expr>) -> Result<Query> {
    let limits = LimitSettings::default();
    let parsed = kalamdb_sql::parse(template, &limits)?.pop();
    let Some(Statement::Query(mut query)) = parsed.map(|parsed| parsed.statement) else {
        return Err(Error::internal("a template that is no query"));
    };
    let SetExpr::Select(select) = &mut *query.body else { return Err(Error::internal("a template that is no SELECT")) };
    let target = match select.from.first_mut().map(|from| &mut from.relation) {
        Some(TableFactor::Derived { subquery, .. }) => match &mut *subquery.body {
            SetExpr::Select(inner) => inner,
            _ => return Err(Error::internal("a template that is no SELECT")),
        },
        _ => select,
    };
    target.from = vec![from];
    target.selection = match (target.selection.take(), filter) {
        (Some(own), Some(filter)) => Some(Expr::BinaryOp {
            left: Box::new(own),
            op: BinaryOperator::And,
            right: Box::new(Expr::Nested(Box::new(filter))),
        }),
        (own, filter) => own.or(filter),
    };
    Ok(*query)
}

/// The columns that a live query reads, and where each comes from.
pub(crate) fn reads(table: &Table) -> (Vec<kalamdb_store::rows::Projected>, SchemaRef) {
    exposed(table, READS)
}
