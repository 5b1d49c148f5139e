use arrow::datatypes::DataType;

use super::*;

#[test]
fn filters_are_at_hand_while_the_cache_has_them_and_it_hears_of_some_uses() {
    let (recent, filters) = (RecentFilters::default(), Arc::new(ColumnFilters::none(DataType::Int64)));
    assert!(recent.get(BatchColumn::Id).is_none());
    recent.put(BatchColumn::Id, &filters);
    assert!(recent.get(BatchColumn::Updated).is_none(), "those of another column");
    let uses = std::iter::from_fn(|| recent.get(BatchColumn::Id)).count();
    assert_eq!(uses, usize::from(USES) - 1, "the next one goes to the cache");
    recent.put(BatchColumn::Id, &filters);
    drop(filters);
    assert!(recent.get(BatchColumn::Id).is_none(), "the cache has let them go");
}
