use kalamdb_commons::ids::{NamespaceId, TableName, UserId};

use super::*;

fn queue(upkeep_parallel_max: usize) -> Queue {
    Queue::new(Limits { flush_parallel_max: 2, upkeep_parallel_max, table_parallel_max: 100, waiting_max: 1_000 })
}

fn about(name: &'static str) -> About {
    About { parallel_max: 100, ..About::new(name, "XX") }
}

/// A job of a user in a table; the share is the user.
fn ask(number: usize, about: About, table: Option<&str>, user: Option<&str>) -> Ask {
    Ask {
        id: JobId::new(&format!("XX-{number}")).unwrap(),
        about,
        target: Target {
            namespace: table.map(|_| NamespaceId::new("app").unwrap()),
            table: table.map(|table| TableName::new(table).unwrap()),
            user: user.map(|user| UserId::new(user).unwrap()),
            life: None,
        },
        share: user.unwrap_or("nobody").to_owned(),
    }
}

/// Begins and ends jobs one by one until none waits; the order in which they did.
fn order(queue: &mut Queue, rows_of: impl Fn(&str) -> u64) -> Vec<String> {
    let mut order = Vec::new();
    while let Some(id) = queue.begin() {
        let share = queue.running[&id].share.clone();
        queue.end(&id, rows_of(&share), 0);
        order.push(share);
    }
    order
}

#[test]
fn a_user_with_much_to_do_does_not_keep_others_from_their_turn() {
    let mut queue = queue(1);
    for number in 0..50 {
        queue.push(ask(number, about("c"), Some(&format!("t{number}")), Some("heavy")));
    }
    for (number, user) in ["al", "bo", "cy"].into_iter().enumerate() {
        queue.push(ask(100 + number, about("c"), Some("t"), Some(user)));
    }
    let order = order(&mut queue, |_| 0);
    let last_light = order.iter().rposition(|share| share != "heavy").unwrap();
    assert!(last_light < 5, "{order:?}");
    assert_eq!(order.len(), 53);
}

#[test]
fn what_a_share_is_charged_is_what_its_jobs_handled() {
    let mut queue = queue(1);
    for number in 0..10 {
        queue.push(ask(number, about("c"), Some(&format!("t{number}")), Some("heavy")));
        queue.push(ask(100 + number, about("c"), Some(&format!("u{number}")), Some("light")));
    }
    let order = order(&mut queue, |share| if share == "heavy" { 40_000 } else { 0 });
    let heavy = order.iter().take(12).filter(|share| *share == "heavy").count();
    assert!(heavy <= 3, "a job of the heavy user counts as five: {order:?}");
}

#[test]
fn a_kind_of_more_weight_is_charged_less() {
    let mut queue = queue(1);
    let dear = About { weight: 4, ..about("d") };
    for number in 0..20 {
        queue.push(ask(number, dear, Some(&format!("t{number}")), Some("weighty")));
        queue.push(ask(100 + number, about("c"), Some(&format!("u{number}")), Some("plain")));
    }
    let order = order(&mut queue, |_| 10_000);
    let weighty = order.iter().take(20).filter(|share| *share == "weighty").count();
    assert!((15..=17).contains(&weighty), "four to one: {order:?}");
}

#[test]
fn nobody_saves_up_by_being_idle() {
    let mut queue = queue(1);
    for number in 0..100 {
        queue.push(ask(number, about("c"), Some(&format!("t{number}")), Some("early")));
    }
    for _ in 0..80 {
        let id = queue.begin().unwrap();
        queue.end(&id, 0, 0);
    }
    for number in 200..220 {
        queue.push(ask(number, about("c"), Some(&format!("t{number}")), Some("late")));
    }
    let order = order(&mut queue, |_| 0);
    let late = order.iter().take(20).filter(|share| *share == "late").count();
    assert!((9..=11).contains(&late), "{order:?}");
}

#[test]
fn no_two_of_a_kind_run_on_what_overlaps() {
    let mut queue = queue(10);
    queue.push(ask(1, about("c"), Some("t"), Some("al")));
    queue.push(ask(2, about("c"), Some("t"), Some("bo")));
    queue.push(ask(3, about("c"), Some("t"), None));
    queue.push(ask(4, about("c"), None, Some("al")));
    queue.push(ask(5, about("other"), Some("t"), Some("al")));
    queue.push(ask(6, about("c"), Some("t"), Some("al")));
    let mut begun: Vec<String> = std::iter::from_fn(|| queue.begin()).map(|id| id.to_string()).collect();
    begun.sort();
    assert_eq!(begun, ["XX-1", "XX-2", "XX-5"]);
    queue.end(&JobId::new("XX-1").unwrap(), 0, 0);
    let next = queue.begin().unwrap().to_string();
    assert!(["XX-4", "XX-6"].contains(&next.as_str()), "{next}");
    assert_eq!(queue.begin(), None);
}

#[test]
fn kinds_and_tables_have_limits_of_their_own() {
    let limits = Limits { flush_parallel_max: 1, upkeep_parallel_max: 10, table_parallel_max: 2, waiting_max: 100 };
    let mut queue = Queue::new(limits);
    let narrow = About { parallel_max: 1, ..about("narrow") };
    queue.push(ask(1, narrow, Some("a"), Some("al")));
    queue.push(ask(2, narrow, Some("b"), Some("bo")));
    for (number, name) in [(3, "x"), (4, "y"), (5, "z")] {
        queue.push(ask(number, about(name), Some("t"), None));
    }
    let flush = About { lane: Lane::Flush, ..about("flush") };
    queue.push(ask(6, flush, Some("t"), None));
    queue.push(ask(7, flush, Some("u"), None));
    let mut begun: Vec<String> = std::iter::from_fn(|| queue.begin()).map(|id| id.to_string()).collect();
    begun.sort();
    assert_eq!(begun, ["XX-1", "XX-3", "XX-4", "XX-6"]);
}

#[test]
fn one_share_fills_half_of_the_queue_and_a_lane_none_of_the_other() {
    let limits = Limits { flush_parallel_max: 1, upkeep_parallel_max: 1, table_parallel_max: 1, waiting_max: 4 };
    let mut queue = Queue::new(limits);
    for number in 0..2 {
        assert_eq!(queue.room(Lane::Upkeep, "al"), Ok(()));
        queue.push(ask(number, about("c"), None, Some("al")));
    }
    assert_eq!(queue.room(Lane::Upkeep, "al"), Err(Full::Share(2)));
    for number in 2..4 {
        assert_eq!(queue.room(Lane::Upkeep, "bo"), Ok(()));
        queue.push(ask(number, about("c"), None, Some("bo")));
    }
    assert_eq!(queue.room(Lane::Upkeep, "cy"), Err(Full::Lane(4)));
    assert_eq!(queue.room(Lane::Flush, "al"), Ok(()));
}
