//! `->` and `->>` on JSON text, as PostgreSQL has them for `json`.
//!
//! The left side is text that holds JSON, the right side a key (text) or an index (a whole number, from the end if
//! it is negative). `->` answers JSON, `->>` answers text: a JSON string without its quotes, everything else as it
//! is written, and NULL for JSON's null. What is not there is NULL; text that is not JSON is an error, as a cast to
//! JSON would be. Of a key that comes twice the last value counts.
//!
//! Nothing is converted on the way: the answer is cut out of the text, so that numbers keep all their digits.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use kalamdb_commons::types::ColumnType;
use kalamdb_sql::ast::BinaryOperator;
use serde::de::{Error, IgnoredAny};

/// Plans the operators as calls of the functions.
#[derive(Debug)]
pub struct JsonOperators {
    arrow: Arc<ScalarUDF>,
    long_arrow: Arc<ScalarUDF>,
}

impl Default for JsonOperators {
    fn default() -> Self {
        Self { arrow: Arc::new(JsonGet::json().into()), long_arrow: Arc::new(JsonGet::text().into()) }
    }
}

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => &self.arrow,
            BinaryOperator::LongArrow => &self.long_arrow,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let RawBinaryExpr { left, right, .. } = expr;
        let call = ScalarFunction::new_udf(Arc::clone(function), vec![left, right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// `json_get(json, key or index)`, which is `->`, and `json_get_text`, which is `->>`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JsonGet {
    as_text: bool,
    signature: Signature,
}

impl JsonGet {
    /// `json_get`.
    pub fn json() -> Self {
        Self { as_text: false, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// `json_get_text`.
    pub fn text() -> Self {
        Self { as_text: true, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn operator(&self) -> &'static str {
        if self.as_text { "->>" } else { "->" }
    }
}

impl ScalarUDFImpl for JsonGet {
    fn name(&self) -> &str {
        if self.as_text { "json_get_text" } else { "json_get" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [json, step] = types else {
            return plan_err!("{} takes JSON and a key or index, not {} arguments", self.name(), types.len());
        };
        if !(is_text(json) || json.is_null()) {
            return plan_err!("{} needs JSON on its left, not {json}", self.operator());
        }
        match step {
            step if step.is_integer() => Ok(vec![DataType::Utf8, DataType::Int64]),
            step if is_text(step) || step.is_null() => Ok(vec![DataType::Utf8, DataType::Utf8]),
            other => plan_err!("{} needs a key or an index on its right, not {other}", self.operator()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(match self.as_text {
            true => Field::new(self.name(), DataType::Utf8, true),
            false => ColumnType::Json.field(self.name(), true),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let answer = match args.args.as_slice() {
            [json, ColumnarValue::Scalar(step)] => {
                let step = Step::of_scalar(step);
                self.each(&json.to_array(rows)?, |_| step)?
            }
            [json, ColumnarValue::Array(steps)] => self.each(&json.to_array(rows)?, |row| Step::of_row(steps, row))?,
            _ => return plan_err!("{} takes two arguments", self.name()),
        };
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?),
            false => ColumnarValue::Array(answer),
        })
    }
}

impl JsonGet {
    fn each<'a>(&self, json: &ArrayRef, step: impl Fn(usize) -> Option<Step<'a>>) -> Result<ArrayRef> {
        let texts = json.as_string::<i32>();
        let mut found = StringBuilder::with_capacity(texts.len(), texts.len() * 16);
        for row in 0..texts.len() {
            let value = match step(row).filter(|_| texts.is_valid(row)) {
                Some(step) => get(texts.value(row), step)?,
                None => None,
            };
            match value {
                Some(value) if self.as_text => found.append_option(as_text(value)?),
                value => found.append_option(value),
            }
        }
        Ok(Arc::new(found.finish()))
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// One step into a JSON value.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(i64),
}

impl<'a> Step<'a> {
    fn of_scalar(value: &'a ScalarValue) -> Option<Self> {
        match value {
            ScalarValue::Utf8(Some(key)) => Some(Self::Key(key)),
            ScalarValue::Int64(Some(index)) => Some(Self::Index(*index)),
            _ => None,
        }
    }

    fn of_row(steps: &'a ArrayRef, row: usize) -> Option<Self> {
        if steps.is_null(row) {
            return None;
        }
        match steps.data_type() {
            DataType::Int64 => Some(Self::Index(steps.as_primitive::<Int64Type>().value(row))),
            _ => steps.as_string_opt::<i32>().map(|keys| Self::Key(keys.value(row))),
        }
    }
}

/// The value one step into `json`, as it is written there.
fn get<'a>(json: &'a str, step: Step<'_>) -> Result<Option<&'a str>> {
    Reader { json, at: 0 }.find(step).map_err(|error| {
        let shown: String = json.chars().take(40).collect();
        exec_datafusion_err!("invalid JSON '{shown}': {error}")
    })
}

/// What `->>` makes of a value.
fn as_text(value: &str) -> Result<Option<Cow<'_, str>>> {
    match value {
        "null" => Ok(None),
        text if text.starts_with('"') => serde_json::from_str::<String>(text)
            .map(|unquoted| Some(Cow::Owned(unquoted)))
            .map_err(|error| exec_datafusion_err!("invalid JSON string: {error}")),
        text => Ok(Some(Cow::Borrowed(text))),
    }
}

/// Walks over the outermost level of a JSON text. Values within are stepped over by `serde_json`, which checks them.
struct Reader<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The value at the step, after the whole text was found to be JSON.
    fn find(mut self, step: Step<'_>) -> serde_json::Result<Option<&'a str>> {
        let found = match self.peek() {
            Some(b'{') => self.find_key(step)?,
            Some(b'[') => self.find_index(step)?,
            _ => self.value().map(|_| None)?,
        };
        match self.peek() {
            None => Ok(found),
            Some(_) => Err(Error::custom(format!("text after the value, at byte {}", self.at))),
        }
    }

    fn find_key(&mut self, step: Step<'_>) -> serde_json::Result<Option<&'a str>> {
        let mut found = None;
        self.members(b'}', |reader| {
            if reader.peek() != Some(b'"') {
                return Err(reader.expected("a key"));
            }
            let key = reader.value()?;
            reader.expect(b':')?;
            let value = reader.value()?;
            if matches!(step, Step::Key(wanted) if is_key(key, wanted)?) {
                found = Some(value);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn find_index(&mut self, step: Step<'_>) -> serde_json::Result<Option<&'a str>> {
        let mut values = Vec::new();
        self.members(b']', |reader| {
            values.push(reader.value()?);
            Ok(())
        })?;
        let Step::Index(index) = step else { return Ok(None) };
        let at = if index < 0 { index.checked_add_unsigned(values.len() as u64) } else { Some(index) };
        Ok(at.and_then(|at| usize::try_from(at).ok()).and_then(|at| values.get(at).copied()))
    }

    /// What stands between the brackets, with commas between.
    fn members(
        &mut self,
        end: u8,
        mut member: impl FnMut(&mut Self) -> serde_json::Result<()>,
    ) -> serde_json::Result<()> {
        self.at += 1;
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(());
        }
        loop {
            member(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.expected("a comma or the end of the brackets")),
            }
        }
    }

    /// The next byte that is not a blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.json.as_bytes()[self.at..];
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blanks;
        rest.get(blanks).copied()
    }

    fn expect(&mut self, byte: u8) -> serde_json::Result<()> {
        if self.peek() != Some(byte) {
            return Err(self.expected(&format!("'{}'", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over one value, and returns it as it is written.
    fn value(&mut self) -> serde_json::Result<&'a str> {
        self.peek();
        let rest = &self.json[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        values.next().unwrap_or_else(|| Err(self.expected("a value")))?;
        let end = values.byte_offset();
        self.at += end;
        Ok(&rest[..end])
    }

    fn expected(&self, what: &str) -> serde_json::Error {
        Error::custom(format!("expected {what} at byte {}", self.at))
    }
}

/// Whether a key, with its quotes and escapes, is the wanted one.
fn is_key(written: &str, wanted: &str) -> serde_json::Result<bool> {
    if written.contains('\\') {
        return Ok(serde_json::from_str::<String>(written)? == wanted);
    }
    Ok(written.get(1..written.len() - 1) == Some(wanted))
}

#[cfg(test)]
mod tests;
