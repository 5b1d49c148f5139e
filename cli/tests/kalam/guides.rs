//! The guides in `docs/guides`, carried out as they are written: every command, in order, and what it says compared with
//! what the page says.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::{Server, programs};

/// The address that the pages name.
const ADDRESS: &str = "127.0.0.1:8080";
/// What separates the output of blocks.
const MARK: &str = "@@@ the end of a block @@@";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A page of the repository.
pub(crate) fn text_of(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// A block of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What stands behind its fence.
    kind: String,
    /// The line that it begins in.
    line: usize,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(kind), None) => open = Some(Block { kind: kind.to_owned(), line: index + 1, text: String::new() }),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A command, and what it is to say.
struct Step {
    line: usize,
    script: String,
    expected: Option<String>,
}

fn steps(blocks: Vec<Block>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for Block { kind, line, text } in blocks {
        match kind.as_str() {
            "sh run" => steps.push(Step { line, script: text, expected: None }),
            "sql run" => {
                let script = format!("kalam -f - <<'END OF SQL'\n{text}END OF SQL\n");
                steps.push(Step { line, script, expected: None });
            }
            "sh dry" => {
                let dry = text.lines().map(|line| {
                    let target =
                        line.strip_prefix("make ").unwrap_or_else(|| panic!("line {line}: only make is looked at dry"));
                    format!("make --dry-run {target} >/dev/null\n")
                });
                steps.push(Step { line, script: dry.collect(), expected: None });
            }
            "output" => steps.last_mut().expect("a command stands before its output").expected = Some(text),
            other => panic!("line {line}: a block of the kind '{other}': nothing in a guide is merely shown"),
        }
    }
    steps
}

/// Whether a text is as expected, in which `...` stands for anything.
fn is_as(expected: &str, text: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    last.map_or(rest.is_empty(), |last| last.is_empty() || text.ends_with(last))
}

/// A shell as somebody has it who has built everything.
pub(crate) struct Shell(Command);

impl Shell {
    pub(crate) fn new(directory: &Path, home: &Path) -> Self {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs().display());
        let mut shell = Command::new("bash");
        shell.env_clear().env("PATH", path).env("HOME", home).env("LC_ALL", "C.UTF-8");
        shell.current_dir(directory).stdin(Stdio::null());
        Self(shell)
    }

    pub(crate) fn environment(&mut self, name: &str, value: &str) {
        self.0.env(name, value);
    }

    /// Runs scripts one after another until one fails. Gives what each that succeeded wrote, and what all complained of.
    pub(crate) fn run<'a>(&mut self, scripts: impl Iterator<Item = &'a str>) -> (Vec<String>, String) {
        let mut all = "set -euo pipefail\n".to_owned();
        for script in scripts {
            all += &format!("{script}\necho '{MARK}'\n");
        }
        let output = self.0.args(["-c", &all]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let mut outputs: Vec<String> = said.split(&format!("{MARK}\n")).map(ToOwned::to_owned).collect();
        let unfinished = outputs.pop().unwrap_or_default();
        (outputs, unfinished + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Carries out a page in one shell, in a directory.
fn carry_out(name: &str, directory: &Path, home: &Path, address: &str) {
    let steps = steps(blocks(&text_of(&format!("docs/guides/{name}"))));
    let port = address.rsplit(':').next().unwrap();
    let adapt = |text: &str| text.replace(ADDRESS, address).replace("port = 8080", &format!("port = {port}"));
    let scripts: Vec<String> = steps.iter().map(|step| adapt(&step.script)).collect();
    let mut shell = Shell::new(directory, home);
    shell.environment("KALAMDB_AUTH__ARGON2_MEMORY_KIB", "8192");
    let (outputs, complaints) = shell.run(scripts.iter().map(String::as_str));
    for (step, said) in steps.iter().zip(&outputs) {
        if let Some(expected) = &step.expected {
            let expected = adapt(expected);
            assert!(
                is_as(expected.trim(), said.trim()),
                "{name}, line {}: it says\n{said}\nand not\n{expected}\ncomplaints:\n{complaints}",
                step.line
            );
        }
    }
    let failed = steps.get(outputs.len()).map(|step| step.line);
    assert_eq!(failed, None, "{name}: what stands in that line fails:\n{complaints}");
}

#[test]
fn the_guide_for_users_is_true() {
    let server = Server::start(&[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    carry_out("users.md", server.directory.path(), server.directory.path(), &address);
}

#[test]
fn the_guide_for_operators_is_true() {
    let directory = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    carry_out("operators.md", directory.path(), directory.path(), &free.to_string());
}

#[test]
fn the_guide_for_contributors_is_true() {
    let home = tempfile::tempdir().unwrap();
    carry_out("contributors.md", &root(), home.path(), ADDRESS);
}

#[test]
fn a_page_is_cut_into_its_blocks() {
    let page = "x\n```sh run\na\nb\n```\n\n```output\nc\n```\n";
    let found = blocks(page);
    assert_eq!(found[0], Block { kind: "sh run".to_owned(), line: 2, text: "a\nb\n".to_owned() });
    assert_eq!((found.len(), found[1].text.as_str()), (2, "c\n"));
}

#[test]
fn output_is_compared_except_for_what_differs() {
    for (expected, text) in [("a", "a"), ("a...", "a b"), ("...b", "a\nb"), ("a...c", "a\nb\nc"), ("...b...", "a b c")]
    {
        assert!(is_as(expected, text), "{expected} {text}");
    }
    for (expected, text) in [("a", "a b"), ("a...", "b a"), ("...b", "b c"), ("a...c", "a b"), ("...x...", "a b c")] {
        assert!(!is_as(expected, text), "{expected} {text}");
    }
}
