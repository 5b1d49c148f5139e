use super::*;

fn names() -> Names {
    Names(["app", "app.messages", "app.members", "text_body"].map(str::to_owned).into())
}

#[test]
fn keywords_keep_the_case_that_was_begun() {
    assert_eq!(names().complete("SEL"), (0, vec!["SELECT".to_owned()]));
    assert_eq!(names().complete("x wher"), (2, vec!["where".to_owned()]));
}

#[test]
fn names_complete_with_and_without_their_namespace() {
    assert_eq!(names().complete("SELECT * FROM app.me").1, ["app.members", "app.messages"]);
    assert_eq!(names().complete("SELECT * FROM mes").1, ["messages"]);
    assert_eq!(names().complete("(text_").1, ["text_body"]);
}

#[test]
fn nothing_begun_is_nothing_offered() {
    assert_eq!(names().complete("SELECT "), (7, vec![]));
    assert_eq!(names().complete("SELECT é"), (7, vec![]));
}
