//! The audit log: who did what on whose behalf, and who was refused (FR-068, SC-009).
//!
//! # An entry's life
//!
//! A statement that is to be audited has a [`trail::Trail`] from before anything that it names is looked up. What it
//! changes is committed together with its [`Entry`], in one batch, so that there is neither without the other; what
//! changes nothing (a read, a refusal, a failure) is committed by itself before it is answered. Whoever goes away in
//! the middle leaves an entry that says so.
//!
//! The committer gives entries their numbers, so they are in the order of commits, and seals each one over its number
//! and the seal of the one before ([`chain`]): no entry can be changed, left out, moved or added without the key, which
//! lies beside the store and not in it ([`key`]). How many there are, and the last seal, are kept apart from the entries:
//! in a record of the store, in step with each commit, and in a file beside it, a minute behind. [`verify`] compares it
//! all. Retention removes from the old end and leaves a sealed checkpoint there.
//!
//! Refusals of one account beyond `audit.refusals_per_minute_max` are counted instead of written ([`refusals`]), so that
//! nobody fills the log by asking.
//!
//! | module | does |
//! |---|---|
//! | [`chain`] | numbers, seals, records |
//! | [`key`], [`anchor`] | the key; the count and last seal beside the store |
//! | [`trail`] | what a statement leaves, however it ends |
//! | [`describe`] | what an entry calls a statement |
//! | [`refusals`] | refusals of one account in a minute |
//! | [`verify`] | VERIFY AUDIT |

pub(crate) mod anchor;
pub(crate) mod chain;
pub(crate) mod describe;
pub(crate) mod key;
pub(crate) mod refusals;
pub(crate) mod trail;
pub(crate) mod verify;

use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::{ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::catalog::ddl::SERVER;

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was carried out.
    Ok,
    /// It was not allowed.
    Refused,
    /// It failed, and changed nothing.
    Failed,
    /// It was carried out in a transaction that was not committed.
    RolledBack,
    /// Whoever asked went away before it had changed anything.
    Cancelled,
}

impl Outcome {
    /// As `system.audit_log` shows it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is logged. Holds no values of rows and no text of statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When, microseconds since 1970.
    pub(crate) at_us: i64,
    /// Who is authenticated.
    pub(crate) actor: UserId,
    /// The actor's role then.
    pub(crate) role: Role,
    /// On whose behalf, as it was named. The actor, if nobody was.
    pub(crate) subject: String,
    /// `INSERT`, `DROP TABLE`.
    pub(crate) kind: String,
    /// The tables, account or job that it names.
    pub(crate) object: String,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Rows changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<u64>,
    /// Why it was refused or failed: the kind of the error, because its words may hold values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// How many of its like the entry stands for.
    pub(crate) times: u64,
    /// The request.
    pub(crate) request_id: String,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
}

/// The request that an entry is of.
#[derive(Debug, Clone)]
pub(crate) struct Origin<'a> {
    pub(crate) actor: &'a Actor,
    pub(crate) request_id: &'a str,
    pub(crate) address: Option<&'a str>,
}

impl Entry {
    /// An entry of something that the server does by itself.
    pub(crate) fn of_the_server(now_ns: i64, kind: &str, object: String) -> Result<Self> {
        let actor = Actor { user: UserId::new(SERVER)?, role: Role::System };
        Ok(Self::new(&Origin { actor: &actor, request_id: "", address: None }, now_ns, kind, object))
    }

    /// The same in the course of a request or job.
    pub(crate) fn in_request(self, request_id: &str) -> Self {
        Self { request_id: request_id.to_owned(), ..self }
    }

    /// The same asked for from somewhere.
    pub(crate) fn asked_from(self, address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..self }
    }

    /// An entry of something that is about to be done by the actor for themselves.
    pub(crate) fn new(origin: &Origin<'_>, now_ns: i64, kind: &str, object: String) -> Self {
        Self {
            at_us: now_ns / 1_000,
            actor: origin.actor.user.clone(),
            role: origin.actor.role,
            subject: origin.actor.user.to_string(),
            kind: kind.to_owned(),
            object: describe::shortened(object),
            outcome: Outcome::Ok,
            rows: None,
            reason: None,
            times: 1,
            request_id: origin.request_id.to_owned(),
            address: origin.address.map(ToOwned::to_owned),
        }
    }

    /// The same with another subject, who may not exist.
    pub(crate) fn on_behalf_of(self, named: &str) -> Self {
        Self { subject: describe::shortened(named.to_owned()), ..self }
    }

    /// The same at another time.
    pub(crate) fn at(self, now_ns: i64) -> Self {
        Self { at_us: now_ns / 1_000, ..self }
    }

    /// The same with its end.
    pub(crate) fn ended(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// The same with the rows that it changed.
    pub(crate) fn with_rows(self, rows: u64) -> Self {
        Self { rows: Some(rows), ..self }
    }

    /// The same as refused or failed.
    pub(crate) fn because(self, outcome: Outcome, reason: ErrorKind) -> Self {
        Self { outcome, reason: Some(format!("{reason:?}")), ..self }
    }
}
