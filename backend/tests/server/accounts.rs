//! Logging in and out, sessions, the first start, and what guessing gets (spec section 6, wire-protocol.md section 1).

use futures::future::join_all;
use serde_json::{Value, json};

use crate::server::{Client, Home, ROOT_PASSWORD, Reply, Server};

const LOGIN: &str = "/v1/api/auth/login";
const REFRESH: &str = "/v1/api/auth/refresh";
const LOGOUT: &str = "/v1/api/auth/logout";
const SETUP: &str = "/v1/api/auth/setup";
const STATUS: &str = "/v1/api/auth/status";

/// Both tokens of a login.
struct Tokens {
    access: Client,
    refresh: Client,
}

impl Tokens {
    fn of(client: &Client, reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply:?}");
        let token = |name: &str| client.with_token(reply.body[name].as_str());
        Self { access: token("access_token"), refresh: token("refresh_token") }
    }

    async fn login(client: &Client, user: &str, password: &str) -> Self {
        Self::of(client, &client.post(LOGIN, &json!({"user": user, "password": password})).await)
    }

    async fn next(&self) -> Self {
        Self::of(&self.refresh, &self.refresh.post(REFRESH, &json!({})).await)
    }

    async fn assert_ended(&self) {
        self.access.refused("SELECT 1", 401, "TOKEN_EXPIRED").await;
        assert_eq!(self.refresh.post(REFRESH, &json!({})).await.status, 401);
    }

    async fn assert_good(&self) {
        self.access.sql("SELECT 1").await;
    }
}

fn unset(settings: &[(&str, &str)]) -> Home {
    Home::new(&[&[("ROOT_PASSWORD", "")], settings].concat())
}

fn printed_password(server: &Server) -> String {
    let line = server.said.iter().find(|line| line.contains("password")).expect("the password is printed");
    line.split("password ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

fn told(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.body["error"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_new_server_is_set_up_once_from_its_own_machine() {
    let server = unset(&[]).start_anonymous();
    assert_eq!(server.get(STATUS).await.body["needs_setup"], json!(true));
    let guess = server.post(LOGIN, &json!({"user": "ann", "password": "whatever it is"})).await;
    assert_eq!(told(&guess), (428, "setup_required"));

    let setup = json!({"user": "ann", "password": "long enough", "root_password": "also long enough",
                       "email": "ann@example.org"});
    let remote = server.request(reqwest::Method::POST, SETUP).header("X-Forwarded-For", "127.0.0.1").json(&setup);
    assert_eq!(told(&Reply::of(remote).await.unwrap()), (403, "permission_denied"));
    for weak in ["short", "password1", "ann"] {
        let mut setup = setup.clone();
        setup["password"] = json!(weak);
        let reply = server.post(SETUP, &setup).await;
        assert_eq!(told(&reply), (400, "weak_password"), "{weak}");
        assert!(!reply.body.to_string().contains(weak) || weak == "ann", "{reply:?}");
    }
    let reply = server.post(SETUP, &setup).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let user = &reply.body["user"];
    assert_eq!((&user["id"], &user["role"], &user["email"]), (&json!("ann"), &json!("dba"), &json!("ann@example.org")));
    assert!(reply.body["message"].is_string());

    assert_eq!(told(&server.post(SETUP, &setup).await), (409, "already_configured"));
    assert_eq!(server.get(STATUS).await.body["needs_setup"], json!(false));
    let printed = json!({"user": "root", "password": printed_password(&server)});
    assert_eq!(told(&server.post(LOGIN, &printed).await), (401, "unauthorized"), "the printed password is replaced");
    Tokens::login(&server, "ann", "long enough").await.assert_good().await;
    Tokens::login(&server, "root", "also long enough").await.assert_good().await;
}

#[tokio::test]
async fn whoever_logs_in_with_the_printed_password_has_the_server() {
    let home = unset(&[]);
    let server = home.start_anonymous();
    Tokens::login(&server, "root", &printed_password(&server)).await.assert_good().await;
    assert_eq!(server.get(STATUS).await.body["needs_setup"], json!(false));
    server.stop();
    let server = home.start_anonymous();
    assert!(server.said.iter().all(|line| !line.contains("password")), "shown once: {:?}", server.said);
    let setup = json!({"user": "mallory", "password": "long enough", "root_password": "also long enough"});
    assert_eq!(told(&server.post(SETUP, &setup).await), (409, "already_configured"));
}

#[tokio::test]
async fn a_given_root_password_leaves_nothing_to_set_up() {
    let server = Server::start().await;
    let status = server.get(STATUS).await;
    assert_eq!((status.status, &status.body["needs_setup"]), (200, &json!(false)));
    assert!(status.body["message"].is_string());
}

#[tokio::test]
async fn logging_out_ends_one_session_for_good() {
    let server = Server::start().await;
    server.user("al").await;
    let (first, second) =
        (Tokens::login(&server, "al", "a password").await, Tokens::login(&server, "al", "a password").await);
    let reply = first.access.post(LOGOUT, &json!({})).await;
    assert!(reply.status == 200 && reply.body["message"].is_string(), "{reply:?}");
    first.assert_ended().await;
    assert_eq!(told(&first.access.post(LOGOUT, &json!({})).await), (401, "unauthorized"));
    second.assert_good().await;

    let home = server.stop();
    let server = home.start().await;
    Tokens { access: first.access.at(&server.url), refresh: first.refresh.at(&server.url) }.assert_ended().await;
    let second = Tokens { access: second.access.at(&server.url), refresh: second.refresh.at(&server.url) };
    second.assert_good().await;
    assert_eq!(second.refresh.post(LOGOUT, &json!({})).await.status, 200, "the refresh token logs out as well");
    second.assert_ended().await;
}

#[tokio::test]
async fn a_refresh_token_is_used_up_and_one_that_was_stolen_ends_the_session() {
    let server = Server::start().await;
    let first = Tokens::login(&server, "root", ROOT_PASSWORD).await;
    let (second, lost_answer) = (first.next().await, first.next().await);
    lost_answer.assert_good().await;
    let home = server.stop();
    let server = home.start().await;
    let at =
        |tokens: &Tokens| Tokens { access: tokens.access.at(&server.url), refresh: tokens.refresh.at(&server.url) };
    let third = at(&second).next().await;
    third.assert_good().await;
    assert_eq!(told(&at(&first).refresh.post(REFRESH, &json!({})).await), (401, "unauthorized"));
    third.assert_ended().await;
}

#[tokio::test]
async fn a_new_password_or_role_and_the_end_of_the_account_end_all_tokens() {
    let server = Server::start().await;
    server.user("al").await;
    for change in
        ["ALTER USER 'al' SET PASSWORD 'a password'", "ALTER USER 'al' SET ROLE service", "ALTER USER al SET ROLE user"]
    {
        let tokens = Tokens::login(&server, "al", "a password").await;
        server.sql("ALTER USER al SET EMAIL 'al@example.org'").await;
        tokens.assert_good().await;
        server.sql(change).await;
        tokens.assert_ended().await;
    }
    let tokens = Tokens::login(&server, "al", "a password").await;
    server.sql("DROP USER 'al'").await;
    tokens.access.refused("SELECT 1", 401, "INVALID_CREDENTIALS").await;
    assert_eq!(tokens.refresh.post(REFRESH, &json!({})).await.status, 401);
}

#[tokio::test]
async fn a_dropped_user_is_answered_like_one_who_never_was() {
    let server = Server::start().await;
    server.user("al").await;
    server.sql("DROP USER al").await;
    let mut replies = Vec::new();
    for user in ["al", "nobody", "root"] {
        replies.push(server.post(LOGIN, &json!({"user": user, "password": "a wrong one"})).await);
    }
    assert!(replies.iter().all(|reply| reply.status == 401 && reply.body == replies[0].body), "{replies:?}");
    let deleted = server.rows("SELECT user_id FROM system.users WHERE deleted_at IS NOT NULL").await;
    assert_eq!(deleted, json!([["al"]]));
}

#[tokio::test]
async fn guesses_sent_at_once_are_no_more_than_the_limit() {
    let server = Server::with(&[("AUTH__LOGIN_FAILURES_PER_MINUTE_MAX", "5")]).await;
    server.user("al").await;
    let guess = json!({"user": "al", "password": "a wrong guess"});
    let replies = join_all((0..40).map(|_| server.post(LOGIN, &guess))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 401).count(), 5);
    let refused: Vec<&Reply> = replies.iter().filter(|reply| told(reply) == (429, "rate_limited")).collect();
    assert_eq!(refused.len(), 35);
    let wait: u32 = refused[0].headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    Tokens::login(&server, "root", ROOT_PASSWORD).await.assert_good().await;
}

#[tokio::test]
async fn right_passwords_sent_at_once_are_no_guesses() {
    let server = Server::with(&[("AUTH__LOGIN_FAILURES_PER_MINUTE_MAX", "5")]).await;
    server.user("al").await;
    let login = json!({"user": "al", "password": "a password"});
    let replies = join_all((0..40).map(|_| server.post(LOGIN, &login))).await;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200; 40]);
}

#[tokio::test]
async fn one_address_cannot_try_a_password_on_everybody() {
    let server = Server::with(&[("AUTH__ADDRESS_FAILURES_PER_MINUTE_MAX", "3")]).await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        let guess = json!({"user": format!("user{n}"), "password": "Summer of 69"});
        statuses.push(server.post(LOGIN, &guess).await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn weak_passwords_are_refused_and_never_repeated() {
    let server = Server::start().await;
    server.user("alexandra").await;
    for (sql, password) in [
        ("CREATE USER 'eve' WITH PASSWORD 'sh0rt!!'", "sh0rt!!"),
        ("CREATE USER 'evelinde' WITH PASSWORD 'Evelinde'", "Evelinde'"),
        ("CREATE USER 'eve' WITH PASSWORD 'Password1'", "Password1"),
        ("ALTER USER 'alexandra' SET PASSWORD '12345678'", "12345678"),
    ] {
        let message = server.refused(sql, 400, "INVALID_INPUT").await;
        assert!(message.contains("password") && !message.contains(password), "{message}");
    }
}

#[tokio::test]
async fn if_exists_and_if_not_exists_are_taken_for_users() {
    let server = Server::start().await;
    server.sql("CREATE USER IF NOT EXISTS 'al' WITH PASSWORD 'a password' ROLE user").await;
    let again = server.sql("CREATE USER IF NOT EXISTS 'al' WITH PASSWORD 'another password' ROLE dba").await;
    assert!(again["message"].as_str().unwrap().contains("already exists"));
    let al = server.login("al", "a password").await;
    assert_eq!(al.get("/v1/api/auth/me").await.body["user"]["role"], json!("user"), "nothing of it was changed");
    server.sql("DROP USER IF EXISTS 'al'; DROP USER IF EXISTS 'al'; DROP USER IF EXISTS 'nobody'").await;
    server.refused("DROP USER 'nobody'", 400, "TABLE_NOT_FOUND").await;
}

#[tokio::test]
async fn headers_that_say_two_things_and_tokens_that_are_too_long_are_refused() {
    let server = Server::start().await;
    let tokens = Tokens::login(&server, "root", ROOT_PASSWORD).await;
    let me = || tokens.access.request(reqwest::Method::GET, "/v1/api/auth/me");
    assert_eq!(Reply::of(me()).await.unwrap().status, 200);
    let twice = Reply::of(me().header("Authorization", "Bearer another")).await.unwrap();
    assert_eq!(told(&twice), (401, "unauthorized"));
    let long = server.with_token(Some(&"x".repeat(20_000))).get("/v1/api/auth/me").await;
    assert_eq!(told(&long), (401, "unauthorized"));
    for scheme in ["Basic cm9vdDpyb290", "Bearer", "Bearer  ", "Token x"] {
        let request = server.with_token(None).request(reqwest::Method::GET, "/v1/api/auth/me");
        let reply = Reply::of(request.header("Authorization", scheme)).await.unwrap();
        assert_eq!(told(&reply), (401, "unauthorized"), "{scheme}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_long_or_no_credentials_are_refused_without_repeating_them() {
    let server = Server::start().await;
    let long = server.post(LOGIN, &json!({"user": "root", "password": "x".repeat(70_000)})).await;
    assert_eq!(told(&long), (413, "payload_too_large"));
    for body in [json!({"user": "root", "password": 47114711}), json!({"user": "root"}), json!("47114711"), Value::Null]
    {
        let reply = server.post(LOGIN, &body).await;
        assert_eq!(told(&reply), (400, "invalid_input"), "{body}");
        assert!(!reply.body.to_string().contains("47114711"), "{reply:?}");
    }
}

#[tokio::test]
async fn root_stays_at_home_if_the_settings_say_so() {
    let server = Server::with(&[("AUTH__ALLOW_REMOTE_ROOT", "false")]).await;
    let body = json!({"user": "root", "password": ROOT_PASSWORD});
    let request = server.request(reqwest::Method::POST, LOGIN).header("X-Forwarded-For", "203.0.113.7").json(&body);
    assert_eq!(told(&Reply::of(request).await.unwrap()), (401, "unauthorized"));
    Tokens::login(&server, "root", ROOT_PASSWORD).await.assert_good().await;
}

/// What jsonwebtoken would take for a token, and is none of ours.
#[tokio::test]
async fn forged_swapped_and_expired_tokens_open_nothing() {
    let server = Server::with(&[("AUTH__ACCESS_TOKEN_SECONDS", "5"), ("AUTH__REFRESH_TOKEN_SECONDS", "600")]).await;
    server.user("al").await;
    let body = json!({"user": "al", "password": "a password"});
    let reply = server.post(LOGIN, &body).await;
    let token = |name: &str| reply.body[name].as_str().unwrap().to_owned();
    let (access, refresh) = (token("access_token"), token("refresh_token"));
    let [header, claims, seal] = access.split('.').collect::<Vec<_>>().try_into().unwrap();
    // {"alg":"none"}, {"alg":"HS512"}, {"alg":"HS256","kid":"../../dev/null"}
    let none = "eyJhbGciOiJub25lIn0";
    let (other, kid) = ("eyJhbGciOiJIUzUxMiJ9", "eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uL2Rldi9udWxsIn0");
    // {"sub":"root","role":"system","kind":"access","generation":0,"sid":"x","turn":0,"iat":0,"exp":9999999999,"jti":"x"}
    let forged = "eyJzdWIiOiJyb290Iiwicm9sZSI6InN5c3RlbSIsImtpbmQiOiJhY2Nlc3MiLCJnZW5lcmF0aW9uIjowLCJzaWQiOiJ4IiwidHVybiI6\
                  MCwiaWF0IjowLCJleHAiOjk5OTk5OTk5OTksImp0aSI6IngifQ";
    let refresh_claims = refresh.split('.').nth(1).unwrap();
    for bad in [
        refresh.clone(),
        format!("{none}.{claims}."),
        format!("{none}.{forged}."),
        format!("{none}.{claims}.{seal}"),
        format!("{other}.{claims}.{seal}"),
        format!("{kid}.{claims}.{seal}"),
        format!("{header}.{forged}.{seal}"),
        format!("{header}.{refresh_claims}.{seal}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{claims}.{seal}"),
        format!("{access}.{access}"),
    ] {
        server.with_token(Some(&bad)).refused("SELECT 1", 401, "INVALID_CREDENTIALS").await;
        let import = server.with_token(Some(&bad)).import("app.t", "text/csv", "id\n1\n").await;
        assert_eq!(import.status, 401, "{bad}");
    }
    let stands_in = server.with_token(Some(&access)).post(REFRESH, &json!({})).await;
    assert_eq!(told(&stands_in), (401, "unauthorized"), "an access token refreshes nothing");
    let al = server.with_token(Some(&access));
    let expired = loop {
        let reply = al.ask("SELECT 1").await;
        if reply.status != 200 {
            break reply;
        }
    };
    expired.refused(401, "TOKEN_EXPIRED");
}
