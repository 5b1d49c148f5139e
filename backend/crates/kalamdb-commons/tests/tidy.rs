//! The house rules that no compiler checks, checked by reading the source tree (FR-070, FR-080, FR-081, FR-082,
//! SC-011, SC-014). Each rule is one entry of [`RULES`], with a text that breaks it, so that no rule can silently
//! stop working.

#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// The most lines in a product file.
const LINES_MAX: usize = 800;

/// One rule.
struct Rule {
    /// What is asked, as a sentence.
    promise: &'static str,
    /// The files that the rule is about.
    applies: fn(&Source) -> bool,
    /// The lines (from 1) that break it, each with what was found there.
    breaks: fn(&Source) -> Vec<(usize, String)>,
    /// A file and a text that break the rule.
    broken: (&'static str, &'static str),
}

const COMMONS: &str = "backend/crates/kalamdb-commons/";
const STORE: &str = "backend/crates/kalamdb-store/";
const FILESTORE: &str = "backend/crates/kalamdb-filestore/";
const CORE: &str = "backend/crates/kalamdb-core/src/";
const SERVER: &str = "backend/src/";

const RULES: &[Rule] = &[
    Rule {
        promise: "a product file has at most 800 lines",
        applies: Source::is_product,
        breaks: |file| {
            let lines = file.text.lines().count();
            if lines > LINES_MAX { vec![(lines, format!("{lines} lines"))] } else { vec![] }
        },
        broken: (
            "backend/src/long.rs",
            concat!("//! x\n", "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"),
        ),
    },
    Rule {
        promise: "a file opens by saying what it is for and what it promises (`//!`)",
        applies: |file| !file.path.ends_with("/tests.rs"),
        breaks: |file| if file.text.starts_with("//!") { vec![] } else { vec![(1, first_line(&file.text))] },
        broken: ("backend/src/x.rs", "use std::fs;\n"),
    },
    Rule {
        promise: "no type is named Manager: say what it is, not its pattern",
        applies: |_| true,
        breaks: |file| {
            words_after(&file.code, &["struct", "enum", "trait", "type"], |name| {
                name.to_lowercase().ends_with("manager")
            })
        },
        broken: ("backend/src/x.rs", "//! x\npub struct FlushManager;\n"),
    },
    Rule {
        promise: "no module is named utils, util, helpers, helper or misc",
        applies: |_| true,
        breaks: |file| words_after(&file.code, &["mod"], is_bin),
        broken: ("backend/src/x.rs", "//! x\npub(crate) mod utils;\n"),
    },
    Rule {
        promise: "nothing is left to do: no todo!, unimplemented!, TODO, FIXME or XXX",
        applies: |file| !is_this(file),
        breaks: |file| {
            let mut found = words(&file.text, &["TODO", "FIXME", "XXX"]);
            found.extend(pieces(&file.code, &["todo!", "unimplemented!"]));
            found
        },
        broken: ("backend/src/x.rs", "//! x\nfn f() { todo!() }\n"),
    },
    Rule {
        promise: "lints are suppressed by #[expect(lint, reason = \"...\")] only",
        applies: |_| true,
        breaks: |file| {
            let mut found = pieces(&file.code, &["#[allow(", "#![allow("]);
            found.extend(unreasoned(&file.code));
            found
        },
        broken: ("backend/src/x.rs", "//! x\n#[expect(dead_code)]\nfn f() {}\n"),
    },
    Rule {
        promise: "tests lie in foo/tests.rs beside foo.rs",
        applies: Source::is_product,
        breaks: |file| pieces(&file.code, &["mod tests {", "mod test {"]),
        broken: ("backend/src/x.rs", "//! x\n#[cfg(test)]\nmod tests {\n}\n"),
    },
    Rule {
        promise: "only SystemColumns spells the system columns (FR-070, FR-080, FR-081, SC-014)",
        applies: |file| file.is_product() && file.path != "backend/crates/kalamdb-commons/src/system_columns.rs",
        breaks: |file| {
            let named = |text: &str| {
                text.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|word| matches!(word, "_id" | "_updated" | "_deleted" | "_seq" | "_born"))
            };
            literals(file, named)
        },
        broken: ("backend/src/x.rs", "//! x\nconst Q: &str = \"SELECT _seq FROM t\";\n"),
    },
    Rule {
        promise: "only kalamdb-store names RocksDB",
        applies: |file| !file.is_in(&[STORE]),
        breaks: |file| words(&file.code, &["rocksdb"]),
        broken: ("backend/crates/kalamdb-core/src/x.rs", "//! x\nuse rocksdb::DB;\n"),
    },
    Rule {
        promise: "of the server, only kalamdb-filestore writes Parquet",
        applies: |file| file.is_product() && !file.is_in(&[FILESTORE, "cli/"]),
        breaks: |file| {
            words(&file.code, &["ArrowWriter", "AsyncArrowWriter", "SerializedFileWriter", "WriterProperties"])
        },
        broken: ("backend/crates/kalamdb-core/src/x.rs", "//! x\nuse parquet::arrow::ArrowWriter;\n"),
    },
    Rule {
        promise: "only kalamdb-filestore knows where files lie in a storage",
        applies: |file| file.is_product() && !file.is_in(&[FILESTORE, COMMONS]),
        breaks: |file| {
            literals(file, |text| text.contains("manifest.json") || text.starts_with("batch-") || text == "user_{}")
        },
        broken: ("backend/crates/kalamdb-core/src/x.rs", "//! x\nconst M: &str = \"manifest.json\";\n"),
    },
    Rule {
        promise: "only the server knows HTTP",
        applies: |file| file.is_product() && !file.is_in(&[SERVER, "cli/"]),
        breaks: |file| words(&file.code, &["actix_web", "actix_ws", "reqwest", "hyper", "StatusCode"]),
        broken: ("backend/crates/kalamdb-core/src/x.rs", "//! x\nuse actix_web::web;\n"),
    },
    Rule {
        promise: "only core::tables knows DataFusion's provider traits",
        applies: |file| file.is_product() && !file.path.starts_with(&format!("{CORE}tables")),
        breaks: |file| words(&file.code, &["TableProvider", "SchemaProvider", "CatalogProvider"]),
        broken: ("backend/crates/kalamdb-core/src/query/x.rs", "//! x\nimpl TableProvider for T {}\n"),
    },
    Rule {
        promise: "only the server's config reads settings from files and the environment (FR-082, SC-011)",
        applies: |file| file.is_product() && !file.path.starts_with(&format!("{SERVER}config")),
        breaks: |file| {
            let mut found = pieces(&file.code, &["env::var", "env::set_var", "toml::from_str"]);
            found.extend(words(&file.code, &["figment", "dotenv", "option_env"]));
            found
        },
        broken: ("backend/crates/kalamdb-core/src/x.rs", "//! x\nfn f() { std::env::var(\"X\"); }\n"),
    },
    Rule {
        promise: "no Arc<dyn Any>: say what is in it",
        applies: |_| true,
        breaks: |file| pieces(&file.code, &["Arc<dyn Any", "Arc<dyn std::any::Any"]),
        broken: ("backend/src/x.rs", "//! x\nfn f(x: Arc<dyn Any + Send>) {}\n"),
    },
];

/// This file, which names what it forbids.
fn is_this(file: &Source) -> bool {
    file.path.starts_with(&format!("{COMMONS}tests/tidy"))
}

fn is_bin(name: &str) -> bool {
    matches!(name, "utils" | "util" | "helpers" | "helper" | "misc")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Lines that hold one of the texts.
fn pieces(code: &str, texts: &[&str]) -> Vec<(usize, String)> {
    numbered(code).filter(|(_, line)| texts.iter().any(|text| line.contains(text))).collect()
}

/// Lines that hold one of the words as a word.
fn words(code: &str, wanted: &[&str]) -> Vec<(usize, String)> {
    numbered(code).filter(|(_, line)| identifiers(line).any(|word| wanted.contains(&word))).collect()
}

/// Lines on which a word that follows one of the keywords is refused.
fn words_after(code: &str, keywords: &[&str], refused: fn(&str) -> bool) -> Vec<(usize, String)> {
    numbered(code)
        .filter(|(_, line)| {
            let found: Vec<&str> = identifiers(line).collect();
            found.windows(2).any(|pair| keywords.contains(&pair[0]) && refused(pair[1]))
        })
        .collect()
}

fn literals(file: &Source, refused: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    file.literals.iter().filter(|(_, text)| refused(text)).cloned().collect()
}

/// `expect` attributes without a reason.
fn unreasoned(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for opening in ["#[expect(", "#![expect("] {
        for (at, _) in code.match_indices(opening) {
            let attribute = code[at..].split_inclusive(']').next().unwrap_or_default();
            if !attribute.contains("reason =") {
                found.push((code[..at].matches('\n').count() + 1, attribute.to_owned()));
            }
        }
    }
    found
}

fn numbered(code: &str) -> impl Iterator<Item = (usize, String)> {
    code.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()))
}

fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn the_tree_keeps_the_house_rules() {
    let files = source::rust_files();
    assert!(files.iter().any(|file| file.path == format!("{COMMONS}src/lib.rs")), "the tree was not found");
    let mut report = String::new();
    for rule in RULES {
        for file in files.iter().filter(|file| (rule.applies)(file)) {
            for (line, found) in (rule.breaks)(file) {
                report += &format!("{}:{line}: {}\n    {}\n", file.path, rule.promise, found.trim());
            }
        }
    }
    for file in &files {
        if file.path.split('/').any(|part| is_bin(part.trim_end_matches(".rs"))) {
            report += &format!("{}: no file or folder is named like that: say what is in it\n", file.path);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_rule_finds_what_it_forbids() {
    for rule in RULES {
        let (path, text) = rule.broken;
        let long = text.replacen('\n', &"\n".repeat(LINES_MAX), 1);
        let text = if rule.promise.contains("lines") { &long } else { text };
        let file = Source::new(path, text);
        assert!((rule.applies)(&file), "the rule does not apply to its own example: {}", rule.promise);
        assert!(!(rule.breaks)(&file).is_empty(), "the rule does not find its own example: {}", rule.promise);
    }
}

#[test]
fn comments_and_longer_names_are_not_mistaken() {
    let text =
        "//! rocksdb, _id, Arc<dyn Any>\nconst A: &str = \"user_id\"; // \"_id\" todo!\nstruct ManagerOfNothing;\n";
    let file = Source::new("backend/src/x.rs", text);
    for rule in RULES {
        assert!((rule.breaks)(&file).is_empty(), "{} found {:?}", rule.promise, (rule.breaks)(&file));
    }
}

/// What a path of somebody's machine starts with. Spelt in two halves so that this file does not hold one.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

fn names_a_machine(text: &str) -> Option<usize> {
    let starts = |line: &str, path: &str| {
        line.match_indices(path)
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~".contains(c)))
    };
    text.lines().position(|line| MACHINE_PATHS.iter().any(|path| starts(line, path))).map(|index| index + 1)
}

#[test]
fn no_file_holds_a_path_of_somebodys_machine() {
    let places = ["backend", "cli", "docs", "scripts", ".ci", ".cargo", "Makefile", "README.md", "CHANGELOG.md"];
    let places = places.iter().chain(&["ARCHITECTURE.md", "Cargo.toml", "clippy.toml", "deny.toml"]).copied();
    let extensions = ["rs", "toml", "md", "sh", "py", "txt", "slt", "json", "sql", "c", "Makefile", "run"];
    let existing: Vec<&str> = places.filter(|place| source::root().join(place).exists()).collect();
    let found: Vec<String> = source::files(&existing, &extensions)
        .iter()
        .filter_map(|(path, text)| names_a_machine(text).map(|line| format!("{path}:{line}")))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(names_a_machine(&["x", &format!("a {}me/b", "/ho")].join("\n")), Some(2), "the check itself works");
    assert_eq!(names_a_machine("see docs/work/ and ./root/x"), None);
}
