//! Dependencies point down one list, and foreign libraries have one door each: checked by reading the manifests.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Our crates, lowest first. A crate may use those above it in this list, never those below.
const ORDER: [&str; 7] = [
    "kalamdb-commons",
    "kalamdb-sql",
    "kalamdb-store",
    "kalamdb-filestore",
    "kalamdb-auth",
    "kalamdb-core",
    "kalamdb-server",
];

/// What the command line, which speaks HTTP with the server, may use of ours.
const COMMAND_LINE: (&str, &[&str]) = ("kalam", &["kalamdb-commons"]);

/// Foreign libraries and the only crates of ours that may depend on them.
const DOORS: [(&str, &[&str]); 10] = [
    ("rocksdb", &["kalamdb-store"]),
    ("object_store", &["kalamdb-filestore", "kalamdb-core"]),
    // The command line writes what it exports.
    ("parquet", &["kalamdb-filestore", "kalamdb-core", "kalamdb-server", "kalam"]),
    ("datafusion", &["kalamdb-core"]),
    ("sqlparser", &["kalamdb-sql"]),
    ("argon2", &["kalamdb-auth"]),
    ("jsonwebtoken", &["kalamdb-auth"]),
    ("ring", &["kalamdb-auth"]),
    ("actix-web", &["kalamdb-server"]),
    ("figment", &["kalamdb-server"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("three folders below the root").to_path_buf()
}

fn manifests() -> Vec<Table> {
    let crates = fs::read_dir(root().join("backend/crates")).expect("the crates");
    let folders = crates.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    folders
        .chain([root().join("backend"), root().join("cli")])
        .map(|folder| fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest"))
        .map(|text| text.parse().expect("a manifest in TOML"))
        .collect()
}

fn name(manifest: &Table) -> &str {
    manifest["package"]["name"].as_str().expect("a name")
}

/// The names in the given sections.
fn dependencies<'a>(manifest: &'a Table, sections: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().map(String::as_str))
}

/// What is wrong with one crate's dependencies.
fn complaints(manifest: &Table) -> Vec<String> {
    let own = name(manifest);
    let mut found = Vec::new();
    for other in dependencies(manifest, &["dependencies", "build-dependencies", "dev-dependencies"]) {
        if let Some(theirs) = ORDER.iter().position(|name| *name == other) {
            let allowed = match ORDER.iter().position(|name| *name == own) {
                Some(ours) => theirs < ours,
                None => own == COMMAND_LINE.0 && COMMAND_LINE.1.contains(&other),
            };
            if !allowed {
                found.push(format!("{own} depends on {other}, which is not below it"));
            }
        }
    }
    for other in dependencies(manifest, &["dependencies", "build-dependencies"]) {
        if let Some((_, doors)) = DOORS.iter().find(|(library, _)| *library == other)
            && !doors.contains(&own)
        {
            found.push(format!("{own} depends on {other}, which is for {} only", doors.join(", ")));
        }
    }
    if !ORDER.contains(&own) && own != COMMAND_LINE.0 {
        found.push(format!("{own} has no place in the order of crates"));
    }
    found
}

#[test]
fn dependencies_point_down() {
    let manifests = manifests();
    assert_eq!(manifests.len(), ORDER.len() + 1, "every crate has its place in the order, and every place its crate");
    let found: Vec<String> = manifests.iter().flat_map(complaints).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_upward_edge_and_a_second_door_are_found() {
    let broken = [
        ("kalamdb-sql", "dependencies", "kalamdb-core"),
        ("kalamdb-store", "dev-dependencies", "kalamdb-filestore"),
        ("kalam", "dependencies", "kalamdb-sql"),
        ("kalamdb-core", "dependencies", "rocksdb"),
        ("kalamdb-extra", "dependencies", "serde"),
    ];
    for (own, section, other) in broken {
        let manifest = format!("[package]\nname = \"{own}\"\n[{section}]\n{other}.workspace = true\n");
        assert_eq!(complaints(&manifest.parse().expect("TOML")).len(), 1, "{own} -> {other}");
    }
}
