//! The types of CAST. Times are held in microseconds, as columns hold them, so that the years that a column can
//! have can also be written; DATETIME is a TIMESTAMP and BYTES a binary string, as in CREATE TABLE.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use kalamdb_sql::ast::{DataType as Written, TimezoneInfo};

/// Says what the types of CAST are.
#[derive(Debug)]
pub struct CastTypes;

impl TypePlanner for CastTypes {
    fn plan_type_field(&self, written: &Written) -> Result<Option<FieldRef>> {
        let no_zone = |zone: &TimezoneInfo| matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone);
        let data_type = match written {
            Written::Timestamp(None | Some(6), zone) if no_zone(zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Written::Datetime(None | Some(6)) | Written::TimestampNtz(None | Some(6)) => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Written::Time(None | Some(6), zone) if no_zone(zone) => DataType::Time64(TimeUnit::Microsecond),
            Written::Bytes(None) | Written::Bytea | Written::Blob(None) | Written::Binary(None) => DataType::Binary,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}
