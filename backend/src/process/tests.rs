use super::*;

#[test]
fn a_command_with_brackets_in_its_name_hides_nothing() {
    let stat = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
    assert_eq!(cpu_seconds(stat), Some(2.0));
    assert_eq!(cpu_seconds("nothing"), None);
}

#[test]
fn this_process_has_memory_and_files() {
    let registry = Registry::new();
    register(&registry, Path::new("/"), 5_000);
    let found: Vec<(String, f64)> = registry
        .gather()
        .iter()
        .map(|family| (family.name().to_owned(), family.get_metric()[0].get_gauge().get_value()))
        .collect();
    let value = |name: &str| found.iter().find(|(found, _)| found == name).unwrap().1;
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 2.0, "{found:?}");
    assert!(value("kalamdb_disk_bytes") > value("kalamdb_disk_available_bytes"), "{found:?}");
    assert_eq!(value("process_start_time_seconds"), 5.0);
}
