//! One JSON object a line; its members name the columns.
//!
//! A column that no line has named so far takes its default. From the line that names it first it is part of the
//! rows, and a line without it means NULL. (That line begins a new batch, because a batch has one set of columns.)

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use arrow::array::RecordBatch;
use bytes::Bytes;
use kalamdb_commons::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column::Column;
use super::{Decode, Misplaced, Target, batch_of, not_understood};

/// Reads newline-delimited JSON as it arrives.
pub(super) struct Ndjson {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    rows: Rows,
}

/// The rows of the batch in the making.
struct Rows {
    target: Target,
    by_name: HashMap<String, usize>,
    /// For each column of the table: its values, and the row that it has a value of last. `None` before a line
    /// named it.
    columns: Vec<Option<(Column, u64)>>,
    /// Which column the n-th member was last time: lines are mostly alike.
    guesses: Vec<usize>,
    /// Rows in the batch, and in all.
    in_batch: usize,
    in_all: u64,
}

impl Ndjson {
    pub(super) fn new(target: Target) -> Self {
        let by_name = target.schema.fields().iter().enumerate();
        let by_name = by_name.map(|(index, field)| (field.name().clone(), index)).collect();
        let columns = target.schema.fields().iter().map(|_| None).collect();
        let rows = Rows { target, by_name, columns, guesses: Vec::new(), in_batch: 0, in_all: 0 };
        Self { line: Vec::new(), rows }
    }
}

impl Decode for Ndjson {
    fn feed(&mut self, bytes: Bytes, out: &mut Vec<RecordBatch>) -> Result<()> {
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.line.is_empty() {
                self.rows.add_line(&rest[..end], out)?;
            } else {
                self.line.extend_from_slice(&rest[..end]);
                self.rows.add_line(&self.line, out)?;
                self.line.clear();
            }
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > self.rows.target.row_bytes_max {
            return Err(self.rows.target.row_too_long(self.rows.in_all + 1));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        let last = std::mem::take(&mut self.line);
        self.rows.add_line(&last, out)?;
        self.rows.flush(out)
    }
}

impl Rows {
    fn add_line(&mut self, line: &[u8], out: &mut Vec<RecordBatch>) -> Result<()> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let row = self.in_all + 1;
        let object: Object<'_> = serde_json::from_slice(line)
            .map_err(|cause| not_understood("JSON object", cause).context(format_args!("row {row}")))?;
        let columns = self.columns_of(&object)?;
        if self.in_batch > 0 && columns.iter().any(|column| self.columns[*column].is_none()) {
            self.flush(out)?;
        }
        for (column, (_, raw)) in columns.into_iter().zip(&object.0) {
            self.add_value(column, raw.get())?;
        }
        for (values, last) in self.columns.iter_mut().flatten() {
            if *last != row {
                values.append_null();
                *last = row;
            }
        }
        self.in_batch += 1;
        self.in_all = row;
        if self.in_batch >= self.target.chunk_rows { self.flush(out) } else { Ok(()) }
    }

    /// The column of each member.
    fn columns_of(&mut self, object: &Object<'_>) -> Result<Vec<usize>> {
        let named = object.0.iter().enumerate().map(|(position, (name, _))| self.column_of(position, name));
        let columns = named.collect::<Result<Vec<usize>>>();
        let columns = columns.map_err(|error| error.context(format_args!("row {}", self.in_all + 1)))?;
        self.guesses.clone_from(&columns);
        Ok(columns)
    }

    fn column_of(&self, position: usize, name: &str) -> Result<usize> {
        let guess = self.guesses.get(position).copied();
        if let Some(guess) = guess.filter(|guess| self.target.schema.field(*guess).name() == name) {
            return Ok(guess);
        }
        self.by_name.get(name).copied().ok_or_else(|| self.target.unknown_column(name))
    }

    fn add_value(&mut self, index: usize, raw: &str) -> Result<()> {
        let row = self.in_all + 1;
        let column_type = self.target.column_type(index)?;
        let (values, last) = self.columns[index].get_or_insert_with(|| (Column::new(column_type), 0));
        if *last == row {
            let name = self.target.schema.field(index).name();
            return Err(Error::invalid_input(format!("row {row} names the column '{name}' twice")));
        }
        *last = row;
        let misplaced = |_| Misplaced { row: self.in_batch, value: raw.to_owned() };
        let first_row = self.in_all - self.in_batch as u64;
        values.append_json(raw).map_err(misplaced).map_err(|misplaced| self.target.misfit(first_row, index, misplaced))
    }

    fn flush(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        if self.in_batch == 0 {
            return Ok(());
        }
        let named = (0..self.columns.len()).filter(|index| self.columns[*index].is_some());
        let schema = self.target.schema_of(named);
        let columns = self.columns.iter_mut().flatten().map(|(values, _)| values.finish()).collect();
        out.push(batch_of(&schema, columns, self.in_batch)?);
        self.in_batch = 0;
        Ok(())
    }
}

/// The members of an object, values as they are written.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
