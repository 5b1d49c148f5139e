//! The client against a server that plays back answers.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::answer::{Column, Summary};

/// What the server was asked: the request line, the headers that matter, and the body.
#[derive(Debug, Clone, Default)]
struct Asked {
    line: String,
    authorization: String,
    content_type: String,
    body: String,
}

/// A server that gives each request the next of its answers.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// The first answer is a login, unless there is none.
    fn playing(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (status, text) in answers {
                let (stream, _) = listener.accept().expect("a connection");
                let request = request(&stream);
                seen.lock().expect("no panic").push(request);
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
                (&stream).write_all((head + &text).as_bytes()).expect("an open connection");
            }
        });
        Self { url, asked }
    }

    fn connect(&self) -> Result<Client, Failure> {
        Client::connect(Login { url: self.url.clone(), user: "ali".to_owned(), password: "secret".to_owned() })
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked::default();
    let mut length = None;
    reader.read_line(&mut asked.line).expect("a request");
    for line in reader.by_ref().lines().map(|line| line.expect("a header")).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<u64>().expect("a number")),
            "content-type" => asked.content_type = value.to_owned(),
            "authorization" => asked.authorization = value.to_owned(),
            _ => {}
        }
    }
    match length {
        Some(length) => drop(reader.take(length).read_to_string(&mut asked.body).expect("a body")),
        None => asked.body = chunked(&mut reader),
    }
    asked
}

fn chunked(reader: &mut impl BufRead) -> String {
    let mut body = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a chunk");
        let length = u64::from_str_radix(line.trim(), 16).expect("its length");
        reader.take(length).read_to_string(&mut body).expect("a chunk");
        reader.read_line(&mut line).expect("its end");
        if length == 0 {
            return body;
        }
    }
}

const LOGIN: (u16, &str) = (200, r#"{"access_token":"first","user":{"id":"ali"}}"#);
const ONE_ROW: &str = r#"{"status":"success","results":[{"schema":[{"name":"a","data_type":"Int","index":0}],"rows":[[7]],"row_count":1}],"took":2.5}"#;

#[derive(Default)]
struct Rows(Vec<Vec<Value>>);

impl Results for Rows {
    fn begin(&mut self, _: Vec<Column>) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        self.0.push(cells);
        Ok(())
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn it_logs_in_and_asks_with_the_token() {
    let server = Server::playing(&[LOGIN, (200, ONE_ROW)]);
    let mut rows = Rows::default();
    let took = server.connect().expect("a login").sql("SELECT 7;", Some("app"), &mut rows).expect("an answer");
    assert_eq!((took, rows.0), (2.5, vec![vec![json!(7)]]));
    let asked = server.asked();
    assert!(asked[0].line.starts_with("POST /v1/api/auth/login "));
    assert_eq!(
        serde_json::from_str::<Value>(&asked[0].body).expect("JSON"),
        json!({"user": "ali", "password": "secret"})
    );
    assert!(asked[1].line.starts_with("POST /v1/api/sql ") && asked[1].authorization == "Bearer first");
    let body: Value = serde_json::from_str(&asked[1].body).expect("JSON");
    assert_eq!(body, json!({"sql": "SELECT 7;", "namespace_id": "app"}));
}

#[test]
fn an_expired_token_is_replaced_once() {
    let expired = (401, r#"{"status":"error","results":[],"error":{"code":"TOKEN_EXPIRED","message":"log in again"}}"#);
    let again = (200, r#"{"access_token":"second"}"#);
    let server = Server::playing(&[LOGIN, expired, again, (200, ONE_ROW)]);
    server.connect().expect("a login").sql("SELECT 7", None, &mut Rows::default()).expect("an answer");
    assert_eq!(server.asked()[3].authorization, "Bearer second");

    let server = Server::playing(&[LOGIN, expired, again, expired]);
    let outcome = server.connect().expect("a login").sql("SELECT 7", None, &mut Rows::default());
    assert_eq!(outcome.expect_err("expired again").exit_status(), 1);
}

#[test]
fn a_refused_login_says_why() {
    let server = Server::playing(&[(401, r#"{"error":"unauthorized","message":"Invalid credentials"}"#)]);
    let Err(failure) = server.connect() else { panic!("logged in") };
    assert_eq!(
        (failure.to_string().as_str(), failure.exit_status()),
        ("login as 'ali' failed: Invalid credentials", 2)
    );
}

#[test]
fn a_refused_statement_says_why() {
    let body = r#"{"status":"error","results":[],"error":{"code":"INVALID_SQL","message":"Statement 1 failed: no"}}"#;
    let server = Server::playing(&[LOGIN, (400, body)]);
    let failure = server.connect().expect("a login").sql("x", None, &mut Rows::default()).expect_err("refused");
    assert_eq!((failure.to_string().as_str(), failure.exit_status()), ("INVALID_SQL: Statement 1 failed: no", 1));
}

#[test]
fn no_server_and_another_server_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let login = Login { url: format!("http://{closed}"), user: "ali".to_owned(), password: String::new() };
    let Err(failure) = Client::connect(login) else { panic!("connected") };
    assert!(matches!(failure, Failure::Connection { .. }) && failure.exit_status() == 2, "{failure}");

    let server = Server::playing(&[LOGIN, (502, "<html>Bad gateway</html>")]);
    let failure = server.connect().expect("a login").sql("x", None, &mut Rows::default()).expect_err("a gateway");
    assert!(failure.to_string().contains("answered HTTP 502"), "{failure}");
}

#[test]
fn an_answer_that_breaks_off_is_a_lost_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for text in [LOGIN.1, ONE_ROW] {
            let (stream, _) = listener.accept().expect("a connection");
            request(&stream);
            let is_login = text == LOGIN.1;
            let promised = text.len() + if is_login { 0 } else { 10 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n");
            let body = if is_login { text } else { &text[..text.len() - 20] };
            (&stream).write_all((head + body).as_bytes()).expect("an open connection");
        }
    });
    let login = Login { url, user: "ali".to_owned(), password: String::new() };
    let outcome = Client::connect(login).expect("a login").sql("SELECT 7", None, &mut Rows::default());
    let failure = outcome.expect_err("half an answer");
    assert!(failure.to_string().contains("broke off") && failure.exit_status() == 2, "{failure}");
}

fn upload(source: impl Read + Send + 'static, size: Option<u64>) -> Upload {
    Upload { name: "x.csv".to_owned(), source: Box::new(source), size, content_type: "text/csv", key: None }
}

#[test]
fn an_import_sends_all_bytes() {
    let text = "a,b\n1,2\n".repeat(100_000);
    for size in [None, Some(text.len() as u64)] {
        let server = Server::playing(&[LOGIN, (200, r#"{"row_count":100000,"took":12.0}"#)]);
        let upload = upload(io::Cursor::new(text.clone()), size);
        let rows = server.connect().expect("a login").import("app.\"t\"", Some("al&i"), upload).expect("imported");
        let asked = server.asked().pop().expect("a request");
        assert_eq!((rows, asked.content_type.as_str(), asked.body == text), (100_000, "text/csv", true));
        assert!(asked.line.starts_with("POST /v1/api/import?table=app.%22t%22&as_user=al%26i "), "{}", asked.line);
    }
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_not_taken_for_whole() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            buffer[..4].copy_from_slice(b"a,b\n");
            Ok(4)
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        request(&stream);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", LOGIN.1.len());
        (&stream).write_all((head + LOGIN.1).as_bytes()).expect("an open connection");
        let (mut stream, _) = listener.accept().expect("a connection");
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let client = Client::connect(Login { url, user: "ali".to_owned(), password: String::new() }).expect("a login");
    let failure = client.import("a.b", None, upload(Broken(false), None)).expect_err("half a file");
    assert_eq!(failure.to_string(), "x.csv: the disk is gone");
}

#[test]
fn a_refused_import_says_which_rows_are_in() {
    let body = r#"{"status":"error","error":{"code":"INVALID_INPUT","message":"row 17","details":"rows 1 to 10 were imported"}}"#;
    let server = Server::playing(&[LOGIN, (400, body)]);
    let client = server.connect().expect("a login");
    let failure = client.import("a.b", None, upload(io::empty(), None)).expect_err("refused");
    assert_eq!(failure.to_string(), "INVALID_INPUT: row 17 (rows 1 to 10 were imported)");
}
