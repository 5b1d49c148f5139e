use super::*;
use crate::source;

fn at<T>(text: &str, read: impl FnOnce(&mut Cursor<'_>) -> T) -> T {
    let source = Source::new(text);
    let tokens = source::statements(text).expect("tokens").remove(0);
    let dialect = KalamDialect::new(tokens.len());
    read(&mut Cursor::new(&source, &dialect, tokens))
}

#[test]
fn words_are_taken_only_together() {
    at("If Not There", |cursor| {
        assert!(!cursor.if_not_exists());
        assert_eq!(cursor.position(), 0);
        assert!(cursor.accept_all(&["IF", "NOT"]));
        assert!(cursor.sees("THERE") && !cursor.at_end());
        cursor.skip();
        assert!(cursor.at_end());
        cursor.skip();
        assert_eq!(cursor.position(), 3, "the end is not read");
    });
}

#[test]
fn a_position_can_be_gone_back_to() {
    at("a b c", |cursor| {
        let start = cursor.position();
        assert_eq!(cursor.identifier("a name").expect("a name"), "a");
        let second = cursor.position();
        cursor.skip();
        cursor.skip();
        cursor.rewind(second);
        assert_eq!(cursor.identifier("a name").expect("a name"), "b");
        cursor.rewind(start);
        assert_eq!(cursor.identifier("a name").expect("a name"), "a");
    });
}

#[test]
fn quoted_words_are_never_keywords() {
    at("\"IF\" EXISTS", |cursor| assert!(!cursor.if_exists()));
    at("\"select\"", |cursor| assert_eq!(cursor.identifier("a name").expect("a name"), "select"));
}

#[test]
fn reserved_words_need_quotes_as_names() {
    for word in RESERVED {
        let error = at(&word.to_lowercase(), |cursor| cursor.identifier("a column name").expect_err("reserved"));
        assert!(error.message().contains("reserved word"), "{error}");
    }
}

#[test]
fn text_is_what_was_written_between_two_tokens() {
    at("a  /* b */ 'c;' -- d\n e", |cursor| {
        cursor.skip();
        let before = cursor.position();
        cursor.skip();
        cursor.skip();
        assert_eq!(cursor.text_since(before), "'c;' -- d\n e");
        assert_eq!(cursor.text(), "a  /* b */ 'c;' -- d\n e");
    });
}

#[test]
fn the_parsers_messages_are_in_our_words() {
    assert_eq!(reworded("Expected: ), found: EOF"), "expected ), found the end of the statement");
    assert_eq!(
        reworded("Expected: an expression, found: FROM at Line: 1, Column: 8"),
        "expected an expression, found FROM at line 1, column 8"
    );
}
