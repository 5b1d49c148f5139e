//! Functions whose result is as large as an argument says. DataFusion's ask for that much memory at once, and a process
//! that is not given it ends; here they refuse what is out of reason before they begin.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Bytes that one call, for all rows of a batch, may make.
const RESULT_BYTES_MAX: u128 = 1 << 30;
/// What an element of an array takes at least.
const ELEMENT_BYTES: u128 = 8;

/// How large a result becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Grows {
    /// As long as the second argument says.
    To,
    /// The first argument, as often as the second says.
    Times,
    /// So many elements as the second argument says.
    Elements,
    /// The first argument, with the third wherever the second may stand in it.
    Replaced,
}

/// The functions that are bounded.
const BOUNDED: &[(&str, Grows)] = &[
    ("lpad", Grows::To),
    ("rpad", Grows::To),
    ("repeat", Grows::Times),
    ("replace", Grows::Replaced),
    ("array_repeat", Grows::Elements),
    ("array_resize", Grows::Elements),
];

/// A function of DataFusion's that refuses to make too much.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    grows: Grows,
}

/// Puts bounds on those functions that need them.
pub(super) fn bound(functions: &mut [Arc<ScalarUDF>]) {
    for function in functions {
        if let Some((_, grows)) = BOUNDED.iter().find(|(name, _)| *name == function.name()) {
            let bounded = Bounded { inner: function.clone(), grows: *grows };
            *function = Arc::new(ScalarUDF::new_from_impl(bounded));
        }
    }
}

/// A number for each row.
enum Numbers {
    Same(Option<i64>),
    Each(Int64Array),
}

impl Numbers {
    fn of(value: &ColumnarValue, measure: impl Fn(&dyn Array) -> Result<Arc<dyn Array>>) -> Result<Self> {
        let numbers = |array: &dyn Array| -> Result<Int64Array> {
            Ok(cast(&measure(array)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        Ok(match value {
            ColumnarValue::Array(array) => Self::Each(numbers(array.as_ref())?),
            ColumnarValue::Scalar(scalar) => Self::Same(numbers(scalar.to_array()?.as_ref())?.iter().next().flatten()),
        })
    }

    /// The values of an argument.
    fn values(value: &ColumnarValue) -> Result<Self> {
        Self::of(value, |array| Ok(arrow::array::make_array(array.to_data())))
    }

    /// The lengths in bytes of an argument.
    fn lengths(value: &ColumnarValue) -> Result<Self> {
        Self::of(value, |array| Ok(length(array)?))
    }

    /// What is negative or NULL makes nothing.
    fn at(&self, row: usize) -> u128 {
        let number = match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => numbers.is_valid(row).then(|| numbers.value(row)),
        };
        number.and_then(|number| u128::try_from(number).ok()).unwrap_or_default()
    }
}

impl Bounded {
    fn result_bytes(&self, args: &ScalarFunctionArgs) -> Result<u128> {
        let [first, second, ..] = args.args.as_slice() else { return Ok(0) };
        let rows = 0..args.number_rows;
        Ok(match self.grows {
            Grows::To => {
                let to = Numbers::values(second)?;
                rows.map(|row| to.at(row)).sum()
            }
            Grows::Elements => {
                let to = Numbers::values(second)?;
                rows.map(|row| to.at(row) * ELEMENT_BYTES).sum()
            }
            Grows::Times => {
                let (each, times) = (Numbers::lengths(first)?, Numbers::values(second)?);
                rows.map(|row| each.at(row) * times.at(row)).sum()
            }
            Grows::Replaced => {
                let Some(third) = args.args.get(2) else { return Ok(0) };
                let [whole, from, to] = [Numbers::lengths(first)?, Numbers::lengths(second)?, Numbers::lengths(third)?];
                // Where nothing is looked for, it stands before each character and at the end.
                let places = |row: usize| whole.at(row) / from.at(row).max(1) + 1;
                rows.map(|row| places(row) * to.at(row)).max().unwrap_or_default()
            }
        })
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.result_bytes(&args)?;
        if bytes > RESULT_BYTES_MAX {
            return exec_err!(
                "{}() would make {bytes} bytes; {RESULT_BYTES_MAX} are the limit for the rows that are read at once",
                self.name()
            );
        }
        self.inner.invoke_with_args(args)
    }
}
