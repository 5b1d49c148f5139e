//! What a storage that SQL made is: kept in the catalog, opened by the cold tier.
//!
//! Its credentials are kept sealed. Nothing here shows them: neither the sealed nor the open form has a `Debug` that does.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::StorageId;

/// A storage that SQL made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageDefinition {
    /// What tables call it.
    pub id: StorageId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub place: StoragePlace,
    /// The key to it; `None` for the machine's own credentials, and for a directory.
    #[serde(default)]
    pub credentials: Option<Sealed>,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
    /// When it was changed last, ms since 1970.
    pub updated_at_ms: i64,
}

/// Where a storage is. The bucket, the prefix and the directory never change, because files lie where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StoragePlace {
    /// A directory of the machine.
    Filesystem {
        /// Absolute.
        path: String,
    },
    /// A bucket.
    S3(S3Place),
}

/// A bucket, and how to reach it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty for nothing.
    pub prefix: String,
    /// The region.
    pub region: String,
    /// The address of a store that is not AWS; empty for AWS.
    pub endpoint: String,
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
}

impl StoragePlace {
    /// As the statements and system tables write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Filesystem { .. } => "filesystem",
            Self::S3(_) => "s3",
        }
    }
}

/// A secret that only whoever has the server's key can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// In base64.
    pub nonce: String,
    /// The ciphertext with its tag, in base64.
    pub text: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An access key of S3, as `CREDENTIALS` writes it in JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Credentials {
    /// Which key.
    #[serde(alias = "aws_access_key_id")]
    pub access_key_id: String,
    /// Its secret.
    #[serde(alias = "aws_secret_access_key")]
    pub secret_access_key: String,
    /// For keys that are good for a while.
    #[serde(default, alias = "aws_session_token", skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
