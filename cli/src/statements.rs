//! Where statements end: at a `;` that stands outside of quotes and comments. And which of them must travel
//! together: everything from BEGIN to its COMMIT or ROLLBACK, because a transaction lives in one request.

/// What a text holds, as far as sending it is concerned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Units<'a> {
    /// Complete pieces, each to be sent as one request: a statement, or a whole transaction.
    pub(crate) complete: Vec<&'a str>,
    /// What follows the last complete piece, if it is more than blanks and comments.
    pub(crate) rest: Option<&'a str>,
}

/// Splits a text.
pub(crate) fn units(text: &str) -> Units<'_> {
    let mut complete = Vec::new();
    let mut unit_start = 0;
    let mut statement_start = 0;
    let mut in_transaction = false;
    for end in ends(text) {
        let statement = &text[statement_start..end];
        let mut words = words(statement).map(str::to_ascii_lowercase);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match first.as_str() {
            "begin" => in_transaction = true,
            "start" if second == "transaction" => in_transaction = true,
            "commit" | "end" | "abort" => in_transaction = false,
            "rollback" => in_transaction &= second == "to",
            _ => {}
        }
        statement_start = end;
        if !in_transaction {
            if !is_blank(&text[unit_start..end]) {
                complete.push(text[unit_start..end].trim());
            }
            unit_start = end;
        }
    }
    let rest = text[unit_start..].trim();
    Units { complete, rest: (!is_blank(rest)).then_some(rest) }
}

/// The words of a statement, without comments and whatever stands between words.
pub(crate) fn words(statement: &str) -> impl Iterator<Item = &str> {
    Pieces { text: statement, at: 0 }
        .filter(|piece| piece.kind == Kind::Word)
        .map(move |piece| &statement[piece.start..piece.end])
}

/// The namespace that a USE statement names.
pub(crate) fn used_namespace(statement: &str) -> Option<String> {
    let mut names = Pieces { text: statement, at: 0 }
        .filter(|piece| matches!(piece.kind, Kind::Word | Kind::Quoted))
        .map(|piece| &statement[piece.start..piece.end]);
    names.next().filter(|first| first.eq_ignore_ascii_case("use"))?;
    let mut name = names.next()?;
    if let ("namespace" | "schema" | "database", Some(next)) = (name.to_ascii_lowercase().as_str(), names.next()) {
        name = next;
    }
    let quoted = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(quoted.map_or_else(|| name.to_lowercase(), str::to_owned))
}

/// A text in which each `:name`, `:'name'` and `:"name"` is what `value` gives for it, quotes included, if it gives anything.
pub(crate) fn with_variables(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let pieces: Vec<Piece> = Pieces { text, at: 0 }.collect();
    let of = |piece: &Piece| &text[piece.start..piece.end];
    let is_colon = |index: usize| pieces.get(index).is_some_and(|piece| of(piece) == ":");
    let mut replaced = String::with_capacity(text.len());
    let mut index = 0;
    while let Some(piece) = pieces.get(index) {
        // Two of them are a conversion.
        let begins = is_colon(index) && !is_colon(index + 1) && (index == 0 || !is_colon(index - 1));
        let name = pieces.get(index + 1).filter(|next| begins && matches!(next.kind, Kind::Word | Kind::Quoted));
        match name.and_then(|name| value(of(name))) {
            Some(value) => {
                replaced.push_str(&value);
                index += 2;
            }
            None => {
                replaced.push_str(of(piece));
                index += 1;
            }
        }
    }
    replaced
}

/// Whether a text holds nothing to send: blanks, comments and empty statements only.
pub(crate) fn is_blank(text: &str) -> bool {
    Pieces { text, at: 0 }.all(|piece| {
        piece.kind == Kind::Comment || text[piece.start..piece.end].chars().all(|c| c.is_whitespace() || c == ';')
    })
}

/// The positions behind each `;` that ends a statement.
fn ends(text: &str) -> impl Iterator<Item = usize> {
    Pieces { text, at: 0 }.filter(move |piece| &text[piece.start..piece.end] == ";").map(|piece| piece.end)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Comment,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Cuts a text into words, quoted things, comments, and single other characters. What is not closed reaches to
/// the end of the text.
struct Pieces<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let start = self.at;
        let rest = &self.text[start..];
        let first = rest.chars().next()?;
        let (kind, length) = if rest.starts_with("--") {
            (Kind::Comment, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (Kind::Comment, block_comment(rest))
        } else if matches!(first, '\'' | '"' | '`') {
            (Kind::Quoted, quoted(rest, first))
        } else if let Some(tag) = dollar_tag(rest) {
            let body = &rest[tag.len()..];
            (Kind::Quoted, body.find(tag).map_or(rest.len(), |at| at + 2 * tag.len()))
        } else if is_word(first) {
            (Kind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        } else {
            (Kind::Other, first.len_utf8())
        };
        self.at = start + length;
        Some(Piece { kind, start, end: self.at })
    }
}

/// Letters, digits, `_` and `$`: a `$` inside a word does not begin a quoted text.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The length of a quoted text; a doubled quote stands for itself, which two quoted texts in a row do as well.
fn quoted(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |at| at + 2)
}

/// The length of a comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// `$$` or `$tag$` at the start of a text. `$1` is a parameter.
fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.strip_prefix('$')?.find('$')? + 1;
    let name = &rest[1..end];
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    is_name.then(|| &rest[..=end])
}

#[cfg(test)]
mod tests;
