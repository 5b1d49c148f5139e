//! What can be learned from SQL text in the catalog without planning it: which columns an expression names, which
//! tables a query reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

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
pub(super) enum Constant {
    /// The same in every row and at any time: a literal, or arithmetic over literals.
    Literal,
    /// The time of the statement.
    Now,
    /// Different per row, user or call.
    Volatile,
}

/// How constant a default is. Functions are not told apart by name but for the time of the statement: what calls
/// anything else is taken as volatile.
pub(super) fn constancy(expression: &str) -> Result<Constant> {
    let parsed = parse(expression)?;
    if let Expr::Function(function) = &parsed {
        let name = function.name.to_string().to_ascii_lowercase();
        if matches!(name.as_str(), "now" | "current_timestamp" | "localtimestamp" | "transaction_timestamp") {
            return Ok(Constant::Now);
        }
    }
    let calls = matches!(parsed.visit(&mut Calls), ControlFlow::Break(()));
    Ok(if calls { Constant::Volatile } else { Constant::Literal })
}

struct Calls;

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let call = matches!(expr, Expr::Function(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if call { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Refuses an expression that names a column which it may not see.
pub(super) fn require_columns(expression: &str, known: impl Fn(&str) -> bool, what: &str) -> Result<()> {
    match identifiers(expression)?.into_iter().find(|name| !known(name)) {
        Some(name) => Err(Error::invalid_input(format!("column '{name}' in {what} does not exist"))),
        None => Ok(()),
    }
}
