//! `current_user()`: the user that the statement runs as.
//!
//! The engine puts the user into the configuration of the statement's session with [`set_current_user`]; without
//! one the function fails rather than name somebody else. The value is fixed for the statement, so that it can be
//! compared with columns as cheaply as a literal.

use std::any::Any;

use arrow::datatypes::DataType;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_commons::ids::UserId;

/// The user of a session's configuration.
#[derive(Debug, Clone, Default)]
struct StatementUser(Option<UserId>);

/// Makes `current_user()` answer `user` in sessions with this configuration.
pub fn set_current_user(config: &mut ConfigOptions, user: &UserId) {
    config.extensions.insert(StatementUser(Some(user.clone())));
}

/// Makes `current_user()` fail in sessions with this configuration.
pub fn clear_current_user(config: &mut ConfigOptions) {
    config.extensions.insert(StatementUser(None));
}

impl ConfigExtension for StatementUser {
    const PREFIX: &'static str = "kalamdb_statement";
}

impl ExtensionOptions for StatementUser {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    /// SET cannot reach it: nobody becomes somebody else by a statement.
    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        exec_err!("{}.{key} cannot be set", Self::PREFIX)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// `current_user()`, TEXT.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CurrentUser {
    signature: Signature,
}

impl Default for CurrentUser {
    fn default() -> Self {
        Self { signature: Signature::nullary(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentUser {
    fn name(&self) -> &str {
        "current_user"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.config_options.extensions.get::<StatementUser>() {
            Some(StatementUser(Some(user))) => Ok(ColumnarValue::Scalar(ScalarValue::from(user.as_str()))),
            _ => exec_err!("current_user() is not known here"),
        }
    }
}
