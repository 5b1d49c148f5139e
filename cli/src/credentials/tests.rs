use super::*;

const URL: &str = "http://127.0.0.1:8080";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_password_is_remembered_for_its_owner_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("credentials");
    let mut credentials = Credentials::open(&path).expect("none yet");
    assert_eq!(credentials.find(URL, "al"), None);
    credentials.remember(URL, "al", "old").expect("stored");
    credentials.remember(&format!("{URL}/"), "al", "new").expect("stored");
    assert_eq!(mode(&path), 0o600);
    let mut again = Credentials::open(&path).expect("sound");
    assert_eq!((again.find(URL, "al"), again.find(URL, "bo")), (Some("new"), None));
    assert!(again.forget(URL, "al").expect("stored") && !again.forget(URL, "al").expect("stored"));
    assert_eq!(Credentials::open(&path).expect("sound").find(URL, "al"), None);
}

#[test]
fn a_file_that_others_can_use_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("credentials");
    Credentials::open(&path).expect("none yet").remember(URL, "al", "secret").expect("stored");
    for loose in [0o640, 0o604, 0o660, 0o622] {
        fs::set_permissions(&path, fs::Permissions::from_mode(loose)).expect("it is ours");
        let refusal = Credentials::open(&path).expect_err("others can use it").to_string();
        assert!(refusal.contains("chmod 600") && refusal.contains(&format!("{loose:03o}")), "{refusal}");
        assert!(!refusal.contains("secret"));
    }
}
