//! Rows as CSV or NDJSON, in the forms that import reads back.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Page, Progress, Sink, integer};
use crate::answer::{Column, Results, Summary};
use crate::cells::Kind;
use crate::failure::Failure;
use crate::output::csv_line;
use crate::session::Session;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Csv,
    Ndjson,
}

/// A file of lines.
pub(super) struct Text {
    form: Form,
    path: PathBuf,
    file: File,
    length: u64,
}

impl Text {
    /// A file with a header.
    pub(super) fn csv(path: &Path, progress: &Progress) -> io::Result<Self> {
        let mut text = Self::open(Form::Csv, path, progress.length)?;
        if text.length == 0 {
            let mut header = Vec::new();
            csv_line(&mut header, progress.columns.iter().map(|name| Some(name.as_str())))?;
            text.append(&header)?;
        }
        Ok(text)
    }

    /// A file of objects.
    pub(super) fn ndjson(path: &Path, progress: &Progress) -> io::Result<Self> {
        Self::open(Form::Ndjson, path, progress.length)
    }

    /// What does not count is cut off.
    fn open(form: Form, path: &Path, length: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.set_len(length)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(Self { form, path: path.to_owned(), file, length })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Sink for Text {
    fn page(&mut self, session: &mut Session, sql: &str) -> Result<Page, Failure> {
        let mut lines =
            Lines { form: self.form, columns: Vec::new(), bytes: Vec::new(), page: Page { rows: 0, last: None } };
        session.client.sql(sql, session.namespace.as_deref(), &mut lines)?;
        let written = self.append(&lines.bytes).and_then(|()| self.file.sync_data());
        written.map_err(|source| Failure::File { path: self.path.display().to_string(), source })?;
        Ok(lines.page)
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn end(self: Box<Self>, file: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, file)
    }
}

/// A column as it is written.
struct Member {
    name: String,
    kind: Kind,
    wire: Wire,
}

/// What the wire has as text, and JSON as something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Integer,
    Json,
    AsItIs,
}

impl Wire {
    fn of(data_type: &Value) -> Self {
        match data_type.as_str() {
            Some("BigInt") => Self::Integer,
            Some("Json") => Self::Json,
            _ => Self::AsItIs,
        }
    }
}

/// The lines of a page.
struct Lines {
    form: Form,
    /// Without the first, which is the row id.
    columns: Vec<Member>,
    bytes: Vec<u8>,
    page: Page,
}

impl Results for Lines {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        let member = |Column { name, data_type }| {
            let (kind, wire) = (Kind::of(&data_type), Wire::of(&data_type));
            Member { name, kind, wire }
        };
        self.columns = columns.into_iter().skip(1).map(member).collect();
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        self.page.rows += 1;
        self.page.last = cells.first().and_then(integer);
        let cells = cells.iter().skip(1).zip(&self.columns);
        match self.form {
            Form::Csv => {
                let texts: Vec<_> = cells.map(|(cell, member)| member.kind.text(cell)).collect();
                csv_line(&mut self.bytes, texts.iter().map(|text| text.as_deref()))
            }
            Form::Ndjson => {
                let mut separator = b'{';
                for (cell, member) in cells {
                    self.bytes.push(separator);
                    separator = b',';
                    serde_json::to_writer(&mut self.bytes, &member.name)?;
                    self.bytes.push(b':');
                    write_cell(&mut self.bytes, cell, member)?;
                }
                self.bytes.extend_from_slice(b"}\n");
                Ok(())
            }
        }
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

/// A cell as JSON that people and import read: times as text, integers as numbers, and JSON as it was written.
fn write_cell(out: &mut Vec<u8>, cell: &Value, member: &Member) -> io::Result<()> {
    let times = matches!(member.kind, Kind::Timestamp | Kind::Time | Kind::Date);
    match (member.wire, cell) {
        (Wire::Integer, cell) if integer(cell).is_some() => serde_json::to_writer(out, &integer(cell))?,
        // A line of its own is all that a row has.
        (Wire::Json, Value::String(text)) if !text.contains(['\n', '\r']) => out.extend_from_slice(text.as_bytes()),
        (Wire::Json, Value::String(text)) => serde_json::to_writer(out, &serde_json::from_str::<Value>(text)?)?,
        _ if times => serde_json::to_writer(out, &member.kind.text(cell))?,
        _ => serde_json::to_writer(out, cell)?,
    }
    Ok(())
}
