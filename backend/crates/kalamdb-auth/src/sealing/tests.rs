use kalamdb_commons::ErrorKind;
use kalamdb_commons::clock::SystemEntropy;

use super::*;

const SECRET: &str = "{\"secret_access_key\": \"hunter2\"}";

fn key() -> SealingKey {
    SealingKey::from_text(&"k".repeat(KEY_BYTES_MIN)).unwrap()
}

#[test]
fn what_is_sealed_opens_with_the_same_key_for_the_same_purpose_only() {
    let sealed = key().seal(SECRET, "storage a", &SystemEntropy).unwrap();
    assert_eq!(key().open(&sealed, "storage a").unwrap(), SECRET);
    assert_eq!(key().open(&sealed, "storage b").unwrap_err().kind(), ErrorKind::Corrupt);
    let other = SealingKey::from_text(&"o".repeat(KEY_BYTES_MIN)).unwrap();
    assert_eq!(other.open(&sealed, "storage a").unwrap_err().kind(), ErrorKind::Corrupt);
    let mut bytes = STANDARD.decode(&sealed.text).unwrap();
    bytes[0] ^= 1;
    let changed = Sealed { text: STANDARD.encode(bytes), ..sealed };
    assert_eq!(key().open(&changed, "storage a").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_same_secret_looks_different_each_time_and_is_nowhere_in_it() {
    let (first, second) =
        (key().seal(SECRET, "s", &SystemEntropy).unwrap(), key().seal(SECRET, "s", &SystemEntropy).unwrap());
    assert_ne!(first, second);
    assert!(!String::from_utf8_lossy(&STANDARD.decode(&first.text).unwrap()).contains("hunter2"));
    assert!(!format!("{first:?} {:?}", key()).contains("hunter2"));
}

#[test]
fn a_file_is_made_once_for_its_owner_alone_and_refused_if_others_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.key");
    assert!(SealingKey::read(&path).unwrap().is_none());
    let sealed = SealingKey::make(&path, &SystemEntropy).unwrap().seal(SECRET, "s", &SystemEntropy).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SealingKey::read(&path).unwrap().unwrap().open(&sealed, "s").unwrap(), SECRET);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = SealingKey::read(&path).unwrap_err();
    assert!(error.message().contains("has mode 0640"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"short").unwrap();
    assert_eq!(SealingKey::read(&path).unwrap_err().kind(), ErrorKind::Corrupt);
}
