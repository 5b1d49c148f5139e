//! `/live-demo` in a real browser: two panes, two users, and each sees what it may.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::server::Server;

const LEFT: &str = "#left";
const RIGHT: &str = "#right";

/// Somebody at a browser.
struct Visitor(Browser);

impl Visitor {
    async fn at(server: &Server) -> Self {
        Self(Browser::open(&format!("{}/live-demo", server.url)).await)
    }

    /// Fills in a form of a pane and sends it.
    async fn submit(&mut self, pane: &str, form: &str, fields: &[(&str, &str)]) {
        let fields: Value = fields.iter().map(|(name, value)| json!([name, value])).collect();
        let script = format!(
            "{{ const form = document.querySelector('{pane} {form}'); \
             for (const [name, value] of {fields}) form.elements[name].value = value; form.requestSubmit(); }}"
        );
        self.0.value(&script).await;
    }

    async fn sign_in(&mut self, pane: &str, user: &str) {
        self.submit(pane, ".sign-in", &[("user", user), ("password", "a password")]).await;
        self.status(pane, &format!("signed in as {user}")).await;
    }

    async fn watch(&mut self, pane: &str, sql: &str) {
        self.submit(pane, ".watch", &[("sql", sql)]).await;
        self.status(pane, "watching").await;
    }

    async fn write(&mut self, pane: &str, sql: &str) {
        self.submit(pane, ".write", &[("sql", sql)]).await;
    }

    async fn status(&mut self, pane: &str, words: &str) {
        self.0
            .until(&format!("document.querySelector('{pane} .status').textContent.startsWith({})", json!(words)))
            .await;
    }

    /// Waits until the last column of a pane's rows is this.
    async fn shows(&mut self, pane: &str, bodies: &[&str]) {
        self.0.until(&format!("JSON.stringify({}) === JSON.stringify({})", shown(pane), json!(bodies))).await;
    }
}

fn shown(pane: &str) -> String {
    format!("[...document.querySelectorAll('{pane} tbody tr')].map((row) => row.lastChild.textContent)")
}

async fn with_demo() -> Server {
    let server = Server::with(&[("LIVE__DEMO_PAGE", "true")]).await;
    server.sql("CREATE NAMESPACE demo; CREATE USER TABLE demo.notes (body TEXT)").await;
    server.sql("CREATE SHARED TABLE demo.board (body TEXT) WITH (ACCESS_LEVEL='public')").await;
    for user in ["ann", "bob"] {
        server.user(user).await;
    }
    server
}

#[tokio::test]
async fn what_one_pane_writes_appears_in_those_that_may_see_it_and_in_no_other() {
    let server = with_demo().await;
    let mut visitor = Visitor::at(&server).await;
    for (pane, user) in [(LEFT, "ann"), (RIGHT, "bob")] {
        visitor.sign_in(pane, user).await;
        visitor.watch(pane, "SELECT _id, body FROM demo.notes").await;
    }
    visitor.write(LEFT, "INSERT INTO demo.notes (body) VALUES ('ann''s')").await;
    visitor.shows(LEFT, &["ann's"]).await;
    visitor.write(RIGHT, "INSERT INTO demo.notes (body) VALUES ('bob''s')").await;
    visitor.shows(RIGHT, &["bob's"]).await;
    visitor.write(LEFT, "UPDATE demo.notes SET body = 'still ann''s'").await;
    visitor.shows(LEFT, &["still ann's"]).await;
    visitor.write(LEFT, "DELETE FROM demo.notes").await;
    visitor.shows(LEFT, &[]).await;
    visitor.shows(RIGHT, &["bob's"]).await;
    for pane in [LEFT, RIGHT] {
        visitor.watch(pane, "SELECT _id, body FROM demo.board").await;
    }
    server.sql("INSERT INTO demo.board (body) VALUES ('for all')").await;
    for pane in [LEFT, RIGHT] {
        visitor.shows(pane, &["for all"]).await;
    }
    assert_eq!(visitor.0.reports, Vec::<Value>::new(), "the page did nothing that its policy forbids");
}

#[tokio::test]
async fn what_a_row_says_is_shown_and_never_carried_out() {
    let server = with_demo().await;
    let mut visitor = Visitor::at(&server).await;
    visitor.sign_in(LEFT, "ann").await;
    visitor.watch(LEFT, "SELECT _id, body FROM demo.board").await;
    let markup = "<img src=x onerror=\"window.harmed = true\"><script>window.harmed = true</script>";
    server.sql(&format!("INSERT INTO demo.board (body) VALUES ('{markup}')")).await;
    visitor.shows(LEFT, &[markup]).await;
    let found = visitor
        .0
        .value("[window.harmed === undefined, document.querySelectorAll('#left img, #left td script').length]");
    assert_eq!(found.await, json!([true, 0]));
    // The policy would stop it too: the page cannot even be made to load a script.
    let load = "(() => { const s = document.createElement('script'); \
                try { s.src = 'data:text/javascript,window.harmed=1'; document.body.append(s); return 'loaded'; } \
                catch { return 'forbidden'; } })()";
    assert_eq!(visitor.0.value(load).await, "forbidden");
    assert_eq!(visitor.0.value("window.harmed === undefined").await, true);
}

#[tokio::test]
async fn a_pane_goes_on_where_it_was_when_the_server_comes_back() {
    let server = with_demo().await;
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    let mut visitor = Visitor::at(&server).await;
    visitor.sign_in(LEFT, "ann").await;
    visitor.watch(LEFT, "SELECT _id, body FROM demo.board").await;
    server.sql("INSERT INTO demo.board (body) VALUES ('before')").await;
    visitor.shows(LEFT, &["before"]).await;
    let home = server.stop();
    visitor.status(LEFT, "disconnected").await;
    let server = home.with(&[("SERVER__PORT", &port)]).start().await;
    server.sql("DELETE FROM demo.board WHERE body = 'before'").await;
    server.sql("INSERT INTO demo.board (body) VALUES ('after')").await;
    visitor.shows(LEFT, &["after"]).await;
}

#[tokio::test]
async fn the_page_is_off_unless_the_settings_say_so_and_allows_nothing_from_elsewhere() {
    let off = Server::start().await;
    for path in ["/live-demo", "/live-demo/panes.js"] {
        assert_eq!(off.get(path).await.status, 404);
    }
    let on = Server::with(&[("LIVE__DEMO_PAGE", "true")]).await;
    for path in ["/live-demo", "/live-demo/panes.js", "/live-demo/style.css"] {
        let answer = on.request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}
