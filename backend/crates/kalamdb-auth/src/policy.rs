//! Who may do what: the one place that decides it, for every kind of statement, object and role.
//!
//! A [`Right`] is what a statement needs, [`decide`] says whether a role has it. What a role may not see is
//! [`Verdict::Hidden`] and is answered like what does not exist; what it may see and not do is [`Verdict::Refused`],
//! with words that name what is missing. `docs/roles.md` shows the same as a table, and a test carries out the
//! table's statements.

use kalamdb_commons::schema::{AccessLevel, Role};
use kalamdb_commons::{Error, Result};

/// The rows of a table, as far as rights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The subject's own partition of a USER or STREAM table.
    Own,
    /// A SHARED table.
    Shared(AccessLevel),
}

/// What a statement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Reading rows.
    Read(Rows),
    /// INSERT, UPDATE, DELETE.
    Write(Rows),
    /// `FROM ALL USERS OF`.
    AllUsers,
    /// Schema changes: namespaces, tables, columns, indexes, views.
    Schema,
    /// CREATE, ALTER and DROP USER of accounts with this role.
    Account(Role),
    /// Making, changing and checking storages; STORAGE FLUSH, STORAGE COMPACT, CHECK TABLE.
    Storage,
    /// KILL JOB, and everything else about jobs.
    Jobs,
    /// What is shown of the server as a whole: storages, settings, manifests, statistics.
    Server,
    /// The system tables about the whole server: they do not exist for whoever lacks it.
    ServerTables,
    /// VERIFY AUDIT.
    Audit,
}

/// What somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No, and why.
    Refused,
    /// That there is no such thing.
    Hidden,
}

impl Right {
    /// The least role that has it.
    pub fn least_role(self) -> Role {
        use AccessLevel::{Private, Public, Restricted};
        match self {
            Self::Read(Rows::Own | Rows::Shared(Public)) | Self::Write(Rows::Own) => Role::User,
            Self::Read(Rows::Shared(Private)) | Self::Write(Rows::Shared(Public | Private)) => Role::Service,
            Self::Read(Rows::Shared(Restricted)) | Self::Write(Rows::Shared(Restricted)) => Role::Dba,
            Self::AllUsers | Self::Schema | Self::Storage | Self::Jobs => Role::Dba,
            Self::Server | Self::ServerTables | Self::Audit => Role::Dba,
            Self::Account(role) => role.max(Role::Dba),
        }
    }

    /// As a refusal calls it.
    fn words(self) -> &'static str {
        match self {
            Self::Read(_) => "reading from this table",
            Self::Write(_) => "writing to this table",
            Self::AllUsers => "ALL USERS OF",
            Self::Schema => "a schema change",
            Self::Account(Role::System) => "an account with the role system",
            Self::Account(_) => "a change of accounts",
            Self::Storage => "a STORAGE or CHECK TABLE statement",
            Self::Jobs => "submitting or killing a job",
            Self::Server | Self::ServerTables => "a statement about the whole server",
            Self::Audit => "VERIFY AUDIT",
        }
    }
}

/// Whether a role has a right.
pub fn decide(role: Role, right: Right) -> Verdict {
    if role >= right.least_role() {
        return Verdict::Allowed;
    }
    match right {
        Right::Read(_) | Right::ServerTables => Verdict::Hidden,
        Right::Write(rows) if decide(role, Right::Read(rows)) != Verdict::Allowed => Verdict::Hidden,
        _ => Verdict::Refused,
    }
}

/// Passes a role that has a right.
///
/// # Errors
/// `PermissionDenied` with the right's name. For rights on objects, which may have to stay hidden, ask [`decide`].
pub fn require(role: Role, right: Right) -> Result<()> {
    match decide(role, right) {
        Verdict::Allowed => Ok(()),
        Verdict::Refused | Verdict::Hidden => Err(refusal(right)),
    }
}

/// The words of a refusal.
pub fn refusal(right: Right) -> Error {
    let (what, least) = (right.words(), right.least_role().as_str());
    Error::permission_denied(format!("Permission denied: {what} requires the role {least} or above"))
}

/// Whether a role is told the names and reasons that others must not learn: of absent objects, of damaged files.
pub fn is_told_everything(role: Role) -> bool {
    decide(role, Right::Server) == Verdict::Allowed
}

#[cfg(test)]
mod tests;
