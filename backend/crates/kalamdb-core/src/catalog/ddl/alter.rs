//! ALTER TABLE: a new schema version, or new options.
//!
//! The operations are applied in order to a copy of the table. What must be true of existing data is then read off
//! the difference between the table before and the table after, so that a column that one operation renames and
//! the next retypes is checked once, as what it was against what it becomes.
//!
//! Stored rows are not touched. A column keeps its id for as long as it exists and a new one gets a new id; rows of
//! older versions are read through the schema of their version and converted from the type they were written with
//! to the type of today in one step. That is why a column whose type changed once changes it again only where all
//! ways of conversion agree, or while the table is empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use kalamdb_commons::error::{Error, Result};
use kalamdb_commons::ids::{ColumnId, SchemaVersion, TableRef, column_name};
use kalamdb_commons::schema::{Check, Column, ColumnDefault, Table, TableKind};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::ColumnType;
use kalamdb_sql::{AlterOperation, ColumnDef, KeyDef, TableName};

use super::expressions::{self, Constancy};
use super::tables::{NewColumn, add_check, add_key, make_column, set_options};
use super::views::refuse_used_column;
use super::{COLUMNS_MAX, DdlContext, Planned, refuse_reserved};
use crate::catalog::{Catalog, DataCheck, Draft, ExpressionRole, NewExpression};

pub(super) fn alter(
    catalog: &Catalog,
    context: &DdlContext,
    name: &TableName,
    if_exists: bool,
    operations: &[AlterOperation],
) -> Result<Planned> {
    let name = context.resolve(name)?;
    refuse_reserved(&name.namespace)?;
    if catalog.view(&name).is_some() {
        return Err(Error::invalid_input(format!("'{name}' is a view, not a table: use CREATE OR REPLACE VIEW")));
    }
    let before = match catalog.require_table(&name) {
        Err(error) if if_exists => return Ok(Planned::nothing(error.message())),
        found => found?,
    };
    let mut alteration = Alteration::of(catalog, context, before);
    for operation in operations {
        alteration.apply(operation)?;
    }
    alteration.finish()
}

/// An ALTER TABLE in progress.
struct Alteration<'a> {
    catalog: &'a Catalog,
    context: &'a DdlContext,
    before: &'a Arc<Table>,
    table: Table,
    columns: Vec<Column>,
    new_checks: Vec<Check>,
    checks: Vec<DataCheck>,
    new_defaults: BTreeSet<ColumnId>,
    notes: Vec<String>,
}

impl<'a> Alteration<'a> {
    fn of(catalog: &'a Catalog, context: &'a DdlContext, before: &'a Arc<Table>) -> Self {
        Self {
            catalog,
            context,
            before,
            table: Table::clone(before),
            columns: before.columns().to_vec(),
            new_checks: Vec::new(),
            checks: Vec::new(),
            new_defaults: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    fn apply(&mut self, operation: &AlterOperation) -> Result<()> {
        match operation {
            AlterOperation::AddColumn { column, if_not_exists } => self.add(column, *if_not_exists),
            AlterOperation::DropColumn { name, if_exists } => self.drop(name, *if_exists),
            AlterOperation::RenameColumn { from, to } => self.rename(from, to),
            AlterOperation::ModifyColumn { name, column_type, nullable, default } => {
                self.modify(name, *column_type, *nullable, default.as_ref())
            }
            AlterOperation::SetAccessLevel(level) => {
                if self.table.kind != TableKind::Shared {
                    return Err(Error::invalid_input(format!(
                        "an access level is for SHARED tables; '{}' is a {} table",
                        self.table.name,
                        self.table.kind.as_str()
                    )));
                }
                self.table.options.access_level = *level;
                Ok(())
            }
            AlterOperation::SetOptions(set) => self.set_options(set),
        }
    }

    /// Puts the columns so far into the table as its next version, so that rules that ask the table see them.
    fn stage(&mut self) {
        let next = SchemaVersion(self.before.version.0 + 1);
        self.table.version = next;
        self.table.versions.insert(next, self.columns.clone().into());
    }

    fn name(&self) -> &TableRef {
        &self.before.name
    }

    fn position(&self, name: &str) -> Result<usize> {
        SystemColumns::refuse_write(name)?;
        self.columns
            .iter()
            .position(|column| &*column.name == name)
            .ok_or_else(|| Error::invalid_input(format!("column '{name}' of table '{}' does not exist", self.name())))
    }

    fn set_options(&mut self, set: &kalamdb_sql::TableOptionSet) -> Result<()> {
        if set.storage.as_ref().is_some_and(|storage| *storage != self.before.options.storage) {
            return Err(Error::invalid_input(
                "STORAGE_ID cannot be changed: the table's files lie where they are; create another table",
            ));
        }
        self.stage();
        set_options(&mut self.table, set, self.context)
    }

    fn add(&mut self, def: &ColumnDef, if_not_exists: bool) -> Result<()> {
        if self.columns.iter().any(|column| *column.name == *def.name) {
            let message = format!("column '{}' of table '{}' already exists", def.name, self.name());
            if if_not_exists {
                self.notes.push(message);
                return Ok(());
            }
            return Err(Error::already_exists(message));
        }
        if self.columns.len() >= COLUMNS_MAX {
            return Err(Error::invalid_input(format!("a table can have at most {COLUMNS_MAX} columns")));
        }
        let id = self.table.next_column;
        self.table.next_column = ColumnId(id.0 + 1);
        let mut column = make_column(
            id,
            NewColumn {
                name: def.name.clone(),
                column_type: def.column_type,
                nullable: def.nullable,
                default: def.default.clone(),
            },
        )?;
        if let Some(default) = &def.default {
            column.missing = self.missing(&def.name, default, def.column_type)?;
        }
        self.new_defaults.insert(id);
        self.columns.push(column);
        self.stage();
        if def.unique || def.primary_key {
            self.add_key(def)?;
        }
        for check in &def.checks {
            self.new_checks.push(add_check(&mut self.table, check)?);
        }
        Ok(())
    }

    /// What rows that exist already read in a new column: the default if it is the same for all of them. A default
    /// that is not cannot be given to them without writing every row.
    fn missing(&mut self, column: &str, default: &str, column_type: ColumnType) -> Result<Option<String>> {
        let value = match expressions::constancy(default)? {
            Constancy::Constant => Some(default.to_owned()),
            Constancy::Now => now_literal(column_type, self.context.now_ms),
            Constancy::Varies => None,
        };
        if value.is_none() {
            self.require_empty(format!(
                "cannot add column '{column}' with the default {default}, which is not the same for all existing rows \
                 (add the column without it, then ALTER COLUMN {column} SET DEFAULT)"
            ));
        }
        Ok(value)
    }

    /// Existing rows would all have the same value, or none that was ever checked.
    fn add_key(&mut self, def: &ColumnDef) -> Result<()> {
        if def.primary_key && self.table.primary_key().is_some() {
            return Err(Error::invalid_input(format!("table '{}' already has a primary key", self.name())));
        }
        let key = KeyDef { name: None, columns: vec![def.name.clone()] };
        add_key(self.catalog, &mut self.table, &key, def.primary_key)?;
        self.columns = self.table.columns().to_vec();
        let what = if def.primary_key { "PRIMARY KEY" } else { "UNIQUE" };
        self.require_empty(format!("cannot add column '{}' as {what}", def.name));
        Ok(())
    }

    fn require_empty(&mut self, otherwise: String) {
        self.checks.push(DataCheck::Empty { table: self.name().clone(), otherwise });
    }

    fn drop(&mut self, name: &str, if_exists: bool) -> Result<()> {
        if if_exists && !self.columns.iter().any(|column| &*column.name == name) {
            self.notes.push(format!("column '{name}' of table '{}' does not exist", self.name()));
            return Ok(());
        }
        let at = self.position(name)?;
        let id = self.columns[at].id;
        let refuse = |what: String| {
            Err(Error::invalid_input(format!(
                "cannot drop column '{name}' of table '{}': {what} uses it",
                self.before.name
            )))
        };
        if let Some(key) = self.table.keys.iter().find(|key| key.columns.contains(&id)) {
            return refuse(format!("{} '{}'", if key.primary { "primary key" } else { "unique key" }, key.name));
        }
        if let Some(index) = self.table.indexes.iter().find(|index| index.columns.contains(&id)) {
            return refuse(format!("index '{}'", index.name));
        }
        for check in &self.table.checks {
            if expressions::identifiers(&check.expression)?.contains(name) {
                return refuse(format!("check constraint '{}'", check.name));
            }
        }
        refuse_used_column(self.catalog, self.name(), name, "drop")?;
        if self.columns.len() == 1 {
            return Err(Error::invalid_input(format!(
                "cannot drop column '{name}': it is the last one of table '{}'; drop the table instead",
                self.name()
            )));
        }
        self.columns.remove(at);
        let options = &mut self.table.options;
        for columns in [&mut options.bloom_filter_columns, &mut options.bloom_filter_off] {
            columns.retain(|column| *column != id);
        }
        self.stage();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let at = self.position(from)?;
        SystemColumns::refuse_name(to)?;
        let renamed = column_name(to)?;
        if self.columns.iter().any(|column| column.name == renamed) {
            return Err(Error::already_exists(format!("column '{to}' of table '{}' already exists", self.name())));
        }
        refuse_used_column(self.catalog, self.name(), from, "rename")?;
        for check in &mut self.table.checks {
            if expressions::identifiers(&check.expression)?.contains(from) {
                check.expression = expressions::rename_column(&check.expression, from, to)?;
            }
        }
        self.columns[at].name = renamed;
        self.stage();
        Ok(())
    }

    fn modify(
        &mut self,
        name: &str,
        column_type: Option<ColumnType>,
        nullable: Option<bool>,
        default: Option<&Option<String>>,
    ) -> Result<()> {
        let at = self.position(name)?;
        let id = self.columns[at].id;
        if let Some(to) = column_type.filter(|to| *to != self.columns[at].column_type) {
            if let Some(key) = self.table.keys.iter().find(|key| key.columns.contains(&id)) {
                return Err(Error::invalid_input(format!(
                    "cannot change the type of column '{name}' of table '{}': key '{}' uses it",
                    self.name(),
                    key.name
                )));
            }
            refuse_used_column(self.catalog, self.name(), name, "change the type of")?;
            self.columns[at].column_type = to;
        }
        if let Some(nullable) = nullable {
            if nullable && self.table.primary_key().is_some_and(|key| key.columns.contains(&id)) {
                return Err(Error::invalid_input(format!(
                    "column '{name}' is in the primary key of table '{}' and stays NOT NULL",
                    self.name()
                )));
            }
            self.columns[at].nullable = nullable;
        }
        if let Some(default) = default {
            self.columns[at].default = default.clone().map(ColumnDefault::Expression);
            self.new_defaults.insert(id);
        }
        self.stage();
        Ok(())
    }

    fn finish(mut self) -> Result<Planned> {
        if self.columns == **self.before.columns() {
            self.table.version = self.before.version;
            self.table.versions = self.before.versions.clone();
        } else {
            self.stage();
        }
        if self.table == **self.before {
            let message = if self.notes.is_empty() { "nothing to change".to_owned() } else { self.notes.join("; ") };
            return Ok(Planned::nothing(message));
        }
        self.check_columns();
        for check in std::mem::take(&mut self.new_checks) {
            self.checks.push(DataCheck::Holds { table: self.name().clone(), check });
        }
        let message = format!("Table '{}' altered", self.name());
        let mut draft = Draft::new(self.catalog);
        let table = draft.put_table(self.table.clone());
        draft.expressions = self.new_expressions(&table);
        draft.checks = self.checks;
        Ok(draft.finish(message).into())
    }

    /// What must be true of existing rows, from the columns before and after.
    fn check_columns(&mut self) {
        let table = self.name().clone();
        for column in self.columns.clone() {
            match self.before.column_by_id(column.id) {
                Some(old) => {
                    if old.column_type != column.column_type {
                        let to = column.column_type;
                        self.checks.push(DataCheck::Converts { table: table.clone(), column: column.id, to });
                        self.check_history(&column);
                    }
                    if old.nullable && !column.nullable {
                        self.checks.push(DataCheck::NotNull { table: table.clone(), column: column.id });
                    }
                }
                None if !column.nullable && column.default.is_none() => {
                    self.require_empty(format!("cannot add column '{}' as NOT NULL without a default", column.name))
                }
                None => {}
            }
        }
    }

    /// A column that had several types reads the same from rows of every version only if all conversions agree.
    fn check_history(&mut self, column: &Column) {
        let types: Vec<ColumnType> = self
            .before
            .versions
            .values()
            .filter_map(|columns| columns.iter().find(|old| old.id == column.id))
            .map(|old| old.column_type)
            .chain([column.column_type])
            .collect();
        let mut steps = types.windows(2).filter(|pair| pair[0] != pair[1]);
        let several = steps.clone().count() > 1;
        if several && !steps.all(|pair| keeps_values(pair[0], pair[1])) {
            self.require_empty(format!(
                "the type of column '{}' was changed before and cannot be changed to {} as well",
                column.name, column.column_type
            ));
        }
    }

    fn new_expressions(&self, table: &Arc<Table>) -> Vec<NewExpression> {
        let expression = |role, text: &str| NewExpression { table: Arc::clone(table), role, text: text.to_owned() };
        let mut found = Vec::new();
        for column in table.columns().iter() {
            let retyped = self.before.column_by_id(column.id).is_some_and(|old| old.column_type != column.column_type);
            if !retyped && !self.new_defaults.contains(&column.id) {
                continue;
            }
            if let Some(ColumnDefault::Expression(text)) = &column.default {
                found.push(expression(ExpressionRole::Default(column.id), text));
            }
            if let Some(text) = &column.missing {
                found.push(expression(ExpressionRole::Missing(column.id), text));
            }
        }
        let columns_changed = table.version != self.before.version;
        for check in table.checks.iter().filter(|check| columns_changed || !self.before.checks.contains(check)) {
            found.push(expression(ExpressionRole::Check(check.name.clone()), &check.expression));
        }
        found
    }
}

/// Whether every value of `from` is the same value as `to`, however many such steps lie between.
fn keeps_values(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType::*;
    matches!(
        (from, to),
        (SmallInt, Int | BigInt)
            | (Int, BigInt)
            | (Float, Double)
            | (Timestamp, DateTime)
            | (DateTime, Timestamp)
            | (Uuid | Json, Text)
    )
}

/// The statement's time as a literal of the type; `None` for types that NOW() does not suit.
fn now_literal(column_type: ColumnType, now_ms: i64) -> Option<String> {
    let now = chrono::DateTime::from_timestamp_millis(now_ms)?;
    Some(match column_type {
        ColumnType::Timestamp | ColumnType::DateTime | ColumnType::Text => {
            format!("'{}'", now.format("%Y-%m-%d %H:%M:%S%.3f"))
        }
        ColumnType::Date => format!("'{}'", now.format("%Y-%m-%d")),
        ColumnType::Time => format!("'{}'", now.format("%H:%M:%S%.3f")),
        _ => return None,
    })
}
