//! The source tree as the house rules see it: files, and each file split into what the compiler reads, what the
//! program says, and what people read.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file. The three views have the same lines as the file; each blanks what belongs to the others.
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// Without comments and without the insides of string literals.
    pub(crate) code: String,
    /// The string literals that stand in code, each with the line (from 1) on which it starts.
    pub(crate) literals: Vec<(usize, String)>,
}

impl Source {
    /// Splits a text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, literals) = split(text);
        Self { path: path.to_owned(), text: text.to_owned(), code, literals }
    }

    /// Whether the file is part of a program and not of a test.
    pub(crate) fn is_product(&self) -> bool {
        self.path.contains("src/") && !self.path.ends_with("/tests.rs") && !self.path.contains("/tests/")
    }

    /// Whether the file lies in one of the given folders or is one of the given files.
    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("three folders below the root").to_path_buf()
}

/// Every Rust file of the repository.
pub(crate) fn rust_files() -> Vec<Source> {
    files(&["backend", "cli"], &["rs"]).into_iter().map(|(path, text)| Source::new(&path, &text)).collect()
}

/// Every file with one of the extensions (or, for a file without one, that name) below the given places, as (path
/// from the root, text).
pub(crate) fn files(places: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    while let Some(path) = open.pop() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "data" && name != ".git" {
                open.extend(
                    fs::read_dir(&path).expect("a readable folder").map(|entry| entry.expect("an entry").path()),
                );
            }
        } else if extensions
            .iter()
            .any(|extension| path.extension().is_some_and(|found| found == *extension) || name == *extension)
            && let Ok(text) = fs::read_to_string(&path)
        {
            let relative = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push((relative, text));
        }
    }
    found.sort();
    found
}

/// Splits Rust into code with blanked comments and strings, and the string literals.
fn split(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if starts_raw(&chars, at) => raw_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            line += usize::from(chars[at] == '\n');
            at += 1;
            continue;
        }
        let piece: String = chars[at..end].iter().collect();
        if chars[at] == '"' || chars[at] == 'r' {
            let inner = piece.trim_start_matches('r').trim_matches('#');
            literals.push((line, inner.strip_prefix('"').unwrap_or(inner).trim_end_matches('"').to_owned()));
            code.push('"');
            code.extend(piece.chars().filter(|c| *c == '\n'));
            code.push('"');
        } else {
            code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        line += piece.matches('\n').count();
        at = end;
    }
    (code, literals)
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// `r"`, `r#"` and `br"`, but neither a raw identifier nor the end of a name.
fn starts_raw(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|i| chars[i]);
    let prefixed = before.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c != 'b');
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    !prefixed && chars.get(at + 1 + hashes) == Some(&'"')
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let body = at + 2 + hashes;
    (body..chars.len())
        .find(|i| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
        .map_or(chars.len(), |i| i + 1 + hashes)
}

/// The end of a character literal; `at` itself for a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(at, |i| i + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[test]
fn splits_comments_strings_and_lifetimes() {
    let text = "let a = \"x // y\"; // z \"q\"\n/* \"n\" /* in */ */ let b = r#\"raw \"w\" \"#; fn f<'a>(c: &'a str) { '\"'; '\\''; }\n";
    let source = Source::new("backend/src/x.rs", text);
    assert_eq!(source.literals, [(1, "x // y".to_owned()), (2, "raw \"w\" ".to_owned())]);
    assert!(!source.code.contains('z') && !source.code.contains("raw") && source.code.contains("fn f<'a>(c: &'a str)"));
    assert_eq!(source.code.lines().count(), text.lines().count());
}
