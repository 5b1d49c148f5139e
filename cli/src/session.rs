//! Running SQL: statement after statement, each in a request of its own, stopping at the first that fails.

use std::fs;
use std::io::{self, Read, Write};

use kalamdb_commons::clock::Stopwatch;

use crate::args::Script;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::statements;
use crate::variables::Variables;

/// A connection and how its results are written.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The namespace of names without one: the server keeps none between requests.
    pub(crate) namespace: Option<String>,
    pub(crate) format: Format,
    pub(crate) timing: bool,
    /// What `:name` stands for.
    pub(crate) variables: Variables,
}

impl Session {
    /// Runs scripts in order.
    pub(crate) fn run_all(&mut self, scripts: &[Script], out: &mut dyn Write) -> Result<(), Failure> {
        for script in scripts {
            match script {
                Script::Text(sql) => self.run(sql, out)?,
                Script::File(path) if path.as_os_str() == "-" => self.run_stdin(out)?,
                Script::File(path) => {
                    let unreadable = |source| Failure::File { path: path.display().to_string(), source };
                    self.run(&fs::read_to_string(path).map_err(unreadable)?, out)?;
                }
            }
        }
        Ok(())
    }

    /// Runs what stands in standard input.
    pub(crate) fn run_stdin(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut sql = String::new();
        let unreadable = |source| Failure::File { path: "standard input".to_owned(), source };
        io::stdin().lock().read_to_string(&mut sql).map_err(unreadable)?;
        self.run(&sql, out)
    }

    /// Runs the statements of a text; the last one needs no `;`.
    pub(crate) fn run(&mut self, sql: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let sql = self.variables.replaced(sql);
        let units = statements::units(&sql);
        units.complete.into_iter().chain(units.rest).try_for_each(|unit| self.run_unit(unit, out))
    }

    fn run_unit(&mut self, sql: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let watch = Stopwatch::start();
        let mut messages = io::stderr().lock();
        let mut printer = output::printer(self.format, out, &mut messages);
        let outcome = self.client.sql(sql, self.namespace.as_deref(), &mut *printer);
        drop(printer);
        // What was answered before an error is shown before it.
        out.flush().map_err(Failure::output)?;
        let server_ms = outcome?;
        if let Some(namespace) = statements::used_namespace(sql) {
            self.namespace = Some(namespace);
        }
        if self.timing {
            let said = writeln!(messages, "Time: {:.3} ms (server {server_ms:.3} ms)", watch.elapsed_ms());
            said.map_err(Failure::output)?;
        }
        Ok(())
    }
}
