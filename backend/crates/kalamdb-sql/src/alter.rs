//! ALTER TABLE.

use kalamdb_commons::Result;
use sqlparser::tokenizer::Token;

use crate::column;
use crate::cursor::Cursor;
use crate::options::{self, TableOptionSet};
use crate::statement::{AlterOperation, Statement};
use crate::table;
use crate::types::{TypeName, type_name};

/// ALTER TABLE, after the words.
pub(crate) fn table(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("ALTER TABLE");
    let if_exists = cursor.if_exists();
    if cursor.sees("ONLY") && !matches!(cursor.peek_at(1), Token::Period) {
        return Err(cursor.not_implemented("ALTER TABLE ONLY"));
    }
    let table = cursor.table_name("a table name")?;
    let operations = cursor.list(operation)?;
    Ok(Statement::AlterTable { table, if_exists, operations })
}

fn operation(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    if cursor.accept("ADD") {
        add(cursor)
    } else if cursor.accept("DROP") {
        drop(cursor)
    } else if cursor.accept("RENAME") {
        rename(cursor)
    } else if cursor.accept("MODIFY") {
        let _ = cursor.accept("COLUMN");
        modify(cursor)
    } else if cursor.accept("ALTER") {
        let _ = cursor.accept("COLUMN");
        alter_column(cursor)
    } else if cursor.accept("SET") {
        set(cursor)
    } else {
        match cursor.peek_word() {
            Some(word) => Err(cursor.not_implemented(&format!("ALTER TABLE ... {word}"))),
            None => Err(cursor.unexpected("ADD, DROP, RENAME, MODIFY, ALTER or SET")),
        }
    }
}

fn add(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    let said = cursor.accept("COLUMN");
    if !said && (column::begins_constraint(cursor) || cursor.sees("PARTITION")) {
        let word = cursor.peek_word().unwrap_or_default();
        return Err(cursor.not_implemented(&format!("ALTER TABLE ... ADD {word}")));
    }
    if *cursor.peek() == Token::LParen {
        return Err(cursor.not_implemented("ADD COLUMN with parentheses; write ADD COLUMN once for each, it"));
    }
    let if_not_exists = cursor.if_not_exists();
    let column::Column { definition, primary_key, unique } = column::column(cursor)?;
    if primary_key.is_some() {
        return Err(cursor.not_implemented("PRIMARY KEY in ADD COLUMN"));
    }
    if unique.is_some() && !definition.column_type.can_be_key() {
        return Err(table::not_a_key("UNIQUE", &definition.name, definition.column_type));
    }
    Ok(AlterOperation::AddColumn { column: definition, if_not_exists })
}

fn drop(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    let said = cursor.accept("COLUMN");
    if !said && ["CONSTRAINT", "PRIMARY", "INDEX", "PARTITION"].iter().any(|word| cursor.sees(word)) {
        let word = cursor.peek_word().unwrap_or_default();
        return Err(cursor.not_implemented(&format!("ALTER TABLE ... DROP {word}")));
    }
    let if_exists = cursor.if_exists();
    Ok(AlterOperation::DropColumn { name: cursor.identifier("a column name")?, if_exists })
}

fn rename(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    let said = cursor.accept("COLUMN");
    if !said && ["TO", "CONSTRAINT", "INDEX", "AS"].iter().any(|word| cursor.sees(word)) && !cursor.sees_at(1, "TO") {
        let word = cursor.peek_word().unwrap_or_default();
        return Err(cursor.not_implemented(&format!("ALTER TABLE ... RENAME {word}")));
    }
    let from = cursor.identifier("a column name")?;
    cursor.expect("TO")?;
    Ok(AlterOperation::RenameColumn { from, to: cursor.identifier("a column name")? })
}

/// What MODIFY and ALTER COLUMN change, before it is known.
#[derive(Default)]
struct Change {
    column_type: Option<kalamdb_commons::types::ColumnType>,
    nullable: Option<bool>,
    default: Option<Option<String>>,
}

impl Change {
    fn into_operation(self, name: String) -> AlterOperation {
        let Self { column_type, nullable, default } = self;
        AlterOperation::ModifyColumn { name, column_type, nullable, default }
    }
}

/// `MODIFY COLUMN c [TYPE] type [NOT NULL | NULL] [DEFAULT e]`, or one of the actions of ALTER COLUMN.
fn modify(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    let name = cursor.identifier("a column name")?;
    if cursor.sees("SET") || cursor.sees("DROP") {
        return action(cursor, name);
    }
    let mut change = Change::default();
    let attribute = |cursor: &Cursor<'_>| ["NOT", "NULL", "DEFAULT"].iter().any(|word| cursor.sees(word));
    if cursor.accept("TYPE") || !attribute(cursor) {
        change.column_type = Some(plain_type(cursor)?);
    }
    while !matches!(cursor.peek(), Token::Comma | Token::EOF) {
        if change.nullable.is_none() && cursor.accept_all(&["NOT", "NULL"]) {
            change.nullable = Some(false);
        } else if change.nullable.is_none() && cursor.accept("NULL") {
            change.nullable = Some(true);
        } else if change.default.is_none() && cursor.accept("DEFAULT") {
            change.default = Some(Some(column::default_text(cursor)?));
        } else {
            return Err(modify_surplus(cursor));
        }
    }
    Ok(change.into_operation(name))
}

fn modify_surplus(cursor: &Cursor<'_>) -> kalamdb_commons::Error {
    match cursor.peek_word() {
        Some(word) => cursor.not_implemented(&format!("{word} in MODIFY COLUMN")),
        None => cursor.unexpected("NOT NULL, NULL, DEFAULT or the end of ALTER TABLE"),
    }
}

fn alter_column(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    let name = cursor.identifier("a column name")?;
    action(cursor, name)
}

/// `[SET DATA] TYPE t`, `SET NOT NULL`, `DROP NOT NULL`, `SET DEFAULT e`, `DROP DEFAULT`.
fn action(cursor: &mut Cursor<'_>, name: String) -> Result<AlterOperation> {
    let mut change = Change::default();
    if cursor.accept("TYPE") || cursor.accept_all(&["SET", "DATA", "TYPE"]) {
        change.column_type = Some(plain_type(cursor)?);
        if cursor.sees("USING") {
            return Err(cursor.not_implemented("USING in ALTER COLUMN"));
        }
    } else if cursor.accept_all(&["SET", "NOT", "NULL"]) {
        change.nullable = Some(false);
    } else if cursor.accept_all(&["DROP", "NOT", "NULL"]) {
        change.nullable = Some(true);
    } else if cursor.accept_all(&["SET", "DEFAULT"]) {
        change.default = Some(Some(column::default_text(cursor)?));
    } else if cursor.accept_all(&["DROP", "DEFAULT"]) {
        change.default = Some(None);
    } else {
        return Err(cursor.unexpected("TYPE, SET NOT NULL, DROP NOT NULL, SET DEFAULT or DROP DEFAULT"));
    }
    Ok(change.into_operation(name))
}

fn plain_type(cursor: &mut Cursor<'_>) -> Result<kalamdb_commons::types::ColumnType> {
    match type_name(&cursor.data_type()?)? {
        TypeName { length: Some(_), .. } => Err(cursor.not_implemented("VARCHAR(n) of a column that exists")),
        TypeName { serial: true, .. } => Err(cursor.not_implemented("SERIAL of a column that exists")),
        TypeName { column_type, .. } => Ok(column_type),
    }
}

/// `SET ACCESS LEVEL level`, `SET [OPTIONS] (option = value, ...)`.
fn set(cursor: &mut Cursor<'_>) -> Result<AlterOperation> {
    if cursor.accept_all(&["ACCESS", "LEVEL"]) {
        let value = table::option_value(cursor)?;
        return options::access_level(&value).map(AlterOperation::SetAccessLevel).ok_or_else(|| {
            cursor.invalid(format!("the access level cannot be '{value}'; allowed is public, private or restricted"))
        });
    }
    let _ = cursor.accept("OPTIONS");
    if *cursor.peek() != Token::LParen {
        return Err(match cursor.peek_word() {
            Some(word) => cursor.not_implemented(&format!("ALTER TABLE ... SET {word}")),
            None => cursor.unexpected("ACCESS LEVEL or '('"),
        });
    }
    let mut options = TableOptionSet::default();
    table::with(cursor, &mut options)?;
    if options.kind.is_some() {
        return Err(cursor.invalid("the TYPE of a table cannot be changed"));
    }
    if options == TableOptionSet::default() {
        return Err(cursor.invalid("ALTER TABLE ... SET () sets nothing"));
    }
    Ok(AlterOperation::SetOptions(options))
}

#[cfg(test)]
mod tests;
