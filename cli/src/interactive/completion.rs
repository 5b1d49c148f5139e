//! Completion of keywords and of the names that the user may see.

use std::collections::BTreeSet;
use std::io;

use serde_json::Value;

use crate::answer::{Column, Results, Summary};
use crate::session::Session;

const KEYWORDS: &[&str] = &[
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "BYTES",
    "CASE",
    "CAST",
    "CHECK",
    "COLUMN",
    "COMMIT",
    "CONFLICT",
    "COUNT",
    "CREATE",
    "DATE",
    "DATETIME",
    "DECIMAL",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "FLOAT",
    "FLUSH",
    "FROM",
    "GROUP",
    "HAVING",
    "INDEX",
    "INNER",
    "INSERT",
    "INT",
    "INTO",
    "IS",
    "JOIN",
    "JSON",
    "KEY",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NAMESPACE",
    "NAMESPACES",
    "NOT",
    "NOTHING",
    "NULL",
    "OFFSET",
    "ORDER",
    "PRIMARY",
    "RENAME",
    "RETURNING",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHARED",
    "SHOW",
    "SMALLINT",
    "STORAGE",
    "STORAGES",
    "STREAM",
    "TABLE",
    "TABLES",
    "TEXT",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TRUNCATE",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "USE",
    "USER",
    "UUID",
    "VALUES",
    "VIEW",
    "WAIT",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Which names there are. They are for convenience: whoever may not read them goes without.
const QUERIES: [&str; 2] = [
    "SELECT table_schema, table_schema || '.' || table_name FROM information_schema.tables;",
    "SELECT DISTINCT column_name FROM information_schema.columns;",
];

/// Names that can be completed.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Asks the server.
    pub(crate) fn load(session: &mut Session) -> Self {
        let mut names = Self::default();
        for query in QUERIES {
            // Without names there are still keywords.
            drop(session.client.sql(query, None, &mut names));
        }
        names
    }

    /// Where the word before the cursor starts, and what it may become. Keywords keep the case that was begun.
    pub(crate) fn complete(&self, before: &str) -> (usize, Vec<String>) {
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let begun = &before[start..];
        if begun.is_empty() {
            return (start, Vec::new());
        }
        let is_lower = begun.starts_with(char::is_lowercase);
        let keywords = KEYWORDS.iter().filter(|keyword| continues(keyword, begun));
        let keywords = keywords.map(|keyword| if is_lower { keyword.to_lowercase() } else { (*keyword).to_owned() });
        let names = self.0.iter().filter(|name| continues(name, begun)).cloned();
        let names = names.chain(self.unqualified(begun));
        (start, names.chain(keywords).collect())
    }

    /// Table names without their namespace, for when one is in use.
    fn unqualified<'a>(&'a self, begun: &'a str) -> impl Iterator<Item = String> + 'a {
        let tables = self.0.iter().filter_map(|name| name.split_once('.')).map(|(_, table)| table);
        tables.filter(move |table| !begun.contains('.') && continues(table, begun)).map(str::to_owned)
    }
}

fn continues(name: &str, begun: &str) -> bool {
    name.get(..begun.len()).is_some_and(|start| start.eq_ignore_ascii_case(begun))
}

impl Results for Names {
    fn begin(&mut self, _: Vec<Column>) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        self.0.extend(cells.iter().filter_map(Value::as_str).map(str::to_owned));
        Ok(())
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
