use super::*;

fn variables() -> Variables {
    let mut variables = Variables::default();
    for assignment in ["t=app.messages", "who=o'hara", "n=5"] {
        variables.assign(assignment).expect("valid");
    }
    variables
}

#[test]
fn a_variable_stands_for_its_value_in_three_forms() {
    let sql = "SELECT * FROM :t WHERE a = :'who' AND b > :n AND :\"who\" = 1";
    assert_eq!(
        variables().replaced(sql),
        "SELECT * FROM app.messages WHERE a = 'o''hara' AND b > 5 AND \"o'hara\" = 1"
    );
}

#[test]
fn what_only_looks_like_one_stays() {
    for sql in ["SELECT ':t', \":t\" -- :t\n", "SELECT a::n, b::TEXT", "SELECT :nothing", "SELECT 1: n", "x[1:2]"] {
        assert_eq!(variables().replaced(sql), sql);
    }
}

#[test]
fn a_name_is_a_word() {
    let mut variables = Variables::default();
    for wrong in ["=5", "1a=5", "a b=5", "a-b=5", "novalue"] {
        variables.assign(wrong).expect_err(wrong);
    }
    variables.assign("a_1=x=y").expect("valid");
    assert_eq!(variables.listed(), "a_1 = 'x=y'\n");
    variables.unset("a_1");
    assert_eq!(variables, Variables::default());
}
