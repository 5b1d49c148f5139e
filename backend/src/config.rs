//! Settings: read once, validated whole, shared as one value (FR-082 to FR-087).
//!
//! Three layers, the later one wins: defaults, `server.toml`, the environment (`KALAMDB_<SECTION>__<KEY>`, and
//! `KALAMDB_ROOT_PASSWORD` for `auth.root_password`). Every problem in any layer is found before anything is
//! said, and each names the key, the value, where it came from and what is allowed. This module alone reads
//! files and the environment for settings.
//!
//! | module | holds |
//! |---|---|
//! | [`rules`] | what each key may be, in one table, and the rules between keys |
//! | [`print`] | `--print-config` and `server.example.toml` |
//! | [`heaps`] | the one setting that is the C library's |

pub(crate) mod heaps;
pub(crate) mod print;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kalamdb_commons::settings::Settings;
use toml::{Table, Value};

/// The file that is read when none is named and it is there.
const DEFAULT_FILE: &str = "server.toml";
const ENV_PREFIX: &str = "KALAMDB_";
const ROOT_PASSWORD_ALIAS: &str = "KALAMDB_ROOT_PASSWORD";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable.
    Environment(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment: {name}"),
        }
    }
}

/// One thing that is wrong with the settings: a whole sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Settings that passed every check.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) settings: Settings,
    /// Where each `section.key` came from; those that are not here are defaults.
    sources: BTreeMap<String, Source>,
    /// What is allowed but looks like a mistake.
    pub(crate) warnings: Vec<String>,
}

impl Loaded {
    fn source(&self, path: &str) -> &Source {
        self.sources.get(path).unwrap_or(&Source::Default)
    }

    /// Where each `section.key` that is not a default came from, in words.
    pub(crate) fn source_names(&self) -> BTreeMap<String, String> {
        self.sources.iter().map(|(path, source)| (path.clone(), source.to_string())).collect()
    }
}

/// Reads and validates everything. `file` is what `--config` named.
pub(crate) fn load(file: Option<&Path>) -> Result<Loaded, Vec<Problem>> {
    let text = read_file(file).map_err(|problem| vec![problem])?;
    Layers::default().with_file(text)?.with_environment(environment()).validated()
}

fn read_file(file: Option<&Path>) -> Result<Option<(PathBuf, String)>, Problem> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem(format!("cannot read the configuration file {}: {error}", path.display()))),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment for settings")]
fn environment() -> Vec<(String, String)> {
    let ours = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with(ENV_PREFIX));
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    };
    std::env::vars_os().filter(|(name, _)| ours(name)).map(text).collect()
}

/// The values so far, and what was wrong with them.
struct Layers {
    values: Table,
    sources: BTreeMap<String, Source>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Default for Layers {
    fn default() -> Self {
        let values = Table::try_from(Settings::default()).unwrap_or_else(|_| unreachable!("settings are plain values"));
        Self { values, sources: BTreeMap::new(), problems: Vec::new(), warnings: Vec::new() }
    }
}

impl Layers {
    /// Only text that is no TOML at all ends the reading here; what is wrong inside is collected.
    fn with_file(mut self, file: Option<(PathBuf, String)>) -> Result<Self, Vec<Problem>> {
        let Some((path, text)) = file else { return Ok(self) };
        let table: Table = text.parse().map_err(|error| {
            vec![Problem(format!("{} is not valid TOML: {error}", path.display()).trim_end().into())]
        })?;
        let source = Source::File(path);
        for (section, content) in table {
            match content {
                Value::Table(keys) if self.values.contains_key(&section) => {
                    for (key, value) in keys {
                        self.set(&section, &key, value, source.clone());
                    }
                }
                Value::Table(_) => self.unknown_section(&section, &source),
                _ if self.values.contains_key(&section) => self.problem(format!(
                    "{section} ({source}) is a section: write [{section}] on a line of its own, and its keys below"
                )),
                _ => self.problem(format!(
                    "{section} ({source}) stands outside any section; the sections are {}",
                    section_names()
                )),
            }
        }
        Ok(self)
    }

    fn with_environment(mut self, variables: Vec<(String, String)>) -> Self {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            let source = Source::Environment(name.clone());
            if name == ROOT_PASSWORD_ALIAS {
                self.set("auth", "root_password", Value::String(value), source);
            } else if let Some((section, key)) = rest.split_once("__") {
                let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
                if self.values.contains_key(&section) {
                    let value = typed(value, self.default_of(&section, &key));
                    self.set(&section, &key, value, source);
                } else {
                    self.unknown_section(&section, &source);
                }
            } else {
                self.warn_of_single_underscore(&name, rest);
            }
        }
        self
    }

    /// `KALAMDB_SERVER_PORT` is most likely meant as `KALAMDB_SERVER__PORT`, but the name may be somebody else's.
    fn warn_of_single_underscore(&mut self, name: &str, rest: &str) {
        let meant = rules::paths().map(|(section, key)| format!("{section}_{key}")).zip(rules::paths());
        for (joined, (section, key)) in meant {
            if joined.eq_ignore_ascii_case(rest) {
                let (section, key) = (section.to_ascii_uppercase(), key.to_ascii_uppercase());
                self.warnings.push(format!(
                    "the variable {name} is not read; {ENV_PREFIX}{section}__{key}, with two underscores, would be"
                ));
            }
        }
    }

    fn default_of(&self, section: &str, key: &str) -> Option<&Value> {
        self.values.get(section).and_then(|keys| keys.get(key))
    }

    fn set(&mut self, section: &str, key: &str, value: Value, source: Source) {
        let path = format!("{section}.{key}");
        let Some(default) = self.default_of(section, key) else {
            let known: Vec<&str> = rules::paths().filter(|(s, _)| *s == section).map(|(_, key)| key).collect();
            return self.problem(format!("{path} ({source}) is not a setting; {}", hint(key, &known, "")));
        };
        if let Some(allowed) = rules::refusal(&path, default, &value) {
            return self.problem(format!("{path} = {} ({source}) is not allowed: {allowed}", shown(&path, &value)));
        }
        if let Some(keys) = self.values.get_mut(section).and_then(Value::as_table_mut) {
            keys.insert(key.to_owned(), value);
        }
        self.sources.insert(path, source);
    }

    fn unknown_section(&mut self, section: &str, source: &Source) {
        let known: Vec<&str> = Settings::SECTIONS.iter().map(|(name, _)| *name).collect();
        self.problem(format!("[{section}] ({source}) is not a section; {}", hint(section, &known, "[]")));
    }

    fn problem(&mut self, sentence: String) {
        self.problems.push(Problem(sentence));
    }

    /// The rules between keys are checked even if single keys are wrong; those stand at their defaults.
    fn validated(mut self) -> Result<Loaded, Vec<Problem>> {
        match self.values.clone().try_into::<Settings>() {
            Ok(settings) => {
                for conflict in rules::conflicts(&settings) {
                    self.problem(conflict);
                }
                if self.problems.is_empty() {
                    self.warnings.extend(rules::warnings(&settings));
                    return Ok(Loaded { settings, sources: self.sources, warnings: self.warnings });
                }
            }
            Err(error) => self.problem(format!("the settings do not fit together: {error}")),
        }
        Err(self.problems)
    }
}

/// A variable's text as the kind of value that the key has. Text that is not of the kind stays text, and is
/// refused as such.
fn typed(text: String, default: Option<&Value>) -> Value {
    let trimmed = text.trim();
    match default {
        Some(Value::Integer(_)) => trimmed.parse().map(Value::Integer).unwrap_or(Value::String(text)),
        Some(Value::Boolean(_)) => trimmed.parse().map(Value::Boolean).unwrap_or(Value::String(text)),
        _ => Value::String(text),
    }
}

fn is_secret(path: &str) -> bool {
    Settings::SECRETS.contains(&path)
}

/// A value as TOML; `"***"` for one that is secret and set.
fn shown(path: &str, value: &Value) -> String {
    let empty = value.as_str().is_some_and(str::is_empty);
    if is_secret(path) && !empty { "\"***\"".to_owned() } else { value.to_string() }
}

/// The nearest known name if one is near, or all of them. `around` are brackets to write names in.
fn hint(name: &str, known: &[&str], around: &str) -> String {
    let (open, close) = around.split_at(around.len() / 2);
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => format!("did you mean {open}{known}{close}?"),
        _ => format!("allowed are {}", known.join(", ")),
    }
}

fn section_names() -> String {
    Settings::SECTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
