//! A headless Chromium, driven through its DevTools protocol. `scripts/setup.sh tests` installs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page open. Dropping it ends it.
pub(crate) struct Browser {
    child: Child,
    _profile: TempDir,
    devtools: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    asked: u64,
    /// What the page reported by itself: its console, exceptions, and what its policy forbade.
    pub(crate) reports: Vec<Value>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Browser {
    /// Opens a page, and waits until it has loaded.
    pub(crate) async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium is not installed: scripts/setup.sh tests");
        let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens =
            |line: std::io::Result<String>| line.unwrap().strip_prefix("DevTools listening on ").map(ToOwned::to_owned);
        let endpoint = words.find_map(listens).expect("chromium ended");
        // Read on, or it would stop at a full pipe.
        std::thread::spawn(move || words.for_each(drop));
        let (devtools, _) = connect_async(endpoint).await.unwrap();
        let mut browser =
            Self { child, _profile: profile, devtools, session: String::new(), asked: 0, reports: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.ask(domain, json!({})).await;
        }
        browser.ask("Page.navigate", json!({"url": url})).await;
        browser.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
        browser
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.devtools.send(Message::text(message.to_string())).await.unwrap();
        loop {
            let next = tokio::time::timeout(PATIENCE, self.devtools.next()).await;
            let Message::Text(text) = next.expect("chromium says nothing").unwrap().unwrap() else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == self.asked {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            let told = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
            if told.iter().any(|kind| message["method"] == *kind) {
                self.reports.push(message["params"].take());
            }
        }
    }

    /// The value of an expression in the page; a promise is waited for.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.ask("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until a condition holds in the page.
    pub(crate) async fn until(&mut self, condition: &str) {
        let limit = PATIENCE.as_millis();
        let waiting = format!(
            "new Promise((done) => {{ const since = performance.now(); const look = () => ({condition}) ? done(true) \
             : performance.now() - since > {limit} ? done(false) : setTimeout(look, 10); look(); }})"
        );
        let holds = self.value(&waiting).await;
        if holds != true {
            let page = self.value("document.body.innerText").await;
            panic!("{condition} never held; the page says {page}, and reported {:?}", self.reports);
        }
    }
}
