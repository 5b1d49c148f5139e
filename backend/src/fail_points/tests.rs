use super::*;

#[test]
fn points_are_read_with_their_actions() {
    let points = parse("a::b=exit; c=exit(3);d=2*return(x)->off;").unwrap();
    let point = |name: &str, action| FailPoint { name: name.to_owned(), action };
    let other = Action::Other("2*return(x)->off".to_owned());
    assert_eq!(points, [point("a::b", Action::Exit(1)), point("c", Action::Exit(3)), point("d", other)]);
    assert_eq!(parse("").unwrap(), []);
}

#[test]
fn what_is_no_action_is_refused_by_name() {
    for bad in ["a", "=exit", "a=explode", "a=exit(x)"] {
        assert!(parse(bad).expect_err(bad).contains(bad));
    }
}
