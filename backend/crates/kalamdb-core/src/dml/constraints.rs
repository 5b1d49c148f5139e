//! NOT NULL and CHECK, on the rows about to be written.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use dashmap::DashMap;
use datafusion::physical_expr::PhysicalExpr;
use kalamdb_commons::ids::{Incarnation, SchemaVersion};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};

use crate::query::Planner;

/// The checks of each schema, planned once.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    planned: DashMap<(Incarnation, SchemaVersion), Arc<[PlannedCheck]>>,
}

#[derive(Debug)]
struct PlannedCheck {
    name: String,
    expression: Arc<dyn PhysicalExpr>,
}

impl Constraints {
    /// Refuses rows (the user's columns of the current schema) that break a constraint of their table.
    pub(crate) fn check(&self, planner: &Planner, table: &Table, rows: &RecordBatch) -> Result<()> {
        for (column, values) in table.columns().iter().zip(rows.columns()) {
            if !column.nullable && values.null_count() > 0 {
                return Err(Error::execution(format!(
                    "null value in column '{}' of {} violates its NOT NULL constraint",
                    column.name, table.name
                )));
            }
        }
        for check in self.of(planner, table)?.iter() {
            let held = planner.evaluate(&check.expression, rows)?;
            let held = held.as_boolean_opt().ok_or_else(|| Error::internal("a CHECK that is not BOOLEAN"))?;
            // NULL passes, as the standard has it.
            if let Some(row) = (0..held.len()).find(|row| held.is_valid(*row) && !held.value(*row)) {
                return Err(Error::execution(format!(
                    "row {} violates the CHECK constraint '{}' of {}",
                    row + 1,
                    check.name,
                    table.name
                )));
            }
        }
        Ok(())
    }

    fn of(&self, planner: &Planner, table: &Table) -> Result<Arc<[PlannedCheck]>> {
        let key = (table.incarnation, table.version);
        if let Some(known) = self.planned.get(&key) {
            return Ok(known.clone());
        }
        let schema = super::insert::nullable_schema(table);
        let planned = table.checks.iter().map(|check| {
            let expression = planner.expression(kalamdb_sql::expr::parse(&check.expression)?, &schema)?;
            Ok(PlannedCheck { name: check.name.clone(), expression })
        });
        let planned: Arc<[PlannedCheck]> = planned.collect::<Result<Vec<_>>>()?.into();
        self.planned.insert(key, planned.clone());
        Ok(planned)
    }
}
