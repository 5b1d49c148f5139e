//! `VALUES` of literals, straight into Arrow: what most INSERTs are, without planning a query.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Builder, Int64Builder, StringBuilder, new_null_array};
use kalamdb_commons::schema::Column;
use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{Expr, UnaryOperator, Value};

use super::assign::to_column;

/// A literal.
#[derive(Debug, Clone, PartialEq)]
enum Cell<'a> {
    Null,
    Text(&'a str),
    /// Its digits, and whether it is negative.
    Number(&'a str, bool),
    Boolean(bool),
    Hex(&'a str),
}

fn cell(expr: &Expr) -> Option<Cell<'_>> {
    match expr {
        Expr::Nested(inner) => cell(inner),
        Expr::TypedString(typed) => value_cell(&typed.value.value),
        Expr::Value(value) => value_cell(&value.value),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match cell(expr)? {
            Cell::Number(digits, negative) => Some(Cell::Number(digits, !negative)),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => cell(expr).filter(|cell| matches!(cell, Cell::Number(..))),
        _ => None,
    }
}

fn value_cell(value: &Value) -> Option<Cell<'_>> {
    Some(match value {
        Value::Null => Cell::Null,
        Value::Boolean(value) => Cell::Boolean(*value),
        Value::Number(digits, _) => Cell::Number(digits, false),
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::NationalStringLiteral(text) => {
            Cell::Text(text)
        }
        Value::DollarQuotedString(text) => Cell::Text(&text.value),
        Value::HexStringLiteral(text) => Cell::Hex(text),
        _ => return None,
    })
}

/// The values of one column, if every row's is a literal; `None` if one needs planning.
pub(crate) fn column_of_literals<'a>(
    rows: impl Iterator<Item = &'a Expr>,
    column: &Column,
) -> Option<Result<ArrayRef>> {
    let cells: Vec<Cell<'a>> = rows.map(cell).collect::<Option<_>>()?;
    Some(build(&cells, column))
}

fn build(cells: &[Cell<'_>], column: &Column) -> Result<ArrayRef> {
    use ColumnType as T;
    let all = |test: fn(&Cell<'_>) -> bool| cells.iter().all(|cell| *cell == Cell::Null || test(cell));
    if cells.iter().all(|cell| *cell == Cell::Null) {
        return Ok(new_null_array(&column.column_type.arrow(), cells.len()));
    }
    if all(|cell| matches!(cell, Cell::Number(..))) {
        return match column.column_type {
            T::SmallInt | T::Int | T::BigInt | T::Timestamp | T::DateTime | T::Date | T::Time => {
                to_column(&integers(cells, column)?, column)
            }
            T::Double | T::Float => to_column(&floats(cells, column)?, column),
            T::Boolean | T::Bytes | T::Uuid => Err(mismatch(column, "a number")),
            T::Decimal(..) | T::Text | T::Json => to_column(&texts(cells), column),
        };
    }
    if all(|cell| matches!(cell, Cell::Boolean(_))) {
        let value = |cell: &Cell<'_>| if let Cell::Boolean(value) = cell { Some(*value) } else { None };
        let values: ArrayRef = Arc::new(cells.iter().map(value).collect::<BooleanArray>());
        return to_column(&values, column);
    }
    if all(|cell| matches!(cell, Cell::Hex(_))) {
        let as_bytes = Column { column_type: T::Bytes, ..column.clone() };
        return to_column(&to_column(&texts(cells), &as_bytes)?, column);
    }
    if column.column_type == T::Boolean && cells.iter().any(|cell| matches!(cell, Cell::Number(..))) {
        return Err(mismatch(column, "a number"));
    }
    let takes_booleans = matches!(column.column_type, T::Boolean | T::Text | T::Json);
    if !takes_booleans && cells.iter().any(|cell| matches!(cell, Cell::Boolean(_))) {
        return Err(mismatch(column, "a boolean"));
    }
    to_column(&texts(cells), column)
}

fn mismatch(column: &Column, found: &str) -> Error {
    Error::execution(format!("column '{}' is of type {} but the value is {found}", column.name, column.column_type))
}

fn out_of_range(column: &Column, digits: &str) -> Error {
    Error::execution(format!(
        "invalid value for column '{}' of type {}: {digits} is not a number in its range",
        column.name, column.column_type
    ))
}

fn signed(digits: &str, negative: bool) -> String {
    if negative { format!("-{digits}") } else { digits.to_owned() }
}

fn integers(cells: &[Cell<'_>], column: &Column) -> Result<ArrayRef> {
    let mut values = Int64Builder::with_capacity(cells.len());
    for cell in cells {
        let Cell::Number(digits, negative) = cell else {
            values.append_null();
            continue;
        };
        let parsed = match digits.parse::<u64>() {
            Ok(magnitude) if *negative => 0_i64.checked_sub_unsigned(magnitude),
            Ok(magnitude) => i64::try_from(magnitude).ok(),
            // A fraction or an exponent: round, as an assignment does.
            Err(_) => digits.parse::<f64>().ok().and_then(|value| {
                let value = if *negative { -value } else { value }.round();
                (value.abs() < 9.2e18).then_some(value as i64)
            }),
        };
        values.append_value(parsed.ok_or_else(|| out_of_range(column, &signed(digits, *negative)))?);
    }
    Ok(Arc::new(values.finish()))
}

fn floats(cells: &[Cell<'_>], column: &Column) -> Result<ArrayRef> {
    let mut values = Float64Builder::with_capacity(cells.len());
    for cell in cells {
        let Cell::Number(digits, negative) = cell else {
            values.append_null();
            continue;
        };
        let value: f64 = digits.parse().map_err(|_| out_of_range(column, digits))?;
        values.append_value(if *negative { -value } else { value });
    }
    Ok(Arc::new(values.finish()))
}

fn texts(cells: &[Cell<'_>]) -> ArrayRef {
    let mut values = StringBuilder::new();
    for cell in cells {
        match cell {
            Cell::Null => values.append_null(),
            Cell::Text(text) => values.append_value(text),
            Cell::Number(digits, negative) => values.append_value(signed(digits, *negative)),
            Cell::Boolean(value) => values.append_value(if *value { "true" } else { "false" }),
            Cell::Hex(text) => values.append_value(format!("\\x{text}")),
        }
    }
    Arc::new(values.finish())
}
