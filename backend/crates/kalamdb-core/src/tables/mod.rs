//! Tables as DataFusion sees them: the only module that knows its provider traits.

mod all_users;
mod audit;
mod cold;
pub(crate) mod hot;
pub(crate) mod provider;
mod pruning;

pub(crate) use all_users::AllUsersTable;
pub(crate) use audit::audit_log;
pub(crate) use hot::Missing;
pub(crate) use provider::{Exposure, PartitionTable, exposed, exposed_column};
