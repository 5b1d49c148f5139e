//! TLS, and what listening beyond loopback takes.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::server::{Home, ROOT_PASSWORD};

/// A certificate for `localhost` and its key, in files.
pub(crate) struct Certificate {
    _directory: tempfile::TempDir,
    pub(crate) pem: String,
    cert_file: PathBuf,
    key_file: PathBuf,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let pem = made.cert.pem();
        std::fs::write(&cert_file, &pem).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        Self { _directory: directory, pem, cert_file, key_file }
    }

    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [
            ("SERVER__TLS_CERT_FILE", self.cert_file.to_str().unwrap()),
            ("SERVER__TLS_KEY_FILE", self.key_file.to_str().unwrap()),
        ]
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls_and_nothing_else() {
    let certificate = Certificate::new();
    let server = Home::new(&certificate.settings()).start_anonymous();
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let trusted = reqwest::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder().no_proxy().add_root_certificate(trusted).build().unwrap();
    let login = json!({"user": "root", "password": ROOT_PASSWORD});
    let reply = http.post(format!("{}/v1/api/auth/login", server.url)).json(&login).send().await.unwrap();
    let token = reply.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned();
    let sql = http.post(format!("{}/v1/api/sql", server.url)).bearer_auth(token).json(&json!({"sql": "SELECT 1"}));
    assert_eq!(sql.send().await.unwrap().status(), 200);
    let plain = server.url.replace("https://", "http://");
    assert!(http.get(format!("{plain}/health")).send().await.is_err());
    let stranger = server.http.get(format!("{}/health", server.url)).send().await;
    assert!(stranger.is_err(), "whoever does not know the certificate does not trust it");
}

#[test]
fn beyond_loopback_it_takes_tls_or_a_word() {
    let certificate = Certificate::new();
    let check = |settings: &[(&str, &str)]| {
        let output = Home::new(&[&[("SERVER__HOST", "0.0.0.0")], settings].concat()).run(&["--check-config"]);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (sound, words) = check(&[]);
    assert!(!sound && words.contains("tls_cert_file") && words.contains("allow_plaintext_remote"), "{words}");
    assert!(check(&certificate.settings()).0);
    assert!(check(&[("SERVER__ALLOW_PLAINTEXT_REMOTE", "true")]).0);
    let (sound, words) = check(&certificate.settings()[..1]);
    assert!(!sound && words.contains("tls_key_file"), "{words}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_before_anything_is_made() {
    let certificate = Certificate::new();
    let [cert, (key, key_file)] = certificate.settings();
    for (settings, named) in [
        ([("SERVER__TLS_CERT_FILE", "nowhere.pem"), (key, key_file)], "nowhere.pem"),
        ([("SERVER__TLS_CERT_FILE", key_file), (key, key_file)], "no certificate"),
        ([cert, (key, cert.1)], "tls_key_file"),
    ] {
        let home = Home::new(&settings);
        let words = home.refused().words;
        assert!(words.contains(named), "{words}");
        assert!(!home.data().exists());
    }
}
