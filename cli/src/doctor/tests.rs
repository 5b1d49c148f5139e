use super::*;

#[test]
fn the_worst_finding_decides() {
    let mut out = Vec::new();
    let mut findings = Findings { out: &mut out, worst: State::Ok };
    findings.say(State::Warning, "a", "x").expect("written");
    findings.say(State::Ok, "b", "y\u{1b}[2J").expect("written");
    assert_eq!(findings.worst, State::Warning);
    assert_eq!(String::from_utf8(out).expect("text"), "warning  a: x\nok       b: y\\u{1b}[2J\n");
}

#[test]
fn more_is_worse() {
    assert_eq!([0.0, 2.0, 4.0].map(|value| grade(value, 1.0, 3.0)), [State::Ok, State::Warning, State::Failed]);
}
