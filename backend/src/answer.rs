//! The answer to an SQL request (wire-protocol.md, section 2), written while the statements run.
//!
//! `results` come first, `status`, `took`, `stats` and `error` follow, so that a failure that comes late can still
//! be told. While nothing is sent yet, a failure takes back what its statement had written and decides the status
//! code; later it ends the rows where they are.

use futures::StreamExt;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::{Outcome, OutcomeResult, Rows, Verb};
use kalamdb_core::stats::StatsSnapshot;
use serde_json::json;

use crate::encode::{RowWriter, separate, write_json, write_schema};
use crate::errors::{Audience, retry_after_seconds, status_and_code};
use crate::reply::{Gone, Reply};

/// The type of a JSON body.
pub(crate) const JSON: &str = "application/json";
/// The type of an Arrow IPC stream.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// Why an answer stops early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The statement failed.
    Failed(Error),
    /// The client went away.
    Gone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// An answer in the making.
pub(crate) struct SqlAnswer {
    reply: Reply,
    watch: Stopwatch,
    statements: usize,
}

impl SqlAnswer {
    /// Begins an answer to a request that arrived when `watch` was started.
    pub(crate) fn begin(mut reply: Reply, watch: Stopwatch) -> Self {
        reply.buffer().extend_from_slice(b"{\"results\":[");
        Self { reply, watch, statements: 0 }
    }

    /// Statements answered so far.
    pub(crate) fn statements(&self) -> usize {
        self.statements
    }

    /// Writes the outcome of the next statement. On failure the answer must be ended with [`Self::fail`].
    pub(crate) async fn add(&mut self, outcome: Outcome) -> Result<(), Stop> {
        let mark = (!self.reply.has_begun()).then(|| self.reply.buffer().len());
        separate(self.statements, self.reply.buffer());
        let Outcome { result, as_user } = outcome;
        let written = self.write_result(result).await;
        if let (Err(Stop::Failed(_)), Some(mark), false) = (&written, mark, self.reply.has_begun()) {
            self.reply.buffer().truncate(mark);
            return written;
        }
        let buffer = self.reply.buffer();
        buffer.extend_from_slice(b",\"as_user\":");
        write_json(as_user.as_str(), buffer);
        buffer.push(b'}');
        written?;
        self.statements += 1;
        Ok(self.reply.flow().await?)
    }

    async fn write_result(&mut self, result: OutcomeResult) -> Result<(), Stop> {
        match result {
            OutcomeResult::Rows(rows) => self.write_rows(rows, None).await,
            OutcomeResult::Affected { verb, rows, returning } => {
                let message = affected(verb, rows);
                match returning {
                    Some(returning) => self.write_rows(returning, Some(message)).await?,
                    None => self.write_message(rows, &message),
                }
                Ok(())
            }
            OutcomeResult::Done { message } => {
                self.write_message(0, &message);
                Ok(())
            }
        }
    }

    fn write_message(&mut self, rows: u64, message: &str) {
        let buffer = self.reply.buffer();
        buffer.extend_from_slice(b"{\"row_count\":");
        write_json(&rows, buffer);
        buffer.extend_from_slice(b",\"message\":");
        write_json(message, buffer);
    }

    async fn write_rows(&mut self, rows: Rows, message: Option<String>) -> Result<(), Stop> {
        let Rows { schema, flags, mut batches } = rows;
        let buffer = self.reply.buffer();
        buffer.extend_from_slice(b"{\"schema\":");
        write_schema(&schema, &flags, buffer);
        buffer.extend_from_slice(b",\"rows\":[");
        let mut count = 0;
        let mut outcome = Ok(());
        while let Some(batch) = batches.next().await {
            let writer = batch.and_then(|batch| RowWriter::new(&schema, &batch));
            outcome = match writer {
                Ok(writer) => self.write_batch(&writer, &mut count).await,
                Err(error) => Err(Stop::Failed(error)),
            };
            if outcome.is_err() {
                break;
            }
        }
        let buffer = self.reply.buffer();
        buffer.extend_from_slice(b"],\"row_count\":");
        write_json(&count, buffer);
        if let Some(message) = message {
            buffer.extend_from_slice(b",\"message\":");
            write_json(&message, buffer);
        }
        outcome
    }

    async fn write_batch(&mut self, writer: &RowWriter, count: &mut usize) -> Result<(), Stop> {
        for row in 0..writer.rows() {
            let buffer = self.reply.buffer();
            separate(*count, buffer);
            writer.write(row, buffer);
            *count += 1;
            self.reply.flow().await?;
        }
        Ok(())
    }

    /// Ends the answer well; all of its statements have cost this much.
    pub(crate) async fn succeed(mut self, cost: &StatsSnapshot) {
        self.conclude(cost);
        self.send_end().await;
    }

    /// Writes the end of an answer that went well, and holds it back: the copy that was asked for can be kept before
    /// the client knows of it.
    pub(crate) fn conclude(&mut self, cost: &StatsSnapshot) -> Option<bytes::Bytes> {
        self.close("success", cost, None);
        self.reply.whole_copy()
    }

    /// Sends what [`Self::conclude`] held back.
    pub(crate) async fn send_end(self) {
        self.reply.finish(200).await;
    }

    /// Ends the answer with an error, whose status is given back with the copy that was asked for. The statements until
    /// then, the one that failed too, have cost this much.
    pub(crate) async fn fail(
        mut self,
        error: &Error,
        audience: Audience<'_>,
        cost: &StatsSnapshot,
    ) -> (u16, Option<bytes::Bytes>) {
        let (status, code) = status_and_code(error.kind());
        let message = audience.message(error);
        self.reply.set_retry_after_seconds(retry_after_seconds(error));
        self.close("error", cost, Some((code, &message)));
        (status, self.reply.finish(status).await)
    }

    fn close(&mut self, status: &str, cost: &StatsSnapshot, error: Option<(&str, &str)>) {
        let took = took(self.watch);
        let buffer = self.reply.buffer();
        buffer.extend_from_slice(b"],\"status\":");
        write_json(status, buffer);
        buffer.extend_from_slice(b",\"took\":");
        buffer.extend_from_slice(took.as_bytes());
        buffer.extend_from_slice(b",\"stats\":");
        write_json(cost, buffer);
        if let Some((code, message)) = error {
            buffer.extend_from_slice(b",\"error\":");
            write_json(&json!({"code": code, "message": message}), buffer);
        }
        buffer.push(b'}');
    }
}

/// Milliseconds with three decimals, as JSON.
pub(crate) fn took(watch: Stopwatch) -> String {
    format!("{:.3}", watch.elapsed_ms())
}

fn affected(verb: Verb, rows: u64) -> String {
    let verb = match verb {
        Verb::Insert => "Inserted",
        Verb::Update => "Updated",
        Verb::Delete => "Deleted",
    };
    format!("{verb} {rows} row(s)")
}

/// `Statement N failed: ...`, where N counts from 1.
pub(crate) fn of_statement(number: usize, error: Error) -> Error {
    error.context(format_args!("Statement {number} failed"))
}

/// An answer that was an error from the start: nothing was carried out, and its statistics are of nothing.
pub(crate) fn refusal_body(
    error: &Error,
    watch: Stopwatch,
    audience: Audience<'_>,
    details: Option<String>,
) -> Vec<u8> {
    let (_, code) = status_and_code(error.kind());
    let mut told = json!({"code": code, "message": audience.message(error)});
    if let Some(details) = details {
        told["details"] = details.into();
    }
    let mut body = b"{\"status\":\"error\",\"results\":[],\"took\":".to_vec();
    body.extend_from_slice(took(watch).as_bytes());
    body.extend_from_slice(b",\"stats\":");
    write_json(&StatsSnapshot::default(), &mut body);
    body.extend_from_slice(b",\"error\":");
    write_json(&told, &mut body);
    body.push(b'}');
    body
}

/// Writes one result set as an Arrow IPC stream. An error that comes after the head cuts the stream.
pub(crate) async fn arrow_stream(rows: Rows, reply: &mut Reply) -> Result<(), Stop> {
    let Rows { schema, mut batches, .. } = rows;
    let failed = |cause| Error::internal("encoding an Arrow IPC stream failed").with_source(cause);
    reply.set_content_type(ARROW_STREAM);
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &schema).map_err(failed)?;
    while let Some(batch) = batches.next().await {
        writer.write(&batch?).map_err(failed)?;
        reply.buffer().append(writer.get_mut());
        reply.flow().await?;
    }
    writer.finish().map_err(failed)?;
    reply.buffer().append(writer.get_mut());
    Ok(())
}

#[cfg(test)]
mod tests;
