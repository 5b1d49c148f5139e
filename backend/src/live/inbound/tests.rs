use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const SUBSCRIBE: &str = r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT 1","options":{"from":"17"}}}"#;

fn subscribed(from: Option<i64>) -> Message {
    let options = Options { from, ..Options::default() };
    Message::Subscribe { subscription: Subscribe { id: "s".into(), sql: "SELECT 1".into(), options: Some(options) } }
}

#[test]
fn a_cursor_is_a_number_or_text_under_either_name() {
    let with = |options: &str| {
        json(
            format!(r#"{{"type":"subscribe","subscription":{{"id":"s","sql":"SELECT 1","options":{options}}}}}"#)
                .as_bytes(),
        )
    };
    for options in [r#"{"from":17}"#, r#"{"from":"17"}"#, r#"{"from_seq_id":17}"#, r#"{"from_seq_id":"17","x":1}"#] {
        assert_eq!(with(options), Ok(subscribed(Some(17))), "{options}");
    }
    assert_eq!(with("{}"), Ok(subscribed(None)));
    assert!(matches!(with("null"), Ok(Message::Subscribe { subscription: Subscribe { options: None, .. } })));
    assert!(with(r#"{"from":"soon"}"#).is_err());
}

#[test]
fn messages_are_the_same_in_every_form() {
    let value: Value = serde_json::from_str(SUBSCRIBE).unwrap();
    assert_eq!(json(SUBSCRIBE.as_bytes()), Ok(subscribed(Some(17))));
    assert_eq!(message_pack(&rmp_serde::to_vec_named(&value).unwrap()), Ok(subscribed(Some(17))));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(SUBSCRIBE.as_bytes()).unwrap();
    assert_eq!(gzip(&encoder.finish().unwrap(), 1_000), Ok(subscribed(Some(17))));
}

#[test]
fn what_unfolds_to_too_much_is_refused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 1_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 10_000);
    assert!(gzip(&bomb, 10_000).unwrap_err().reason.contains("more than 10000 bytes"));
}

#[test]
fn what_is_not_understood_still_says_which_subscription_it_is_about() {
    for (message, subscription) in [
        (r#"{"type":"subscribe","subscription":{"id":"s","sql":7}}"#, "s"),
        (r#"{"type":"subscribe","subscription":{"id":"s","sql":"x","options":{"batch_size":-1}}}"#, "s"),
        (r#"{"type":"next_batch","subscription_id":"s","last_seq_id":"x"}"#, "s"),
        (r#"{"type":"subscribe","subscription":{"id":7,"sql":"x"}}"#, ""),
        (r#"{"type":"subscribe"}"#, ""),
    ] {
        let value: Value = serde_json::from_str(message).unwrap();
        assert_eq!(json(message.as_bytes()).unwrap_err().subscription, subscription, "{message}");
        let packed = rmp_serde::to_vec_named(&value).unwrap();
        assert_eq!(message_pack(&packed).unwrap_err().subscription, subscription, "{message}");
    }
}

#[test]
fn rubbish_is_refused_and_never_panics() {
    for bytes in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", br#"{"type":"shout"}"#, br#"{"type":"subscribe"}"#] {
        assert!(json(bytes).is_err());
        assert!(message_pack(bytes).is_err());
        assert!(gzip(bytes, 100).is_err());
    }
}

#[test]
fn an_allowance_is_used_up() {
    let mut allowance = Allowance::new(10);
    let taken = (0..1_000).filter(|_| allowance.take()).count();
    assert!((50..100).contains(&taken), "{taken}");
}
