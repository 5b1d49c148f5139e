//! `kalam import`: sends a file as it is, while showing how far it has come.

mod attempt;
mod nulls;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use kalamdb_commons::clock::Stopwatch;

use crate::args::{FileFormat, Import};
use crate::client::{Client, Upload};
use crate::failure::Failure;
use crate::import::attempt::Attempt;
use crate::import::nulls::Nulls;

/// Imports a file and says how many rows went in, and how fast.
pub(crate) fn run(
    client: &Client,
    import: &Import,
    namespace: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut upload = open(import)?;
    let table = full_name(&import.table, namespace);
    let bar = bar(upload.size);
    let watch = Stopwatch::start();
    upload.source = Box::new(bar.wrap_read(upload.source));
    if let Some(null) = &import.null {
        upload.source = Box::new(Nulls::new(upload.source, null));
        upload.size = None;
    }
    let attempt = Attempt::begin(import, &client.login().url, &table)?;
    upload.key = attempt.as_ref().map(|attempt| attempt.key().to_owned());
    let outcome = client.import(&table, import.as_user.as_deref(), upload);
    bar.finish_and_clear();
    if attempt.is_some_and(|attempt| attempt.end(&outcome)) {
        eprintln!("What is in stays in. To go on, say the same again with --resume.");
    }
    let rows = outcome?;
    let seconds = watch.elapsed().as_secs_f64();
    writeln!(out, "Imported {rows} rows in {seconds:.2} s ({} rows/s)", rate(rows, seconds)).map_err(Failure::output)
}

fn open(import: &Import) -> Result<Upload, Failure> {
    let name = import.file.display().to_string();
    let is_stdin = name == "-";
    let format = import.format.or_else(|| format_of(&import.file)).ok_or_else(|| {
        Failure::Usage(format!(
            "the form of {name} is not known from its name: say --format csv, ndjson, parquet or arrow"
        ))
    })?;
    if import.null.is_some() && format != FileFormat::Csv {
        return Err(Failure::Usage("--null is for CSV: the other forms have a NULL of their own".to_owned()));
    }
    let content_type = content_type(format);
    if is_stdin {
        return Ok(Upload {
            name: "standard input".to_owned(),
            source: Box::new(io::stdin()),
            size: None,
            content_type,
            key: None,
        });
    }
    let unreadable = |source| Failure::File { path: name.clone(), source };
    let file = File::open(&import.file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    // A pipe has no size that could be told in advance.
    let size = metadata.is_file().then_some(metadata.len());
    Ok(Upload { name, source: Box::new(file), size, content_type, key: None })
}

/// The form of a file by the end of its name.
pub(crate) fn format_of(file: &Path) -> Option<FileFormat> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(FileFormat::Csv),
        "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
        "parquet" => Some(FileFormat::Parquet),
        "arrow" | "arrows" => Some(FileFormat::Arrow),
        _ => None,
    }
}

fn content_type(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Csv => "text/csv",
        FileFormat::Ndjson => "application/x-ndjson",
        FileFormat::Parquet => "application/vnd.apache.parquet",
        FileFormat::Arrow => "application/vnd.apache.arrow.stream",
    }
}

/// The table with its namespace, which only a name without a `.` outside of quotes lacks.
pub(crate) fn full_name(table: &str, namespace: Option<&str>) -> String {
    let is_qualified = table.split('"').step_by(2).any(|unquoted| unquoted.contains('.'));
    match namespace {
        Some(namespace) if !is_qualified => format!("{namespace}.{table}"),
        _ => table.to_owned(),
    }
}

/// A bar on stderr, which hides itself where there is no terminal.
fn bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => {
            (ProgressBar::new(size), "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {elapsed} (still {eta})")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {bytes_per_sec}  {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

pub(crate) fn rate(rows: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (rows as f64 / seconds) as u64 } else { rows }
}

#[cfg(test)]
mod tests;
