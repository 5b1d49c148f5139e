use super::*;

fn translated(text: &str, null: &str) -> String {
    let mut found = String::new();
    Nulls::new(text.as_bytes(), null).read_to_string(&mut found).expect("text");
    found
}

#[test]
fn only_whole_fields_become_null() {
    assert_eq!(translated("a,b,c\nNA,x,NA\nNAN,\"NA\",xNA\n", "NA"), "a,b,c\n,x,\nNAN,,xNA\n");
}

#[test]
fn a_column_may_be_named_like_null() {
    assert_eq!(translated("NA,b\nNA,1\n", "NA"), "NA,b\n,1\n");
}

#[test]
fn what_needs_quotes_keeps_them() {
    let text = "a,b\n\"x, \"\"y\"\"\",\"two\nlines\"\n";
    assert_eq!(translated(text, "NA"), text);
}

#[test]
fn rows_of_another_length_are_left_to_the_server() {
    assert_eq!(translated("a,b\n1\n1,2,3\n", "NA"), "a,b\n1\n1,2,3\n");
}

#[test]
fn many_pieces_are_one_text() {
    let text = format!("a,b\n{}", "NA,some text that takes a while\n".repeat(50_000));
    assert_eq!(translated(&text, "NA"), text.replace("NA,", ","));
}

#[test]
fn a_source_that_breaks_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let error = Nulls::new(Broken, "NA").read(&mut [0; 8]).expect_err("broken");
    assert!(error.to_string().contains("the disk is gone"));
}
