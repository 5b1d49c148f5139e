use std::sync::Arc;

use arrow::array::StringArray;
use proptest::prelude::*;

use super::*;
use crate::testing::{all_columns, values};

proptest! {
    #[test]
    fn keys_have_equal_bytes_exactly_if_they_are_equal(
        rows in prop::collection::vec((prop::option::of("[ab]{0,3}"), prop::option::of("[ab]{0,3}")), 1..40),
    ) {
        let (first, second): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
        let column = |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let keys = KeyBytes::new(&[column(first), column(second)]).unwrap();
        prop_assert_eq!(keys.len(), rows.len());
        for (a, one) in rows.iter().enumerate() {
            let has_null = one.0.is_none() || one.1.is_none();
            prop_assert_eq!(keys.get(a).is_none(), has_null);
            for (b, other) in rows.iter().enumerate().filter(|_| !has_null) {
                prop_assert_eq!(keys.get(a) == keys.get(b), one == other);
            }
        }
    }

    #[test]
    fn equal_values_of_a_type_have_equal_bytes(a in any::<u64>(), b in any::<u64>()) {
        for column in all_columns().iter().filter(|column| column.column_type.can_be_key()) {
            let array = values(column.column_type, &[Some(a), Some(b), Some(a)]);
            let keys = KeyBytes::new(std::slice::from_ref(&array)).unwrap();
            prop_assert_eq!(keys.get(0), keys.get(2));
            let same = array.slice(0, 1).to_data() == array.slice(1, 1).to_data();
            prop_assert_eq!(keys.get(0) == keys.get(1), same, "{}", column.column_type);
        }
    }
}

#[test]
fn decimals_have_the_width_that_parquet_gives_them() {
    let widths: Vec<_> = [1, 9, 10, 18, 19, 21, 22, 38].map(decimal_bytes).to_vec();
    assert_eq!(widths, [4, 4, 8, 8, 9, 9, 10, 16]);
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    assert!(KeyValues::new(&[]).is_err());
    assert!(KeyValues::new(&[Arc::clone(&text), text.slice(0, 1)]).is_err());
    let wide: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![1]));
    assert!(KeyValues::new(&[wide]).is_err());
}
