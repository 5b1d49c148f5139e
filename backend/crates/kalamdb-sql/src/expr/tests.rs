use super::*;

fn read(text: &str) -> Expr {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn equalities(text: &str) -> Option<Vec<(String, String)>> {
    let expr = read(text);
    as_key_equality(&expr).map(|found| found.into_iter().map(|(name, value)| (name, value.to_string())).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn conjunctions_of_column_and_constant_are_key_equalities() {
    assert_eq!(equalities("id = 1"), pairs(&[("id", "1")]));
    assert_eq!(equalities("'x' = Name"), pairs(&[("name", "'x'")]));
    assert_eq!(equalities("\"Name\" = $2"), pairs(&[("Name", "$2")]));
    assert_eq!(equalities("(a = -1 AND (b = TRUE)) AND NULL = c"), pairs(&[("a", "-1"), ("b", "true"), ("c", "NULL")]));
    assert_eq!(equalities("(a) = ((1))"), pairs(&[("a", "((1))")]));
}

#[test]
fn every_other_filter_is_no_key_equality() {
    for text in [
        "a = 1 OR b = 2",
        "a > 1",
        "a = b",
        "1 = 1",
        "a = 1 AND b > 2",
        "NOT a = 1",
        "a = 1 + 1",
        "t.a = 1",
        "a IN (1)",
        "a = f(1)",
        "a = 1 AND a = 2",
        "a IS NULL",
        "a = (SELECT 1)",
        "a",
        "a = CAST('1' AS INT)",
        "a <> 1",
        "-a = 1",
        "a = DEFAULT",
        "TRUE",
    ] {
        assert_eq!(equalities(text), None, "{text}");
    }
}

#[test]
fn constants_are_literals_and_parameters() {
    for text in
        ["1", "-1", "+1", "'x'", "NULL", "TRUE", "$1", "-$1", "((1))", "1.5e3", "E'x'", "X'00'", "DATE '2020-01-01'"]
    {
        assert!(is_constant(&read(text)), "{text}");
    }
    for text in ["a", "1 + 1", "f()", "-'x'", "NOT TRUE", "-DATE '2020-01-01'", "- -1", "now()"] {
        assert!(!is_constant(&read(text)), "{text}");
    }
}

#[test]
fn names_are_folded_unless_quoted() {
    assert_eq!(as_column(&read("Id")), Some("id".to_owned()));
    assert_eq!(as_column(&read("\"Id\"")), Some("Id".to_owned()));
    assert_eq!(as_column(&read("ÄÖ")), Some("ÄÖ".to_owned()), "as DataFusion folds");
    assert_eq!(as_column(&read("\"default\"")), Some("default".to_owned()));
    assert_eq!(as_column(&read("t.id")), None);
}

#[test]
fn what_is_selected_has_the_name_of_its_column_or_its_text() {
    for (text, column, name) in [
        ("Id", Some("id"), "id"),
        ("t.Id", Some("id"), "id"),
        ("app.t.\"Id\"", Some("Id"), "Id"),
        ("(t.id)", Some("id"), "(t.id)"),
        ("t.id + 1", None, "t.id + 1"),
    ] {
        assert_eq!(as_any_column(&read(text)).as_deref(), column, "{text}");
        assert_eq!(output_name(&read(text)), name, "{text}");
    }
}

#[test]
fn a_quoted_name_means_itself() {
    for name in ["a", "A", "a b", "a\"b", "\"", "select", "ä"] {
        assert_eq!(as_column(&read(&quote(name))), Some(name.to_owned()));
    }
}

#[test]
fn parameters_are_found_anywhere() {
    assert_eq!(as_parameter(&read("($7)")), Some(7));
    assert_eq!(as_parameter(&read("7")), None);
    assert!(has_parameter(&read("a + f((SELECT $1))")));
    assert!(!has_parameter(&read("a + f('$1')")));
}

#[test]
fn one_expression_is_read_and_nothing_more() {
    assert_eq!(read("a > 0 -- all").to_string(), "a > 0");
    for text in ["", "1; 2", "1 2", "1,", "SELECT 1", "a = "] {
        assert!(parse(text).is_err(), "{text}");
    }
}
