//! Values of one column type as values of another: what ALTER TABLE ... MODIFY COLUMN means for values that were
//! written before it.
//!
//! Whoever decides whether a MODIFY is allowed and whoever reads old rows and old batch files use this one
//! function, so that what was allowed can be read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::util::display::FormatOptions;
use kalamdb_commons::types::ColumnType;

use crate::error::{Result, StoreError};

/// Converts a column. A value that does not convert is an error that says why; NULL stays NULL.
pub fn convert(column: &str, array: &ArrayRef, from: ColumnType, to: ColumnType) -> Result<ArrayRef> {
    let failed = |cause: String| StoreError::Convert {
        column: column.to_owned(),
        from: from.to_string(),
        to: to.to_string(),
        cause,
    };
    if *array.data_type() != from.arrow() {
        return Err(StoreError::schema(format!("column '{column}' is {}, not {}", array.data_type(), from.arrow())));
    }
    if from == to {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    let converted = cast_with_options(array, &to.arrow(), &options).map_err(|e| failed(e.to_string()))?;
    match to {
        ColumnType::Uuid => canonical_uuids(converted.as_string()).map_err(failed),
        ColumnType::Json if from != ColumnType::Json => {
            check_json(converted.as_string()).map_err(failed).map(|()| converted)
        }
        _ => Ok(converted),
    }
}

fn canonical_uuids(texts: &StringArray) -> Result<ArrayRef, String> {
    let canonical = |text: &str| match uuid::Uuid::parse_str(text) {
        Ok(uuid) => Ok(uuid.hyphenated().to_string()),
        Err(e) => Err(format!("'{text}' is not a UUID: {e}")),
    };
    let uuids: StringArray = texts.iter().map(|text| text.map(canonical).transpose()).collect::<Result<_, _>>()?;
    Ok(Arc::new(uuids))
}

fn check_json(texts: &StringArray) -> Result<(), String> {
    for text in texts.iter().flatten() {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| format!("'{text}' is not JSON: {e}"))?;
    }
    Ok(())
}
