//! A connection to the server. It speaks just the HTTP that the server's short answers need, over one blocking socket,
//! because a client that does more would take the processor time that is to be measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;

/// The longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Client {
    /// Connects; `token` may be empty before the login.
    pub(crate) fn connect(address: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        Ok(Self { stream: BufReader::new(stream), token: token.to_owned() })
    }

    /// Sends a body and reads the JSON that answers it.
    pub(crate) fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        let (status, answer) = self.exchange(path, content_type, body)?;
        if status != 200 {
            return Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer)).into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Sends JSON that is answered with this status.
    pub(crate) fn refused(&mut self, status: u16, path: &str, body: &[u8]) -> Result<()> {
        match self.exchange(path, "application/json", body)? {
            (found, _) if found == status => Ok(()),
            (found, answer) => {
                Err(format!("{path} answered {found} for {status}: {}", String::from_utf8_lossy(&answer)).into())
            }
        }
    }

    fn exchange(&mut self, path: &str, content_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n",
            body.len()
        )
        .into_bytes();
        if !self.token.is_empty() {
            write!(request, "Authorization: Bearer {}\r\n", self.token)?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).ok_or("the server closed the connection")?.parse()?;
        let mut bytes = None;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                bytes = Some(value.trim().parse()?);
            }
        }
        let mut body = vec![0; bytes.ok_or("the answer is too long for this client: it streams")?];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Runs statements; an answer that is an error is one here.
    pub(crate) fn sql(&mut self, sql: &str) -> Result<Value> {
        let answer = self.post("/v1/api/sql", "application/json", json!({ "sql": sql }).to_string().as_bytes())?;
        if answer["status"] != "success" {
            return Err(format!("'{:.80}' answered {answer}", sql).into());
        }
        Ok(answer)
    }

    /// Runs a statement that must affect, or find, exactly `rows` rows. Returns the server's own time, in ms.
    pub(crate) fn exactly(&mut self, rows: u64, sql: &str) -> Result<f64> {
        let answer = self.sql(sql)?;
        if answer["results"][0]["row_count"] != rows {
            return Err(format!("'{:.80}' should be about {rows} row(s); it answered {answer}", sql).into());
        }
        answer["took"].as_f64().ok_or_else(|| "an answer without `took`".into())
    }

    /// Imports a body into a table, all of it.
    pub(crate) fn import(&mut self, table: &str, content_type: &str, rows: u64, body: &[u8]) -> Result<()> {
        let answer = self.post(&format!("/v1/api/import?table={table}"), content_type, body)?;
        if answer["row_count"] != rows {
            return Err(format!("an import of {rows} rows answered {answer}").into());
        }
        Ok(())
    }

    /// Moves a table's hot rows into a batch of its history, and waits for the end.
    pub(crate) fn flush(&mut self, table: &str) -> Result<()> {
        self.sql(&format!("STORAGE FLUSH TABLE {table} WAIT")).map(drop)
    }

    /// Makes one batch of a table's history.
    pub(crate) fn compact(&mut self, table: &str) -> Result<()> {
        self.sql(&format!("STORAGE COMPACT TABLE {table} WAIT")).map(drop)
    }
}
