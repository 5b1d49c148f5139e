use super::*;
use crate::Statement;
use crate::tests::{one, refuses};

/// The type and the checks that a column of CREATE TABLE gets.
fn column(written: &str) -> (ColumnType, Vec<String>) {
    let Statement::CreateTable(table) = one(&format!("CREATE TABLE t (c {written})")) else { panic!("a table") };
    let column = &table.columns[0];
    (column.column_type, column.checks.iter().map(|check| check.expression.clone()).collect())
}

#[test]
fn every_spelling_of_every_type_is_read() {
    use ColumnType as T;
    let spellings: &[(T, &[&str])] = &[
        (T::Boolean, &["BOOLEAN", "BOOL", "bool"]),
        (T::SmallInt, &["SMALLINT", "INT2"]),
        (T::Int, &["INT", "INTEGER", "INT4", "integer"]),
        (T::BigInt, &["BIGINT", "INT8"]),
        (T::Float, &["FLOAT", "REAL", "FLOAT4", "FLOAT(24)"]),
        (T::Double, &["DOUBLE", "DOUBLE PRECISION", "FLOAT8", "FLOAT(53)"]),
        (T::Decimal(10, 2), &["DECIMAL(10, 2)", "NUMERIC(10,2)", "DEC(10,2)"]),
        (T::Decimal(10, 0), &["DECIMAL(10)", "NUMERIC(10, 0)"]),
        (T::Decimal(38, 38), &["DECIMAL(38, 38)"]),
        (T::Decimal(38, 10), &["DECIMAL", "NUMERIC"]),
        (T::Text, &["TEXT", "VARCHAR", "STRING", "CHARACTER VARYING", "CHAR VARYING", "string"]),
        (T::Bytes, &["BYTES", "BYTEA", "BLOB", "BINARY", "VARBINARY"]),
        (T::Date, &["DATE"]),
        (T::Time, &["TIME", "TIME WITHOUT TIME ZONE", "TIME(6)"]),
        (
            T::Timestamp,
            &["TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP(6)", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"],
        ),
        (T::DateTime, &["DATETIME", "DATETIME(6)"]),
        (T::Uuid, &["UUID"]),
        (T::Json, &["JSON", "JSONB"]),
    ];
    for (column_type, written) in spellings {
        for written in *written {
            assert_eq!(column(written), (*column_type, vec![]), "{written}");
        }
    }
}

#[test]
fn what_a_type_is_called_is_a_spelling_of_it() {
    for column_type in ColumnType::PLAIN.into_iter().chain([ColumnType::Decimal(5, 1)]) {
        assert_eq!(column(&column_type.to_string()).0, column_type);
    }
}

#[test]
fn the_length_of_varchar_is_a_check() {
    for written in ["VARCHAR(20)", "CHARACTER VARYING(20)", "CHAR VARYING (20)", "VARCHAR(20 CHARACTERS)"] {
        assert_eq!(column(written), (ColumnType::Text, vec!["char_length(\"c\") <= 20".to_owned()]), "{written}");
    }
    let Statement::CreateTable(table) = one("CREATE TABLE t (\"a\"\"b\" VARCHAR(3) CHECK (\"a\"\"b\" <> ''))") else {
        panic!("a table")
    };
    let checks: Vec<&str> = table.checks.iter().map(|check| check.expression.as_str()).collect();
    assert_eq!(checks, ["char_length(\"a\"\"b\") <= 3", "\"a\"\"b\" <> ''"]);
    crate::expr::parse(checks[0]).expect("an expression");
}

#[test]
fn serial_is_a_bigint_with_a_snowflake_id() {
    for written in ["SERIAL", "BIGSERIAL"] {
        let Statement::CreateTable(table) = one(&format!("CREATE TABLE t (c {written})")) else { panic!("a table") };
        let column = &table.columns[0];
        assert_eq!(column.column_type, ColumnType::BigInt);
        assert_eq!(column.default.as_deref(), Some("SNOWFLAKE_ID()"));
        assert!(!column.nullable);
    }
}

#[test]
fn types_that_are_not_held_are_refused_with_what_to_use() {
    let cases = [
        ("VARCHAR(0)", "the length is a whole number of characters from 1"),
        ("VARCHAR(10 OCTETS)", "the length is a whole number of characters from 1"),
        ("VARCHAR(99999999999999999999)", "c"),
        ("CHAR(3)", "use VARCHAR(n) or TEXT"),
        ("CHARACTER", "use VARCHAR(n) or TEXT"),
        ("TEXT(10)", "use VARCHAR(n)"),
        ("STRING(10)", "use VARCHAR(n)"),
        ("BYTES(10)", "use BYTES"),
        ("VARBINARY(10)", "use BYTES"),
        ("INT(11)", "integers have no display width"),
        ("TINYINT", "unknown type TINYINT; allowed are BOOLEAN, SMALLINT"),
        ("INT UNSIGNED", "unknown type INT UNSIGNED"),
        ("DECIMAL(39, 2)", "the precision is 1 to 38"),
        ("DECIMAL(0)", "the precision is 1 to 38"),
        ("DECIMAL(5, 6)", "the scale 0 to the precision"),
        ("DECIMAL(5, -1)", "the scale 0 to the precision"),
        ("DECIMAL(300, 2)", "the precision is 1 to 38"),
        ("FLOAT(54)", "1 to 53 binary digits"),
        ("TIME WITH TIME ZONE", "use TIME"),
        ("TIMESTAMP(3)", "held in microseconds"),
        ("DATETIME(9)", "held in microseconds"),
        ("TIME(0)", "held in microseconds"),
        ("SMALLSERIAL", "a Snowflake id has 64 bits"),
        ("INT[]", "unknown type"),
        ("ARRAY<INT>", "unknown type"),
        ("INTERVAL", "unknown type INTERVAL"),
        ("ENUM('a')", "unknown type"),
        ("POINT", "unknown type POINT"),
        ("my.type", "unknown type my.type"),
    ];
    for (written, words) in cases {
        refuses(&[(&format!("CREATE TABLE t (c {written})"), words)]);
    }
}
