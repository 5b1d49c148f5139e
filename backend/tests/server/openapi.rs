//! The OpenAPI document, held against the server that serves it.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Client, ROOT_PASSWORD, Reply, Server};

/// What of a value is not of a schema. A member that the schema does not name is wrong too.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            document.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} is not there"));
        return misfits(document, target, value, at);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema[choice].as_array() {
            let tried: Vec<Vec<String>> = schemas.iter().map(|schema| misfits(document, schema, value, at)).collect();
            return if tried.iter().any(Vec::is_empty) { Vec::new() } else { tried.concat() };
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        _ => return Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_any = kinds == ["object"] && schema.get("properties").is_none();
    let is_of_kind = is_any || kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !is_of_kind {
        return vec![format!("{at} is {kind}, not {kinds:?}")];
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        return vec![format!("{at} is {value}, not one of {allowed:?}")];
    }
    let mut found = Vec::new();
    if let (Value::Object(members), Some(properties)) = (value, schema["properties"].as_object()) {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(required.as_str().unwrap()) {
                found.push(format!("{at} has no {required}"));
            }
        }
        for (name, member) in members {
            match properties.get(name) {
                Some(schema) => found.extend(misfits(document, schema, member, &format!("{at}.{name}"))),
                None => found.push(format!("{at}.{name} is not in the document")),
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(misfits(document, &schema["items"], item, &format!("{at}[{index}]")));
    }
    found
}

/// Asserts that an answer is one that the document has.
fn is_documented(document: &Value, method: &str, path: &str, reply: &Reply) {
    let status = reply.status.to_string();
    let response = &document["paths"][path][method]["responses"][&status];
    assert!(response.is_object(), "{method} {path} has no answer {status}: {reply:?}");
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} {status}: {response}");
    let found = misfits(document, schema, &reply.body, "answer");
    assert!(found.is_empty(), "{method} {path} {status}: {found:#?}\n{}", reply.body);
}

/// The methods and paths of the document.
fn endpoints(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let endpoints = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
    });
    endpoints.collect()
}

async fn is_served(client: &Client, method: &Method, path: &str) -> bool {
    client.request(method.clone(), path).send().await.unwrap().status().as_u16() != 404
}

#[tokio::test]
async fn what_is_documented_is_served_and_nothing_else() {
    let server = Server::start().await;
    let document = server.get("/v1/api/openapi.json").await;
    assert_eq!((document.status, &document.body["info"]["title"]), (200, &json!("KalamDB")));
    let documented = endpoints(&document.body);
    assert!(documented.len() > 10, "{documented:?}");
    let anonymous = server.with_token(None);
    let paths: BTreeSet<&String> = documented.iter().map(|(_, path)| path).collect();
    for path in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let is_documented = documented.contains(&(method.to_string(), path.clone()));
            assert_eq!(is_served(&anonymous, &method, path).await, is_documented, "{method} {path}");
        }
    }
}

#[test]
fn every_route_stands_in_the_one_table_that_the_document_is_made_from() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut waiting, mut found) = (vec![sources], Vec::new());
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let routes =
                    [".route(", "web::resource(", "web::scope(", ".service("].map(|form| text.matches(form).count());
                found.extend(
                    routes.iter().any(|count| *count > 0).then(|| (path.file_name().unwrap().to_owned(), routes)),
                );
            }
        }
    }
    // The page of a demonstration is no interface, and a WebSocket is no request with an answer.
    found.retain(|(name, _)| name != "demo.rs" && name != "live.rs");
    assert_eq!(found, [("routes.rs".into(), [1, 0, 0, 0])], "routes are added in `endpoints!` alone");
}

#[tokio::test]
async fn real_answers_are_of_the_documented_shapes() {
    let server =
        Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT, d DECIMAL(10, 2))").await;
    let document = server.get("/v1/api/openapi.json").await.body;
    let check = |method: &str, path: &str, reply: &Reply| is_documented(&document, method, path, reply);
    for (sql, status) in [
        ("INSERT INTO app.t VALUES (1, 1, 1.5), (2, NULL, NULL)", 200),
        ("SELECT *, _seq FROM app.t; UPDATE app.t SET n = 5 RETURNING id; DELETE FROM app.t WHERE id = 2", 200),
        ("CREATE NAMESPACE another", 200),
        ("SELECT nothing FROM app.t", 400),
        ("SELECT * FROM app.absent", 400),
        ("INSERT INTO app.t VALUES (1, 1, 1)", 400),
    ] {
        let reply = server.ask(sql).await;
        assert_eq!(reply.status, status, "{sql}: {reply:?}");
        check("post", "/v1/api/sql", &reply);
    }
    check("post", "/v1/api/sql", &server.with_token(None).ask("SELECT 1").await);
    check("post", "/v1/api/sql", &server.user("al").await.ask("CREATE NAMESPACE n").await);
    check("post", "/v1/api/import", &server.import("app.t", "text/csv", "id\n7\n8\n").await);
    check("post", "/v1/api/import", &server.import("app.t", "text/csv", "id\nx\n").await);
    check("post", "/v1/api/jobs", &server.post("/v1/api/jobs", &json!({"job_type": "manifest_eviction"})).await);
    check("post", "/v1/api/jobs", &server.post("/v1/api/jobs", &json!({"job_type": "nothing"})).await);
    for path in ["/health", "/health/ready", "/v1/api/healthcheck", "/v1/api/auth/status", "/v1/api/auth/me"] {
        check("get", path, &server.get(path).await);
    }
    check("get", "/v1/api/auth/me", &server.with_token(None).get("/v1/api/auth/me").await);
    let login = "/v1/api/auth/login";
    let good = server.post(login, &json!({"user": "root", "password": ROOT_PASSWORD})).await;
    check("post", login, &good);
    check("post", login, &server.post(login, &json!({"user": "root", "password": "wrong one"})).await);
    check("post", login, &server.post(login, &json!({})).await);
    let refreshing = server.with_token(good.body["refresh_token"].as_str());
    let refreshed = refreshing.post("/v1/api/auth/refresh", &json!({})).await;
    check("post", "/v1/api/auth/refresh", &refreshed);
    check("post", "/v1/api/auth/refresh", &server.post("/v1/api/auth/refresh", &json!({})).await);
    let setup = json!({"user": "bo", "password": "a long password", "root_password": "another password"});
    let setup = server.post("/v1/api/auth/setup", &setup).await;
    assert_eq!(setup.status, 409);
    check("post", "/v1/api/auth/setup", &setup);
    let leaving = server.with_token(refreshed.body["access_token"].as_str());
    check("post", "/v1/api/auth/logout", &leaving.post("/v1/api/auth/logout", &json!({})).await);
}

#[test]
fn a_wrong_answer_would_be_noticed() {
    let document = json!({"components": {"schemas": {"A": {"type": "object", "required": ["a"], "properties": {
        "a": {"type": "integer"}, "b": {"type": ["array", "null"], "items": {"type": "string", "enum": ["x"]}}}}}}});
    let schema = json!({"$ref": "#/components/schemas/A"});
    let wrong = |value: Value| misfits(&document, &schema, &value, "v");
    assert!(wrong(json!({"a": 1, "b": ["x"]})).is_empty() && wrong(json!({"a": 1, "b": null})).is_empty());
    for value in [json!({}), json!({"a": "1"}), json!({"a": 1, "c": 1}), json!({"a": 1, "b": ["y"]}), json!([])] {
        assert_eq!(wrong(value.clone()).len(), 1, "{value}");
    }
}
