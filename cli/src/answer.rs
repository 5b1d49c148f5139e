//! The answer to a request, read as it arrives: rows are handed on one by one, so that an answer of any length
//! needs the memory of one row.

use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A column of a result.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// The wire's name of its type: text, or an object for types with parameters.
    pub(crate) data_type: Value,
}

/// What follows a result's rows.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Rows returned, or changed.
    pub(crate) row_count: u64,
    /// What the server says of a statement that returns no rows.
    pub(crate) message: Option<String>,
}

/// What stands beside the results.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// How long the server worked, in milliseconds.
    pub(crate) took_ms: f64,
    /// Why not everything was done.
    pub(crate) error: Option<Refusal>,
}

/// The server's error.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    /// A code such as `INVALID_SQL`.
    pub(crate) code: String,
    /// A sentence.
    pub(crate) message: String,
    /// More, such as which rows of an import are in.
    #[serde(default)]
    pub(crate) details: Option<Value>,
}

impl Refusal {
    fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.details {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(text)) => write!(f, " ({text})"),
            Some(other) => write!(f, " ({other})"),
        }
    }
}

/// Takes results in order: `begin` if there are columns, each row, then `end`.
pub(crate) trait Results {
    /// The columns of a result that has rows.
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()>;
    /// One row; a cell for each column.
    fn row(&mut self, cells: Vec<Value>) -> io::Result<()>;
    /// The result is complete.
    fn end(&mut self, summary: Summary) -> io::Result<()>;
}

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The connection broke, or what came is not an answer of this protocol.
    #[error("the server's answer is not readable: {0}")]
    Answer(#[from] serde_json::Error),
    /// The results could not be written.
    #[error(transparent)]
    Output(io::Error),
}

/// Reads one answer and hands its results on.
pub(crate) fn read(answer: impl Read, results: &mut dyn Results) -> Result<Closing, AnswerError> {
    let mut output_error = None;
    let mut json = serde_json::Deserializer::from_reader(io::BufReader::with_capacity(1 << 16, answer));
    let outcome = AnswerSeed { results, output_error: &mut output_error }.deserialize(&mut json);
    match output_error {
        Some(error) => Err(AnswerError::Output(error)),
        None => Ok(outcome?),
    }
}

struct AnswerSeed<'a> {
    results: &'a mut dyn Results,
    output_error: &'a mut Option<io::Error>,
}

impl<'de> DeserializeSeed<'de> for AnswerSeed<'_> {
    type Value = Closing;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Closing, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AnswerSeed<'_> {
    type Value = Closing;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Closing, A::Error> {
        let mut closing = Closing::default();
        let Self { results, output_error } = self;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "results" => {
                    map.next_value_seed(ResultsSeed { results: &mut *results, output_error: &mut *output_error })?
                }
                "took" => closing.took_ms = map.next_value()?,
                "error" => closing.error = error(map.next_value()?),
                // Endpoints other than SQL say `{error: code, message}`.
                "message" => {
                    let message = map.next_value()?;
                    closing.error.get_or_insert_with(|| Refusal::new("", "")).message = message;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(closing)
    }
}

/// The two shapes of an error: an object, or a code beside a message.
fn error(value: Value) -> Option<Refusal> {
    match value {
        Value::Null => None,
        Value::String(code) => Some(Refusal::new(code, "")),
        object => {
            Some(serde_json::from_value(object).unwrap_or_else(|error| {
                Refusal::new("UNKNOWN", format!("the server's error is not readable: {error}"))
            }))
        }
    }
}

/// `results`, or one of them.
struct ResultsSeed<'a> {
    results: &'a mut dyn Results,
    output_error: &'a mut Option<io::Error>,
}

impl<'de> DeserializeSeed<'de> for ResultsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ResultsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of results")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { results, output_error } = self;
        while seq.next_element_seed(OneSeed { results: &mut *results, output_error: &mut *output_error })?.is_some() {}
        Ok(())
    }
}

struct OneSeed<'a> {
    results: &'a mut dyn Results,
    output_error: &'a mut Option<io::Error>,
}

impl<'de> DeserializeSeed<'de> for OneSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { results, output_error } = self;
        let mut taken = Taken { results, output_error, has_columns: false };
        // Fields come in any order: rows that come before their schema wait for it.
        let mut waiting: Vec<Vec<Value>> = Vec::new();
        let mut summary = Summary::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "schema" => {
                    taken.begin(map.next_value()?)?;
                    waiting.drain(..).try_for_each(|row| taken.row(row))?;
                }
                "rows" if taken.has_columns => map.next_value_seed(RowsSeed { taken: &mut taken })?,
                "rows" => waiting = map.next_value()?,
                "row_count" => summary.row_count = map.next_value()?,
                "message" => summary.message = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        taken.end(summary)
    }
}

/// The results, with errors of writing kept apart from errors of reading.
struct Taken<'a> {
    results: &'a mut dyn Results,
    output_error: &'a mut Option<io::Error>,
    has_columns: bool,
}

impl Taken<'_> {
    fn begin<E: serde::de::Error>(&mut self, columns: Option<Vec<Column>>) -> Result<(), E> {
        let Some(columns) = columns.filter(|columns| !columns.is_empty()) else { return Ok(()) };
        self.has_columns = true;
        let outcome = self.results.begin(columns);
        self.keep(outcome)
    }

    fn row<E: serde::de::Error>(&mut self, cells: Vec<Value>) -> Result<(), E> {
        let outcome = self.results.row(cells);
        self.keep(outcome)
    }

    fn end<E: serde::de::Error>(&mut self, summary: Summary) -> Result<(), E> {
        let outcome = self.results.end(summary);
        self.keep(outcome)
    }

    fn keep<E: serde::de::Error>(&mut self, outcome: io::Result<()>) -> Result<(), E> {
        outcome.map_err(|error| {
            *self.output_error = Some(error);
            E::custom("the results could not be written")
        })
    }
}

struct RowsSeed<'a, 'b> {
    taken: &'a mut Taken<'b>,
}

impl<'de> DeserializeSeed<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(cells) = seq.next_element::<Vec<Value>>()? {
            self.taken.row(cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
