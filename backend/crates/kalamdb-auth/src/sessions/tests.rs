use kalamdb_commons::clock::SystemEntropy;

use super::*;

fn session() -> Session {
    Session::begun(SessionId::draw(&SystemEntropy), 1_000_000)
}

fn next(session: Session, turn: u64, now_ms: i64) -> Session {
    match session.turn(turn, now_ms, 2_000_000) {
        Turn::Next(next) => next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_refresh_token_gives_the_next() {
    let after = next(next(session(), 0, 10), 1, 20);
    assert_eq!((after.turn, after.turned_at_ms, after.expires_at_ms), (2, 20, 2_000_000));
}

#[test]
fn the_last_token_is_good_for_a_moment_longer_and_gives_the_same_turn() {
    let after = next(session(), 0, 10);
    assert_eq!(after.clone().turn(0, 10 + REPEAT_MS - 1, 2_000_000), Turn::Again(1));
    assert!(matches!(after.turn(0, 10 + REPEAT_MS, 2_000_000), Turn::Reused(ended) if ended.ended));
}

#[test]
fn an_older_token_and_one_that_was_never_given_end_the_session() {
    let after = next(next(session(), 0, 10), 1, 11);
    for turn in [0, 3, u64::MAX] {
        let Turn::Reused(ended) = after.clone().turn(turn, 12, 2_000_000) else { panic!("turn {turn}") };
        assert_eq!(ended.turn(2, 12, 2_000_000), Turn::Ended, "the newest token is no longer good either");
    }
}

#[test]
fn a_clock_that_steps_back_makes_no_repeat_good_for_long() {
    let after = next(session(), 0, 1_000_000);
    assert!(matches!(after.turn(0, 10, 2_000_000), Turn::Reused(_)));
}

#[test]
fn names_are_not_guessed() {
    assert_ne!(SessionId::draw(&SystemEntropy), SessionId::draw(&SystemEntropy));
}
