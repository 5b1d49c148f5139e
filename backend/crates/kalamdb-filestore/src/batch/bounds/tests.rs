use std::sync::Arc;

use arrow::array::{Float32Array, Float64Array, StringArray};
use kalamdb_commons::types::ColumnType;
use proptest::prelude::*;

use super::*;
use crate::testing::{all_columns, values};

fn range_of(arrays: &[ArrayRef]) -> ColumnRange {
    let mut builder = RangeBuilder::default();
    arrays.iter().for_each(|array| builder.add(array));
    builder.finish()
}

/// Each value of an array, as far as it has one.
fn singles(array: &ArrayRef) -> Vec<Extreme> {
    (0..array.len()).filter_map(|row| extremes(&array.slice(row, 1))).map(|(least, _)| least).collect()
}

fn as_extreme(bound: &Bound, column_type: ColumnType) -> Extreme {
    match (bound, column_type) {
        (Bound::Text(text), ColumnType::Decimal(_, _)) => Extreme::Decimal(text.parse().unwrap()),
        (Bound::Text(text), _) => Extreme::Text(text.clone()),
        (Bound::Int(value), _) => Extreme::Int(*value),
        (Bound::Float(value), _) => Extreme::Float(*value),
        (Bound::Bool(value), _) => Extreme::Bool(*value),
    }
}

proptest! {
    #[test]
    fn bounds_hold_every_value_and_survive_json(
        numbers in prop::collection::vec(prop::option::of(any::<u64>()), 0..12),
        cut in 0usize..12,
    ) {
        for column in all_columns().iter().filter(|column| column.column_type.is_comparable()) {
            let whole = values(column.column_type, &numbers);
            let cut = cut.min(whole.len());
            let range = range_of(&[whole.slice(0, cut), whole.slice(cut, whole.len() - cut)]);
            prop_assert_eq!(range.null_count, whole.null_count() as u64);
            let is_text = matches!(column.column_type, ColumnType::Text | ColumnType::Uuid);
            for (bound, is_lower) in [(&range.min, true), (&range.max, false)] {
                let Some(bound) = bound else { continue };
                let stored = serde_json::to_string(bound).unwrap();
                let read: Bound = serde_json::from_str(&stored).unwrap();
                prop_assert_eq!(&stored, &serde_json::to_string(&read).unwrap());
                if let Bound::Text(text) = &read {
                    prop_assert!(text.len() <= BOUND_BYTES_MAX);
                }
                let bound = as_extreme(&read, column.column_type);
                for value in singles(&whole) {
                    prop_assert!(if is_lower { bound <= value } else { bound >= value }, "{:?} {:?}", bound, value);
                }
            }
            let exact = !is_text && !matches!(column.column_type, ColumnType::Float | ColumnType::Double);
            if exact && whole.null_count() < whole.len() {
                prop_assert!(range.min.is_some() && range.max.is_some());
            }
        }
    }

    #[test]
    fn ordinary_numbers_have_bounds_that_are_tight(value in -1e15f64..1e15) {
        let range = range_of(&[Arc::new(Float64Array::from(vec![value]))]);
        let (Some(Bound::Float(min)), Some(Bound::Float(max))) = (range.min, range.max) else { panic!("no bounds") };
        prop_assert!(min <= value && value <= max && max - min <= value.abs() * 1e-13);
    }
}

#[test]
fn a_column_with_nan_has_no_bounds() {
    for arrays in [[vec![1.0, f64::NAN], vec![2.0]], [vec![1.0], vec![f64::NAN, 2.0]]] {
        let arrays: Vec<ArrayRef> = arrays.map(|values| Arc::new(Float64Array::from(values)) as ArrayRef).to_vec();
        let range = range_of(&arrays);
        assert_eq!((range.min, range.max), (None, None));
    }
    let range = range_of(&[Arc::new(Float32Array::from(vec![f32::NAN]))]);
    assert_eq!((range.min, range.max), (None, None));
}

#[test]
fn both_zeros_are_within_the_bounds_of_either() {
    for zero in [0.0, -0.0] {
        let range = range_of(&[Arc::new(Float64Array::from(vec![zero]))]);
        let bits = |bound: Option<Bound>| match bound {
            Some(Bound::Float(value)) => value.to_bits(),
            other => panic!("{other:?}"),
        };
        assert_eq!(bits(range.min), (-0.0f64).to_bits());
        assert_eq!(bits(range.max), 0.0f64.to_bits());
    }
}

#[test]
fn infinities_are_no_bounds() {
    let range = range_of(&[Arc::new(Float64Array::from(vec![f64::INFINITY, 1.0]))]);
    assert_eq!((range.min, range.max), (Some(Bound::Float(1.0)), None));
}

#[test]
fn long_text_is_cut_at_a_character_and_rounded_up() {
    let of = |text: &str| range_of(&[Arc::new(StringArray::from(vec![text]))]);
    let cut = of(&"é".repeat(40));
    assert_eq!(cut.min, Some(Bound::Text("é".repeat(32))));
    assert_eq!(cut.max, Some(Bound::Text(format!("{}ê", "é".repeat(31)))));
    let odd = of(&format!("a{}", "é".repeat(40)));
    assert_eq!(odd.min, Some(Bound::Text(format!("a{}", "é".repeat(31)))));
    assert_eq!(of(&"\u{10ffff}".repeat(40)).max, None);
    let surrogate = of(&format!("{}\u{d7ff}{}", "a".repeat(61), "x".repeat(9)));
    assert_eq!(surrogate.max, Some(Bound::Text(format!("{}\u{e000}", "a".repeat(61)))));
    // The successor of DEL needs two bytes, for which there is no room: the character before it is raised instead.
    let no_room = of(&format!("{}\u{7f}x", "a".repeat(63)));
    assert_eq!(no_room.max, Some(Bound::Text(format!("{}b", "a".repeat(62)))));
}

#[test]
fn nothing_but_null_has_no_bounds() {
    let range = range_of(&[values(ColumnType::Text, &[None, None])]);
    assert_eq!(range, ColumnRange { min: None, max: None, null_count: 2 });
}
