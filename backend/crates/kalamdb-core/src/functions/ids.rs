//! `snowflake_id()`, `uuid_v7()` and `ulid()`: another value for each row, growing from row to row.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::unique::TimeOrdered;

/// `snowflake_id()`, BIGINT: from the sequence that row ids come from.
#[derive(Debug)]
pub struct SnowflakeId {
    rows: Arc<SystemColumns>,
    signature: Signature,
}

impl SnowflakeId {
    /// With the server's sequence.
    pub fn new(rows: Arc<SystemColumns>) -> Self {
        Self { rows, signature: Signature::nullary(Volatility::Volatile) }
    }
}

/// There is one per session state.
impl PartialEq for SnowflakeId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows)
    }
}

impl Eq for SnowflakeId {}

impl Hash for SnowflakeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for SnowflakeId {
    fn name(&self) -> &str {
        "snowflake_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut ids = Vec::with_capacity(args.number_rows);
        if args.number_rows > 0 {
            let first =
                self.rows.next_ids(args.number_rows).map_err(|error| DataFusionError::External(error.into()))?;
            ids.extend((0..args.number_rows).map(|n| SystemColumns::nth_id(first, n).0));
        }
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(ids))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    UuidV7,
    Ulid,
}

/// `uuid_v7()` and `ulid()`, TEXT.
#[derive(Debug)]
pub struct TextId {
    form: Form,
    ids: Arc<TimeOrdered>,
    signature: Signature,
}

impl TextId {
    /// `uuid_v7()`.
    pub fn uuid_v7(ids: Arc<TimeOrdered>) -> Self {
        Self { form: Form::UuidV7, ids, signature: Signature::nullary(Volatility::Volatile) }
    }

    /// `ulid()`.
    pub fn ulid(ids: Arc<TimeOrdered>) -> Self {
        Self { form: Form::Ulid, ids, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for TextId {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form && Arc::ptr_eq(&self.ids, &other.ids)
    }
}

impl Eq for TextId {}

impl Hash for TextId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.form.hash(state);
    }
}

impl ScalarUDFImpl for TextId {
    fn name(&self) -> &str {
        match self.form {
            Form::UuidV7 => "uuid_v7",
            Form::Ulid => "ulid",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids: ArrayRef = match self.form {
            Form::UuidV7 => Arc::new(StringArray::from_iter_values((0..args.number_rows).map(|_| self.ids.uuid_v7()))),
            Form::Ulid => Arc::new(StringArray::from_iter_values((0..args.number_rows).map(|_| self.ids.ulid()))),
        };
        Ok(ColumnarValue::Array(ids))
    }
}
