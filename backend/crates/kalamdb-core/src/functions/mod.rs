//! The functions and operators that KalamDB adds to DataFusion's.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | `snowflake_id()`, `uuid_v7()`, `ulid()`: another value for each row |
//! | [`user`] | `current_user()`: whoever the statement runs as |
//! | [`json`] | `->` and `->>` on JSON text |
//! | [`bounded`] | DataFusion's functions whose result is as large as an argument says, within reason |
//! | [`types`] | the types of CAST that DataFusion lacks or holds otherwise than a column would |
//!
//! [`register`] adds them to a session under construction. `NOW()` is DataFusion's: it becomes the literal start
//! time of the statement while the plan is optimised, and `current_user()` does too. A plan of a statement for which
//! [`varies_by_statement`] holds must therefore not be kept in its optimised form.

mod bounded;
pub mod ids;
pub mod json;
pub mod types;
pub mod user;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, Volatility};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::unique::TimeOrdered;

pub use user::{clear_current_user, set_current_user};

/// Adds everything of this module to a session. Call it after `with_default_features`.
pub fn register(
    mut builder: SessionStateBuilder,
    rows: Arc<SystemColumns>,
    ids: Arc<TimeOrdered>,
) -> SessionStateBuilder {
    let functions: [ScalarUDF; 6] = [
        ids::SnowflakeId::new(rows).into(),
        ids::TextId::uuid_v7(Arc::clone(&ids)).into(),
        ids::TextId::ulid(ids).into(),
        user::CurrentUser::default().into(),
        json::JsonGet::json().into(),
        json::JsonGet::text().into(),
    ];
    let all = builder.scalar_functions().get_or_insert_default();
    bounded::bound(all);
    all.extend(functions.map(Arc::new));
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(json::JsonOperators::default()));
    builder.with_type_planner(Arc::new(types::CastTypes))
}

/// Whether a plan as the SQL planner gives it holds a function whose value is fixed for one statement only:
/// `now()`, `current_date()`, `current_user()` and their kind. Subqueries are looked into.
pub fn varies_by_statement(plan: &LogicalPlan) -> Result<bool> {
    let mut varies = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                varies |= matches!(inner, Expr::ScalarFunction(call)
                    if call.func.signature().volatility == Volatility::Stable);
                Ok(if varies { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if varies { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(varies)
}

#[cfg(test)]
mod tests;
