//! What can be learned from SQL text in the catalog without planning it: which columns an expression names, which
//! tables a query reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::functions::all_default_functions;
use datafusion::functions_nested::all_default_nested_functions;
use datafusion::logical_expr::Volatility;
use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{NamespaceId, TableRef};
use kalamdb_sql::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, Visit, VisitMut, Visitor, VisitorMut,
};
use kalamdb_sql::expr::{fold, parse};

/// The columns that an expression names, folded.
pub fn identifiers(expression: &str) -> Result<BTreeSet<String>> {
    let parsed = parse(expression)?;
    let mut names = Names::default();
    let _ = parsed.visit(&mut names);
    Ok(names.columns)
}

/// Whether a query may depend on a column of that name: it names one, or takes columns without naming them.
pub(super) fn may_use_column(query: &Query, column: &str) -> bool {
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    // These are nowhere in the tree as expressions; a false alarm from a literal does no harm.
    let text = query.to_string();
    let unnamed = [" USING(", "NATURAL ", "TABLE "].iter().any(|word| text.contains(word));
    unnamed || names.star || names.columns.contains(column)
}

/// The tables and views that a query reads, by full name. Names of common table expressions are among them where
/// they could be tables: whoever asks wants to know what might depend on a table.
pub fn tables_of_query(query: &Query, resolve_in: &NamespaceId) -> BTreeSet<TableRef> {
    let mut relations = Relations { resolve_in, found: BTreeSet::new() };
    let _ = query.visit(&mut relations);
    relations.found
}

/// Makes a query read the tables of one namespace in the place of another's, where it names the namespace.
pub(super) fn rename_namespace(query: &mut Query, from: &NamespaceId, to: &NamespaceId) {
    let _ = query.visit(&mut Renaming { from, to });
}

struct Renaming<'a> {
    from: &'a NamespaceId,
    to: &'a NamespaceId,
}

impl VisitorMut for Renaming<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if let [.., ObjectNamePart::Identifier(namespace), _] = relation.0.as_mut_slice()
            && fold(namespace) == self.from.as_str()
        {
            *namespace = Ident::with_quote('"', self.to.as_str());
        }
        ControlFlow::Continue(())
    }
}

struct Relations<'a> {
    resolve_in: &'a NamespaceId,
    found: BTreeSet<TableRef>,
}

impl Visitor for Relations<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts: Vec<String> = relation
            .0
            .iter()
            .filter_map(|part| match part {
                ObjectNamePart::Identifier(ident) => Some(fold(ident)),
                ObjectNamePart::Function(_) => None,
            })
            .collect();
        let name = match parts.as_slice() {
            [table] => TableRef::new(self.resolve_in.as_str(), table),
            [.., namespace, table] => TableRef::new(namespace, table),
            [] => return ControlFlow::Continue(()),
        };
        self.found.extend(name.ok());
        ControlFlow::Continue(())
    }
}

#[derive(Default)]
struct Names {
    columns: BTreeSet<String>,
    star: bool,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.star |= select
            .projection
            .iter()
            .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => drop(self.columns.insert(fold(ident))),
            Expr::CompoundIdentifier(parts) => self.columns.extend(parts.last().map(fold)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The expression with one column called by another name.
pub(super) fn rename_column(expression: &str, from: &str, to: &str) -> Result<String> {
    let mut parsed = parse(expression)?;
    let _ = VisitMut::visit(&mut parsed, &mut Rename { from, to });
    Ok(parsed.to_string())
}

struct Rename<'a> {
    from: &'a str,
    to: &'a str,
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let ident = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(ident) = ident.filter(|ident| fold(ident) == self.from) {
            *ident = Ident::with_quote('"', self.to);
        }
        ControlFlow::Continue(())
    }
}

/// An expression as a value for rows that exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Constancy {
    /// The same in every row and at any time: literals, operators, and functions that always give the same.
    Constant,
    /// The time of the statement.
    Now,
    /// Different per row, user or call.
    Varies,
}

/// Other spellings of `now()`, and the times that follow from it.
const NOW: [&str; 6] = ["now", "current_timestamp", "localtimestamp", "current_date", "current_time", "localtime"];

/// How constant a default is.
pub(super) fn constancy(expression: &str) -> Result<Constancy> {
    let parsed = parse(expression)?;
    if function_name(&parsed).is_some_and(|name| NOW.contains(&name.as_str())) {
        return Ok(Constancy::Now);
    }
    let mut calls = Calls { immutable: immutable_functions() };
    let varies = parsed.visit(&mut calls).is_break();
    Ok(if varies { Constancy::Varies } else { Constancy::Constant })
}

fn function_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(function) => Some(function.name.to_string().to_ascii_lowercase()),
        _ => None,
    }
}

/// The names of the functions that always give the same for the same arguments.
fn immutable_functions() -> BTreeSet<String> {
    let functions = all_default_functions().into_iter().chain(all_default_nested_functions());
    functions
        .filter(|function| function.signature().volatility == Volatility::Immutable)
        .flat_map(|function| [&[function.name().to_owned()], function.aliases()].concat())
        .collect()
}

/// Stops at a call of anything that is not known to be immutable.
struct Calls {
    immutable: BTreeSet<String>,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let varies = match expr {
            Expr::Function(_) => function_name(expr).is_none_or(|name| !self.immutable.contains(&name)),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
            _ => false,
        };
        if varies { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Refuses an expression that names a column which it may not see.
pub(super) fn require_columns(expression: &str, known: impl Fn(&str) -> bool, what: &str) -> Result<()> {
    match identifiers(expression)?.into_iter().find(|name| !known(name)) {
        Some(name) => Err(Error::invalid_input(format!("column '{name}' in {what} does not exist"))),
        None => Ok(()),
    }
}
