use super::*;

fn shown(metrics: &Metrics, name: &str) -> Vec<(String, String)> {
    let all = samples(&metrics.registry().gather());
    all.into_iter().filter(|(sample, _)| sample.starts_with(name)).collect()
}

#[test]
fn a_sample_is_named_as_prometheus_names_it() {
    let metrics = Metrics::default();
    metrics.rows_read.with_label_values(&["hot"]).inc_by(7);
    let rows = [("kalamdb_rows_read_total{tier=\"cold\"}", "0"), ("kalamdb_rows_read_total{tier=\"hot\"}", "7")];
    assert_eq!(shown(&metrics, "kalamdb_rows_read"), rows.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_histogram_is_shown_by_its_count_and_its_sum() {
    let metrics = Metrics::default();
    metrics.commit_group_changes.observe(3.0);
    metrics.commit_group_changes.observe(4.0);
    let expected = [("kalamdb_commit_group_changes_count", "2"), ("kalamdb_commit_group_changes_sum", "7")];
    assert_eq!(shown(&metrics, "kalamdb_commit_group"), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn every_name_follows_the_conventions() {
    for family in Metrics::default().registry().gather() {
        let name = family.name();
        assert!(name.starts_with("kalamdb_"), "{name}");
        assert!(family.help().ends_with('.'), "{name}: {}", family.help());
        assert_eq!(name.ends_with("_total"), family.get_field_type() == MetricType::COUNTER, "{name}");
    }
}
