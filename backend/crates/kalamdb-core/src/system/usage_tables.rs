//! `system.user_usage`: what each user uses, and may use; one's own row for everybody, all rows for `dba`.

use kalamdb_commons::error::Result;
use kalamdb_commons::limits::UserLimit;
use kalamdb_commons::types::ColumnType::{BigInt, Text};

use super::SystemView;
use super::sheet::{Cell, Columns, Row};
use crate::access::sees_everything;

pub(super) const USER_USAGE: Columns = &[
    ("user_id", Text),
    ("requests", BigInt),
    ("requests_refused", BigInt),
    ("parallel_statements", BigInt),
    ("rows_scanned", BigInt),
    ("bytes_scanned", BigInt),
    ("subscriptions", BigInt),
    ("storage_bytes", BigInt),
    ("requests_per_second_max", BigInt),
    ("parallel_statements_max", BigInt),
    ("rows_scanned_per_minute_max", BigInt),
    ("bytes_scanned_per_minute_max", BigInt),
    ("subscriptions_max", BigInt),
    ("storage_bytes_max", BigInt),
];

pub(super) fn user_usage(view: &SystemView) -> Result<Vec<Row>> {
    let sees_all = sees_everything(view.actor.role);
    let seen = view.usage.iter().filter(|(user, _)| sees_all || *user == view.actor.user);
    let number = |n: u64| Cell::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let rows = seen.map(|(user, used)| {
        let counts = [
            used.requests,
            used.refused,
            used.running,
            used.rows_scanned,
            used.bytes_scanned,
            used.subscriptions,
            used.storage_bytes,
        ];
        let limits = UserLimit::ALL.map(|limit| used.limits.get(&limit).map_or(Cell::Null, |max| number(*max)));
        let user = Cell::from(user.as_str());
        std::iter::once(user).chain(counts.map(number)).chain(limits).collect()
    });
    Ok(rows.collect())
}
