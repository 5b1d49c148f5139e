//! `information_schema.tables` and `.columns`, with the names and words that PostgreSQL has for them. Tables of the
//! server's are listed for whoever may read them.

use kalamdb_commons::error::Result;
use kalamdb_commons::types::ColumnType;

use super::catalog_tables::{ShownColumn, columns_of_table, columns_of_view, seen_tables, seen_views};
use super::sheet::{Cell, Columns, Row};
use super::{DATABASE, SystemTable, SystemView};

const TEXT: ColumnType = ColumnType::Text;
const INT: ColumnType = ColumnType::Int;

pub(super) const TABLES: Columns = &[
    ("table_catalog", TEXT),
    ("table_schema", TEXT),
    ("table_name", TEXT),
    ("table_type", TEXT),
    ("is_insertable_into", TEXT),
];

pub(super) fn tables(view: &SystemView) -> Result<Vec<Row>> {
    let row = |namespace: &str, table: &str, what: &str, insertable: bool| -> Row {
        vec![DATABASE.into(), namespace.into(), table.into(), what.into(), yes_or_no(insertable)]
    };
    let tables = seen_tables(view)
        .map(|table| row(table.name.namespace.as_str(), table.name.table.as_str(), "BASE TABLE", true));
    let views =
        seen_views(view).map(|shown| row(shown.name.namespace.as_str(), shown.name.table.as_str(), "VIEW", false));
    let own = readable(view).map(|table| row(table.namespace, table.name, "SYSTEM VIEW", false));
    Ok(tables.chain(views).chain(own).collect())
}

pub(super) const COLUMNS: Columns = &[
    ("table_catalog", TEXT),
    ("table_schema", TEXT),
    ("table_name", TEXT),
    ("column_name", TEXT),
    ("ordinal_position", INT),
    ("column_default", TEXT),
    ("is_nullable", TEXT),
    ("data_type", TEXT),
    ("character_maximum_length", INT),
    ("numeric_precision", INT),
    ("numeric_precision_radix", INT),
    ("numeric_scale", INT),
    ("datetime_precision", INT),
    ("is_generated", TEXT),
    ("is_updatable", TEXT),
];

pub(super) fn columns(view: &SystemView) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for table in seen_tables(view) {
        push(&mut rows, table.name.namespace.as_str(), table.name.table.as_str(), columns_of_table(table), true);
    }
    for shown in seen_views(view) {
        push(&mut rows, shown.name.namespace.as_str(), shown.name.table.as_str(), columns_of_view(shown), false);
    }
    for table in readable(view) {
        push(&mut rows, table.namespace, table.name, columns_of_system(table), false);
    }
    Ok(rows)
}

fn readable(view: &SystemView) -> impl Iterator<Item = &'static SystemTable> {
    super::tables().iter().filter(|table| table.readable_by(view.actor.role))
}

/// The columns of a table of the server's.
pub(super) fn columns_of_system(table: &SystemTable) -> Vec<ShownColumn> {
    let columns = table.columns.iter();
    columns
        .map(|(name, column_type)| ShownColumn {
            name: (*name).to_owned(),
            id: None,
            data_type: column_type.to_string(),
            column_type: Some(*column_type),
            nullable: true,
            default: None,
            primary_key: false,
            unique: false,
            generated: false,
        })
        .collect()
}

fn push(rows: &mut Vec<Row>, namespace: &str, table: &str, columns: Vec<ShownColumn>, updatable: bool) {
    for (column, ordinal) in columns.into_iter().zip(1..) {
        let numeric = column.column_type.map(numeric).unwrap_or_default();
        rows.push(vec![
            DATABASE.into(),
            namespace.into(),
            table.into(),
            column.name.into(),
            Cell::Int(ordinal),
            column.default.into(),
            yes_or_no(column.nullable),
            column.column_type.map(postgres_name).into(),
            Cell::Null,
            numeric.precision.into(),
            numeric.radix.into(),
            numeric.scale.into(),
            column.column_type.and_then(fraction_digits).into(),
            if column.generated { "ALWAYS" } else { "NEVER" }.into(),
            yes_or_no(updatable && !column.generated),
        ]);
    }
}

fn yes_or_no(truth: bool) -> Cell {
    if truth { "YES" } else { "NO" }.into()
}

/// The name of a type in PostgreSQL's `data_type`.
fn postgres_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Boolean => "boolean",
        ColumnType::SmallInt => "smallint",
        ColumnType::Int => "integer",
        ColumnType::BigInt => "bigint",
        ColumnType::Float => "real",
        ColumnType::Double => "double precision",
        ColumnType::Decimal(..) => "numeric",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytea",
        ColumnType::Date => "date",
        ColumnType::Time => "time without time zone",
        ColumnType::Timestamp | ColumnType::DateTime => "timestamp without time zone",
        ColumnType::Uuid => "uuid",
        ColumnType::Json => "json",
    }
}

#[derive(Default)]
struct Numeric {
    precision: Option<i64>,
    radix: Option<i64>,
    scale: Option<i64>,
}

fn numeric(column_type: ColumnType) -> Numeric {
    let of = |precision, radix, scale| Numeric { precision: Some(precision), radix: Some(radix), scale };
    match column_type {
        ColumnType::SmallInt => of(16, 2, Some(0)),
        ColumnType::Int => of(32, 2, Some(0)),
        ColumnType::BigInt => of(64, 2, Some(0)),
        ColumnType::Float => of(24, 2, None),
        ColumnType::Double => of(53, 2, None),
        ColumnType::Decimal(precision, scale) => of(i64::from(precision), 10, Some(i64::from(scale))),
        _ => Numeric::default(),
    }
}

fn fraction_digits(column_type: ColumnType) -> Option<i64> {
    match column_type {
        ColumnType::Date => Some(0),
        ColumnType::Time | ColumnType::Timestamp | ColumnType::DateTime => Some(6),
        _ => None,
    }
}
