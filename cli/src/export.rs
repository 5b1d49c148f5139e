//! `kalam export`: the rows of a table into a file that import reads, page by page.
//!
//! Rows come in the order of their row ids, a page at a time, and each page is on disk before the next is asked for. How
//! far it has come stands in a file beside the result, so that an export that breaks off can be gone on with: what was
//! written of an unfinished page is cut off first. The result has its name only when it is whole. Each page is the table
//! at one moment; a row that changes while an export runs comes as it was when its page was read.
//!
//! | module | writes |
//! |---|---|
//! | [`text`] | CSV and NDJSON |
//! | [`parts`] | Parquet |

mod parts;
mod text;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::system_columns::{DELETED, ID, UPDATED};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{Column, Results, Summary};
use crate::args::{Export, FileFormat};
use crate::failure::Failure;
use crate::import::{format_of, full_name, rate};
use crate::session::Session;

/// What is exported: if any of it is another, it is another export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    url: String,
    user: String,
    table: String,
    condition: Option<String>,
    format: String,
}

/// How far an export has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    wanted: Wanted,
    /// The columns, as they are in the file.
    columns: Vec<String>,
    /// The row id of the last row that is in the file.
    last: Option<i64>,
    rows: u64,
    /// What of the unfinished file counts: bytes, or parts.
    length: u64,
}

/// A page that is on its way into the file.
struct Page {
    rows: u64,
    last: Option<i64>,
}

/// A file in the making.
trait Sink {
    /// Reads a page by `sql` and adds it, durably. The first column is the row id, which is not written.
    fn page(&mut self, session: &mut Session, sql: &str) -> Result<Page, Failure>;
    /// What of the file counts.
    fn length(&self) -> u64;
    /// The file is whole: it gets its name.
    fn end(self: Box<Self>, file: &Path) -> io::Result<()>;
}

/// Exports and says how many rows there are, and how fast.
pub(crate) fn run(session: &mut Session, export: &Export, out: &mut dyn Write) -> Result<(), Failure> {
    let files = Files::of(&export.file);
    if export.file.exists() {
        return Err(Failure::Usage(format!("{} is there already", export.file.display())));
    }
    let wanted = wanted(session, export)?;
    let mut progress = match files.progress()? {
        Some(progress) if export.resume && progress.wanted == wanted => progress,
        Some(progress) if export.resume => {
            let Wanted { table, url, .. } = progress.wanted;
            return Err(Failure::Usage(format!(
                "the export that did not come to its end was of {table} at {url}, or of other rows: say the same again"
            )));
        }
        Some(_) if !export.restart => {
            return Err(Failure::Usage(format!(
                "an export into this file did not come to its end ({}): --resume goes on with it, --restart begins anew",
                files.progress.display()
            )));
        }
        None if export.resume => {
            return Err(Failure::Usage(format!(
                "there is nothing to go on with: {} is not there",
                files.progress.display()
            )));
        }
        _ => Progress { columns: columns(session, &wanted.table)?, wanted, last: None, rows: 0, length: 0 },
    };
    let watch = Stopwatch::start();
    let before = progress.rows;
    let sink = write(session, export, &files, &mut progress)?;
    let file_failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Failure::File { path, source }
    };
    sink.end(&export.file).map_err(file_failed(&export.file))?;
    fs::remove_file(&files.progress).map_err(file_failed(&files.progress))?;
    let (rows, seconds) = (progress.rows, watch.elapsed().as_secs_f64());
    let speed = rate(rows - before, seconds);
    writeln!(out, "Exported {rows} rows in {seconds:.2} s ({speed} rows/s)").map_err(Failure::output)
}

fn write(
    session: &mut Session,
    export: &Export,
    files: &Files,
    progress: &mut Progress,
) -> Result<Box<dyn Sink>, Failure> {
    let mut sink = sink(session, files, progress)?;
    let bar = bar(count(session, &progress.wanted)?);
    loop {
        bar.set_position(progress.rows);
        let page = sink.page(session, &page_query(progress, export.page_rows))?;
        progress.rows += page.rows;
        progress.last = page.last.or(progress.last);
        progress.length = sink.length();
        files.keep(progress)?;
        if page.rows < export.page_rows {
            bar.finish_and_clear();
            return Ok(sink);
        }
    }
}

fn sink(session: &Session, files: &Files, progress: &Progress) -> Result<Box<dyn Sink>, Failure> {
    let unusable = |source| Failure::File { path: files.partial.display().to_string(), source };
    let namespace = session.namespace.clone();
    match progress.wanted.format.as_str() {
        "parquet" => Ok(Box::new(parts::Parts::open(&files.partial, progress.length, namespace).map_err(unusable)?)),
        "csv" => Ok(Box::new(text::Text::csv(&files.partial, progress).map_err(unusable)?)),
        _ => Ok(Box::new(text::Text::ndjson(&files.partial, progress).map_err(unusable)?)),
    }
}

fn wanted(session: &Session, export: &Export) -> Result<Wanted, Failure> {
    let format = match export.format.or_else(|| format_of(&export.file)) {
        Some(FileFormat::Csv) => "csv",
        Some(FileFormat::Ndjson) => "ndjson",
        Some(FileFormat::Parquet) => "parquet",
        Some(FileFormat::Arrow) => return Err(Failure::Usage("an export is csv, ndjson or parquet".to_owned())),
        None => {
            let name = export.file.display();
            return Err(Failure::Usage(format!(
                "the form of {name} is not known from its name: say --format csv, ndjson or parquet"
            )));
        }
    };
    let login = session.client.login();
    Ok(Wanted {
        url: login.url.clone(),
        user: login.user.clone(),
        table: full_name(&export.table, session.namespace.as_deref()),
        condition: export.condition.clone(),
        format: format.to_owned(),
    })
}

/// The table's own columns.
fn columns(session: &mut Session, table: &str) -> Result<Vec<String>, Failure> {
    let mut names = Names::default();
    session.client.sql(&format!("SELECT * FROM {table} LIMIT 0"), session.namespace.as_deref(), &mut names)?;
    names.0.retain(|name| ![ID, UPDATED, DELETED].contains(&name.as_str()));
    Ok(names.0)
}

fn count(session: &mut Session, wanted: &Wanted) -> Result<u64, Failure> {
    let mut answer = One::default();
    let filter = wanted.condition.as_ref().map_or_else(String::new, |condition| format!(" WHERE {condition}"));
    let sql = format!("SELECT count(*) FROM {}{filter}", wanted.table);
    session.client.sql(&sql, session.namespace.as_deref(), &mut answer)?;
    Ok(answer.0.as_ref().and_then(integer).and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
}

fn page_query(progress: &Progress, rows: u64) -> String {
    let Progress { wanted, columns, last, .. } = progress;
    let columns: String = columns.iter().map(|name| format!(", \"{}\"", name.replace('"', "\"\""))).collect();
    let conditions: Vec<String> = last
        .map(|last| format!("{ID} > {last}"))
        .into_iter()
        .chain(wanted.condition.as_ref().map(|condition| format!("({condition})")))
        .collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {ID}{columns} FROM {}{filter} ORDER BY {ID} LIMIT {rows}", wanted.table)
}

/// Where an unfinished export lies.
struct Files {
    /// What there is of the result.
    partial: PathBuf,
    /// How far it has come.
    progress: PathBuf,
}

impl Files {
    fn of(file: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { partial: beside(".partial"), progress: beside(".exporting") }
    }

    fn progress(&self) -> Result<Option<Progress>, Failure> {
        let unusable = |source| Failure::File { path: self.progress.display().to_string(), source };
        match fs::read(&self.progress) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unusable(error.into())),
        }
    }

    /// Writes it aside first: there is always one that is whole. What it counts is on disk already.
    fn keep(&self, progress: &Progress) -> Result<(), Failure> {
        let aside = self.progress.with_extension("exporting.tmp");
        let write = || {
            let mut file = fs::File::create(&aside)?;
            file.write_all(&serde_json::to_vec(progress)?)?;
            file.sync_all()?;
            fs::rename(&aside, &self.progress)
        };
        write().map_err(|source| Failure::File { path: self.progress.display().to_string(), source })
    }
}

/// A 64-bit integer, which the wire has as text.
fn integer(cell: &Value) -> Option<i64> {
    cell.as_i64().or_else(|| cell.as_str()?.parse().ok())
}

/// The names of columns.
#[derive(Default)]
struct Names(Vec<String>);

impl Results for Names {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        self.0 = columns.into_iter().map(|column| column.name).collect();
        Ok(())
    }

    fn row(&mut self, _: Vec<Value>) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

/// The first cell of the first row.
#[derive(Default)]
struct One(Option<Value>);

impl Results for One {
    fn begin(&mut self, _: Vec<Column>) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        self.0 = self.0.take().or_else(|| cells.into_iter().next());
        Ok(())
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

/// A bar on stderr, which hides itself where there is no terminal.
fn bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} rows  {per_sec}  {elapsed} (still {eta})") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
