//! The parameters of jobs: a struct for each kind, made by [`params!`](crate::jobs::params::params), which knows its
//! fields, what each may be, and an example.
//!
//! Parameters are read in two ways. What somebody submits is read by [`read_submitted`]: every field must be known and
//! be what it says, and the error names each that is not, what it must be, and an example (FR-090, FR-095). What is
//! stored is read by [`read_stored`]: an older version may have stored fewer fields or more (FR-094), so that fields
//! which came later are `Option`s or have a serde default, and unknown ones are passed over.

use kalamdb_commons::ids::{NamespaceId, StorageId, TableName, UserId};
use kalamdb_commons::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// How much of a value that is wrong is repeated.
const SHOWN_CHARS_MAX: usize = 60;

/// What a field may hold.
pub trait ParamValue: DeserializeOwned {
    /// What it is, after "must be".
    const SHAPE: &'static str;
    /// Whether it must be there.
    const IS_REQUIRED: bool = true;

    /// Whether a value is one.
    fn is_one(value: &Value) -> bool {
        Self::deserialize(value).is_ok()
    }
}

macro_rules! values {
    ($($type:ty, $shape:literal $(, $new:expr)?;)*) => {$(
        impl ParamValue for $type {
            const SHAPE: &'static str = $shape;
            $(fn is_one(value: &Value) -> bool {
                value.as_str().is_some_and(|text| $new(text).is_ok())
            })?
        }
    )*};
}

values! {
    bool, "true or false";
    u32, "a whole number";
    u64, "a whole number";
    String, "text";
    NamespaceId, "the name of a namespace", NamespaceId::new;
    TableName, "the name of a table", TableName::new;
    UserId, "a user id", UserId::new;
    StorageId, "the id of a storage", StorageId::new;
}

impl<T: ParamValue> ParamValue for Option<T> {
    const SHAPE: &'static str = T::SHAPE;
    const IS_REQUIRED: bool = false;

    fn is_one(value: &Value) -> bool {
        value.is_null() || T::is_one(value)
    }
}

/// One field of a kind's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it must be.
    pub shape: &'static str,
    /// Whether it must be there.
    pub is_required: bool,
    /// A value, as JSON.
    pub example: &'static str,
    range: Option<(u64, u64)>,
    is_one: fn(&Value) -> bool,
}

impl Field {
    /// A field that holds a `T`.
    pub const fn of<T: ParamValue>(name: &'static str, about: &'static str, example: &'static str) -> Self {
        Self { name, about, shape: T::SHAPE, is_required: T::IS_REQUIRED, example, range: None, is_one: T::is_one }
    }

    /// The same within a range.
    #[must_use]
    pub const fn within(self, min: u64, max: u64) -> Self {
        Self { range: Some((min, max)), ..self }
    }

    /// What it must be, with its range and an example.
    pub fn wanted(&self) -> String {
        let range = self.range.map_or_else(String::new, |(min, max)| format!(" from {min} to {max}"));
        format!("{}{range}, such as {}", self.shape, self.example)
    }

    fn refusal(&self, value: Option<&Value>) -> Option<String> {
        let Some(value) = value else {
            let missing = || format!("field \"{}\" is missing: it must be {}", self.name, self.wanted());
            return self.is_required.then(missing);
        };
        let in_range = match (self.range, value.as_u64()) {
            (Some((min, max)), Some(number)) => (min..=max).contains(&number),
            _ => true,
        };
        let is_fine = in_range && (self.is_one)(value);
        (!is_fine).then(|| format!("field \"{}\" must be {}; found {}", self.name, self.wanted(), shown(value)))
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() { format!("{start}...") } else { text }
}

/// The parameters of one kind of job.
pub trait JobParams: Serialize + DeserializeOwned + Send + Sync + std::fmt::Debug + 'static {
    /// Its fields.
    const FIELDS: &'static [Field];
}

/// Makes the struct of a kind's parameters: fields with their documentation, type, an example as JSON text, and a range
/// if they are numbers that have one.
///
/// ```ignore
/// params! {
///     /// What is to be looked at.
///     pub(crate) LookParams {
///         /// The table.
///         table: TableName = r#""messages""#,
///         /// How many rows at once.
///         rows: Option<u64> = "1000" in 1..=1_000_000,
///     }
/// }
/// ```
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis $name:ident { $(
        $(#[doc = $about:literal])* $(#[serde($($serde:tt)*)])?
        $field:ident: $type:ty = $example:literal $(in $min:literal ..= $max:literal)?
    ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        $vis struct $name { $(
            $(#[doc = $about])* $(#[serde($($serde)*)])?
            $vis $field: $type,
        )* }

        impl $crate::jobs::params::JobParams for $name {
            const FIELDS: &'static [$crate::jobs::params::Field] = &[$(
                $crate::jobs::params::Field::of::<$type>(stringify!($field), concat!($($about),*), $example)
                    $(.within($min, $max))?,
            )*];
        }
    };
}

pub(crate) use params;

/// What somebody submitted for a job of the kind `name`.
///
/// # Errors
/// `InvalidParameter`, which names every field that is missing, unknown, of the wrong type or out of its range, with
/// what it must be and an example.
pub fn read_submitted<P: JobParams>(name: &str, submitted: &Value) -> Result<P> {
    let none = Map::new();
    let given = match submitted {
        Value::Null => &none,
        Value::Object(given) => given,
        other => {
            let found = shown(other);
            let message = format!("params must be an object; found {found}. {}", expected(name, P::FIELDS));
            return Err(Error::invalid_parameter(message));
        }
    };
    let mut wrong: Vec<String> = P::FIELDS.iter().filter_map(|field| field.refusal(given.get(field.name))).collect();
    let unknown = given.keys().filter(|key| P::FIELDS.iter().all(|field| field.name != key.as_str()));
    wrong.extend(unknown.map(|key| format!("there is no field {}", shown(&Value::from(key.as_str())))));
    if !wrong.is_empty() {
        return Err(Error::invalid_parameter(format!("{}. {}", wrong.join("; "), expected(name, P::FIELDS))));
    }
    P::deserialize(Value::Object(given.clone())).map_err(|error| {
        Error::invalid_parameter(format!("params are not right: {error}. {}", expected(name, P::FIELDS)))
    })
}

/// What the parameters of a kind look like, as a sentence.
pub fn expected(name: &str, fields: &[Field]) -> String {
    if fields.is_empty() {
        return format!("A job of type {name} takes no parameters: {{}}");
    }
    let described = fields.iter().map(|field| {
        let optional = if field.is_required { "" } else { ", optional" };
        format!("\"{}\" ({}{optional})", field.name, field.wanted())
    });
    format!("A job of type {name} takes {}", described.collect::<Vec<_>>().join(", "))
}

/// What some version stored for a job.
///
/// # Errors
/// `InvalidParameter` if a field that cannot do without is missing, or one has become something else.
pub fn read_stored<P: JobParams>(stored: &Value) -> Result<P> {
    let stored = if stored.is_null() { Value::Object(Map::new()) } else { stored.clone() };
    P::deserialize(stored)
        .map_err(|error| Error::invalid_parameter(format!("the stored parameters cannot be read: {error}")))
}

/// Parameters as they are stored: JSON without the fields that are not set.
pub fn to_stored<P: JobParams>(params: &P) -> Value {
    let mut stored = serde_json::to_value(params).unwrap_or_default();
    if let Value::Object(fields) = &mut stored {
        fields.retain(|_, value| !value.is_null());
    }
    stored
}

#[cfg(test)]
mod tests;
