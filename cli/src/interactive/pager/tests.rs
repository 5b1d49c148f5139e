use super::*;

#[test]
fn many_lines_and_long_lines_are_long() {
    assert!(!is_long("x\n".repeat(LINES_MAX - 1).as_bytes()));
    assert!(is_long("x\n".repeat(LINES_MAX).as_bytes()));
    assert!(is_long("x".repeat(LINE_BYTES_MAX + 1).as_bytes()));
}

#[test]
fn long_output_goes_through_the_pager() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seen");
    let mut screen = Screen::new(&format!("cat > '{}'", file.display()));
    let text = "line\n".repeat(100);
    for _ in 0..2 {
        text.as_bytes().chunks(7).for_each(|piece| screen.write_all(piece).expect("shown"));
        screen.flush().expect("shown");
        assert_eq!(std::fs::read_to_string(&file).expect("the pager's output"), text);
        std::fs::remove_file(&file).expect("the pager's output");
    }
    screen.write_all(b"short\n").expect("held");
    screen.flush().expect("shown");
    assert!(!file.exists());
}
