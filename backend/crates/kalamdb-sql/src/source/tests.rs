use super::*;

fn words(sql: &str) -> Vec<Vec<String>> {
    let statements = statements(sql).expect("tokens");
    statements.iter().map(|tokens| tokens[1..].iter().map(|token| token.token.to_string()).collect()).collect()
}

#[test]
fn semicolons_end_statements_but_not_within_strings_names_and_comments() {
    assert_eq!(
        words("a ';' \";\" /* ; */ -- ;\n b; $$;$$ E';\\';' c"),
        [vec!["a", "';'", "\";\"", "b"], vec!["';'", "';';'", "c"]]
    );
}

#[test]
fn every_literal_has_one_form() {
    assert_eq!(
        words("E'a\\tb' U&'\\0061' N'c' $$d'e$$ $x$f$x$ 1_000.5")[0],
        ["'a\tb'", "'a'", "'c'", "'d'e'", "'f'", "1000.5"]
    );
}

#[test]
fn statements_without_tokens_are_left_out() {
    assert_eq!(words(";;a;-- c\n;b;").len(), 2);
}

#[test]
fn text_is_found_again_by_location_in_any_script() {
    let text = "SELECT 'ä', \"日本\"\r\n  , 'x🙂y' AS z\n\n;SELECT\té";
    let source = Source::new(text);
    let tokens = Tokenizer::new(&KalamDialect::new(0), text).tokenize_with_location().expect("tokens");
    let mut at = 0;
    for token in &tokens {
        let found = source.between(token.span.start, token.span.end);
        assert_eq!(found, &text[at..at + found.len()], "{token:?}");
        at += found.len();
    }
    assert_eq!(at, text.len());
    let first = tokens.first().map(|token| token.span.start).expect("a token");
    let last = tokens.last().map(|token| token.span.end).expect("a token");
    assert_eq!(source.between(first, last), text);
}

#[test]
fn a_location_of_another_text_is_empty_and_no_panic() {
    let source = Source::new("é");
    let location = |line, column| Location { line, column };
    assert_eq!(source.between(location(0, 0), location(0, 0)), "");
    assert_eq!(source.between(location(5, 1), location(9, 9)), "");
    assert_eq!(source.between(location(1, 9), location(1, 2)), "");
}

#[test]
fn parameters_are_numbered_from_one() {
    assert_eq!(parameter("$1").expect("a parameter"), 1);
    assert_eq!(parameter("$50").expect("a parameter"), 50);
    for name in ["$0", "$", "$-1", "$x", "$1x", "1", "?", ":1", "$99999999999999999999"] {
        assert!(parameter(name).is_err(), "{name}");
    }
}
