//! Results as text: a table for people, CSV and JSON for programs. Rows go to the writer that is given; what the
//! server says about a statement goes to stderr, so that a program that reads the rows sees nothing else.

use std::collections::HashSet;
use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::answer::{Column, Results, Summary};
use crate::cells::Kind;

/// What a NULL looks like in a table. In CSV it is an empty field, and an empty text is `""`.
const NULL: &str = "<null>";

/// Rows that are laid out as one table. More of them follow as further tables, so that a long result needs little
/// memory and begins to show at once.
const TABLE_ROWS_MAX: usize = 10_000;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table.
    Table,
    /// One JSON array of objects, or one object for a statement without rows, on a line of its own.
    Json,
    /// A header and rows, comma-separated.
    Csv,
}

/// Results to be written in a format.
pub(crate) fn printer<'a>(
    format: Format,
    out: &'a mut dyn Write,
    messages: &'a mut dyn Write,
) -> Box<dyn Results + 'a> {
    match format {
        Format::Table => Box::new(Tables { out, messages, layout: None }),
        Format::Json => Box::new(Json { out, names: Vec::new(), rows: None }),
        Format::Csv => Box::new(Csv { out, messages, kinds: None, results: 0 }),
    }
}

struct Tables<'a> {
    out: &'a mut dyn Write,
    messages: &'a mut dyn Write,
    layout: Option<Layout>,
}

struct Layout {
    names: Vec<String>,
    kinds: Vec<Kind>,
    table: Table,
}

impl Layout {
    fn new(columns: Vec<Column>) -> Self {
        let kinds = columns.iter().map(|column| Kind::of(&column.data_type)).collect();
        let names = columns.into_iter().map(|column| harmless(&column.name)).collect();
        let mut layout = Self { names, kinds, table: Table::new() };
        layout.start();
        layout
    }

    fn start(&mut self) {
        self.table = Table::new();
        self.table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        self.table.set_header(&self.names);
        for (column, kind) in self.table.column_iter_mut().zip(&self.kinds) {
            if *kind == Kind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.table.row_iter().len() >= TABLE_ROWS_MAX
    }
}

impl Results for Tables<'_> {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        self.layout = Some(Layout::new(columns));
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        let Some(layout) = &mut self.layout else { return Ok(()) };
        let texts = cells.iter().zip(&layout.kinds);
        layout
            .table
            .add_row(texts.map(|(cell, kind)| kind.text(cell).map_or_else(|| NULL.to_owned(), |text| harmless(&text))));
        if layout.is_full() {
            writeln!(self.out, "{}", layout.table)?;
            layout.start();
        }
        Ok(())
    }

    fn end(&mut self, summary: Summary) -> io::Result<()> {
        if let Some(layout) = self.layout.take() {
            if layout.table.row_iter().len() > 0 || summary.row_count == 0 {
                writeln!(self.out, "{}", layout.table)?;
            }
            let rows = if summary.row_count == 1 { "row" } else { "rows" };
            writeln!(self.out, "({} {rows})", summary.row_count)?;
        }
        say(self.messages, summary.message)
    }
}

struct Csv<'a> {
    out: &'a mut dyn Write,
    messages: &'a mut dyn Write,
    kinds: Option<Vec<Kind>>,
    results: usize,
}

impl Results for Csv<'_> {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        if self.results > 0 {
            writeln!(self.out)?;
        }
        self.results += 1;
        self.kinds = Some(columns.iter().map(|column| Kind::of(&column.data_type)).collect());
        csv_line(self.out, columns.iter().map(|column| Some(column.name.as_str())))
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        let Some(kinds) = &self.kinds else { return Ok(()) };
        let texts: Vec<_> = cells.iter().zip(kinds).map(|(cell, kind)| kind.text(cell)).collect();
        csv_line(self.out, texts.iter().map(|text| text.as_deref()))
    }

    fn end(&mut self, summary: Summary) -> io::Result<()> {
        self.kinds = None;
        say(self.messages, summary.message)
    }
}

/// One line by RFC 4180, with `\n` at its end.
pub(crate) fn csv_line<'a>(out: &mut dyn Write, fields: impl Iterator<Item = Option<&'a str>>) -> io::Result<()> {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        match field {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
                write!(out, "\"{}\"", text.replace('"', "\"\""))?;
            }
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

/// JSON keeps the wire's cells, which lose nothing: 64-bit integers and decimals as text, times as numbers.
struct Json<'a> {
    out: &'a mut dyn Write,
    names: Vec<String>,
    /// Rows written so far of the result that is being written.
    rows: Option<u64>,
}

impl Results for Json<'_> {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        self.names = distinct(columns.into_iter().map(|column| column.name));
        self.rows = Some(0);
        self.out.write_all(b"[")
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        if *rows > 0 {
            self.out.write_all(b",\n ")?;
        }
        *rows += 1;
        let object: Map<String, Value> = self.names.iter().cloned().zip(cells).collect();
        serde_json::to_writer(&mut *self.out, &object).map_err(io::Error::from)
    }

    fn end(&mut self, summary: Summary) -> io::Result<()> {
        if self.rows.take().is_some() {
            return self.out.write_all(b"]\n");
        }
        let mut object = Map::new();
        object.insert("row_count".to_owned(), summary.row_count.into());
        object.extend(summary.message.map(|message| ("message".to_owned(), message.into())));
        writeln!(self.out, "{}", Value::from(object))
    }
}

/// Names of which none hides another in an object: the second `a` becomes `a_2`.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = names.collect();
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut seen = HashSet::new();
    let rename = |name: String| {
        if seen.insert(name.clone()) {
            return name;
        }
        let free = (2..).map(|n| format!("{name}_{n}")).find(|candidate| taken.insert(candidate.clone()));
        free.unwrap_or(name)
    };
    names.into_iter().map(rename).collect()
}

fn say(messages: &mut dyn Write, message: Option<String>) -> io::Result<()> {
    match message {
        Some(message) => writeln!(messages, "{}", harmless(&message)),
        None => Ok(()),
    }
}

/// A text that cannot steer the terminal: control characters other than tab and line feed are spelt out.
pub(crate) fn harmless(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(steers) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if steers(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests;
