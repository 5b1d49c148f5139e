//! What a user may use: the names of the limits, in settings, in ALTER USER ... SET LIMIT, and in
//! `system.user_usage`.

use serde::{Deserialize, Serialize};

use crate::settings::LimitSettings;
use crate::{Error, Result};

macro_rules! user_limits {
    ($($(#[doc = $doc:literal])* $variant:ident, $name:literal, $setting:ident, $what:literal;)*) => {
        /// One of the limits of a user. Zero means none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum UserLimit { $($(#[doc = $doc])* $variant,)* }

        impl UserLimit {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in statements; `system.user_usage` adds `_max`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it counts, in words.
            pub fn describe(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }

        impl LimitSettings {
            /// The limit of users whose account sets none.
            pub fn of_user(&self, limit: UserLimit) -> u64 {
                match limit { $(UserLimit::$variant => self.$setting,)* }
            }
        }
    };
}

user_limits! {
    /// Requests that begin within a second.
    RequestsPerSecond, "requests_per_second", user_requests_per_second_max, "requests per second";
    /// Requests that run at once.
    ParallelStatements, "parallel_statements", user_parallel_statements_max, "statements at once";
    /// Rows that statements look at within a minute.
    RowsScannedPerMinute, "rows_scanned_per_minute", user_rows_scanned_per_minute_max, "rows scanned per minute";
    /// Bytes that statements read from the cold tier within a minute.
    BytesScannedPerMinute, "bytes_scanned_per_minute", user_bytes_scanned_per_minute_max, "bytes scanned per minute";
    /// Live queries at once.
    Subscriptions, "subscriptions", user_subscriptions_max, "subscriptions at once";
    /// Bytes of rows and files in the user's partitions.
    StorageBytes, "storage_bytes", user_storage_bytes_max, "bytes of storage";
}

impl UserLimit {
    /// A limit by its name, in any case.
    ///
    /// # Errors
    /// If there is none of the name; the message has all names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|limit| limit.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid_input(format!("unknown limit '{name}'; allowed are {names}"))
        })
    }
}
