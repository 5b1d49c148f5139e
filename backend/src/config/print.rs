//! The settings as text: `--print-config` and `server.example.toml`, both with the documentation that stands
//! beside the fields of [`Settings`].

use kalamdb_commons::settings::Settings;
use toml::{Table, Value};

use super::{Loaded, rules, shown};

const WIDTH: usize = 110;

const EXAMPLE_HEAD: &str = "\
# KalamDB's settings, each with its default and what it trades.
#
# Copy this file to server.toml and change what you need; a setting that is left out has its default. Each can
# also be given as a variable, KALAMDB_<SECTION>__<KEY>, which wins over the file: KALAMDB_SERVER__PORT=9000.
# `kalamdb-server --check-config` finds mistakes; `kalamdb-server --print-config` shows what is in force.
#
# Made by `kalamdb-server --print-example-config`.
";

/// What is in force, with the source of each value. Secrets are masked.
pub(crate) fn effective(loaded: &Loaded) -> String {
    let values = table(&loaded.settings);
    render("", |path, section, key| {
        let value = shown(path, value_of(&values, section, key));
        format!("{key} = {value} # {}\n", loaded.source(path))
    })
}

/// The example file: every setting at its default, commented out.
pub(crate) fn example() -> String {
    let values = table(&Settings::default());
    render(EXAMPLE_HEAD, |path, section, key| {
        let allowed = rules::allowed(path).map_or(String::new(), |allowed| format!("# Allowed: {allowed}.\n"));
        format!("{allowed}# {key} = {}\n", value_of(&values, section, key))
    })
}

fn render(head: &str, mut line: impl FnMut(&str, &str, &str) -> String) -> String {
    let mut text = head.to_owned();
    for (section, keys) in Settings::SECTIONS {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[{section}]\n"));
        for (key, documentation) in *keys {
            text.push('\n');
            text.push_str(&comment(documentation));
            text.push_str(&line(&format!("{section}.{key}"), section, key));
        }
    }
    text
}

fn table(settings: &Settings) -> Table {
    Table::try_from(settings).unwrap_or_else(|_| unreachable!("settings are plain values"))
}

fn value_of<'a>(values: &'a Table, section: &str, key: &str) -> &'a Value {
    values
        .get(section)
        .and_then(|keys| keys.get(key))
        .unwrap_or_else(|| unreachable!("SECTIONS lists the fields of Settings"))
}

/// Wraps documentation into comment lines.
fn comment(documentation: &str) -> String {
    let mut text = String::new();
    let mut line = "#".to_owned();
    for word in documentation.split_whitespace() {
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
    text
}
