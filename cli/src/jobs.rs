//! `kalam jobs`: the server's jobs, listed, started and stopped.

use std::io::Write;

use serde_json::{Value, json};

use crate::args::{JobAction, Jobs};
use crate::failure::Failure;
use crate::session::Session;

/// Does what was asked for.
pub(crate) fn run(session: &mut Session, jobs: &Jobs, out: &mut dyn Write) -> Result<(), Failure> {
    match &jobs.action {
        None => session.run(&newest(None, 20), out),
        Some(JobAction::List { status, limit }) => session.run(&newest(status.as_deref(), *limit), out),
        Some(JobAction::Show { id }) => {
            session.run(&format!("SELECT * FROM system.jobs WHERE job_id = {}", text(id)), out)
        }
        Some(JobAction::Kill { id }) => session.run(&format!("KILL JOB {}", text(id)), out),
        Some(JobAction::Run { kind, params, idempotency_key }) => {
            let params: Value = serde_json::from_str(params)
                .map_err(|error| Failure::Usage(format!("--params is not JSON: {error}")))?;
            let mut body = json!({"job_type": kind, "params": params});
            if let Some(key) = idempotency_key {
                body["idempotency_key"] = key.as_str().into();
            }
            let answer = session.client.post("/v1/api/jobs", &body)?;
            if !answer.is_success {
                return Err(session.client.refused_as(&answer));
            }
            let shown = |name: &str| answer.body[name].as_str().unwrap_or("?").to_owned();
            writeln!(out, "{} {}", shown("job_id"), shown("status")).map_err(Failure::output)
        }
    }
}

/// The query of the newest jobs, without a `;`.
pub(crate) fn newest(status: Option<&str>, limit: u64) -> String {
    let filter = status.map_or_else(String::new, |status| format!("WHERE status = {} ", text(status)));
    format!(
        "SELECT job_id, job_type, status, message, progress, created_at, finished_at FROM system.jobs {filter}\
         ORDER BY created_at DESC, job_id DESC LIMIT {limit}"
    )
}

/// A text as SQL writes it.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests;
