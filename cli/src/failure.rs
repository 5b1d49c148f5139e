//! Why the command line stops, and the exit status that says so to a script.

use std::io;

use crate::answer::{AnswerError, Refusal};

/// A reason to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No answer.
    #[error("no answer from {url}: {reason}")]
    Connection { url: String, reason: String },
    /// An answer, but not from a KalamDB server of a version that we understand.
    #[error("{0}")]
    Protocol(String),
    /// The server does not let the user in.
    #[error("login as '{user}' failed: {message}")]
    Login { user: String, message: String },
    /// The server refused a statement or an import.
    #[error("{0}")]
    Refused(Refusal),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    /// The results cannot be written.
    #[error("the results cannot be written: {0}")]
    Output(io::Error),
    /// `kalam doctor` found something, and has said it.
    #[error("something is wrong")]
    Unhealthy,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// 1 if the server refused what it was asked, 2 if it could not be asked, 130 after Ctrl-C as shells have it.
    /// A reader that has seen enough, as in `kalam ... | head`, is no failure.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Unhealthy => 1,
            Self::Output(_) if self.is_quiet() => 0,
            Self::Interrupted => 130,
            _ => 2,
        }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Unhealthy => true,
            _ => false,
        }
    }

    /// For errors of writing.
    pub(crate) fn output(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Answer(error) => Self::Protocol(format!("the server's answer is not readable: {error}")),
            AnswerError::Output(error) => Self::Output(error),
        }
    }
}
