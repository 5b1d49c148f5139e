//! CREATE, ALTER, DROP and CHECK of storages. No error of these repeats a literal, because one of them is a secret.

use kalamdb_commons::{Error, Result};
use sqlparser::tokenizer::{Token, Word};

use crate::cursor::Cursor;
use crate::statement::{CreateStorage, Secret, Statement, StorageOptionSet, StorageType};

/// What an option of a storage takes.
enum Value {
    Text(fn(&mut StorageOptionSet) -> &mut Option<String>),
    Truth(fn(&mut StorageOptionSet) -> &mut Option<bool>),
    Secret(fn(&mut StorageOptionSet) -> &mut Option<Secret>),
}

/// An option of a storage.
struct StorageOption {
    name: &'static str,
    value: Value,
    /// Of which type only; of all if `None`.
    only: Option<StorageType>,
    /// Whether ALTER STORAGE may change it: files lie where they are.
    alterable: bool,
}

/// Every option of a storage.
const OPTIONS: &[StorageOption] = &[
    StorageOption { name: "NAME", value: Value::Text(|set| &mut set.name), only: None, alterable: true },
    StorageOption {
        name: "PATH",
        value: Value::Text(|set| &mut set.path),
        only: Some(StorageType::Filesystem),
        alterable: false,
    },
    StorageOption {
        name: "BUCKET",
        value: Value::Text(|set| &mut set.bucket),
        only: Some(StorageType::S3),
        alterable: false,
    },
    StorageOption {
        name: "PREFIX",
        value: Value::Text(|set| &mut set.prefix),
        only: Some(StorageType::S3),
        alterable: false,
    },
    StorageOption {
        name: "REGION",
        value: Value::Text(|set| &mut set.region),
        only: Some(StorageType::S3),
        alterable: true,
    },
    StorageOption {
        name: "ENDPOINT",
        value: Value::Text(|set| &mut set.endpoint),
        only: Some(StorageType::S3),
        alterable: true,
    },
    StorageOption {
        name: "ALLOW_HTTP",
        value: Value::Truth(|set| &mut set.allow_http),
        only: Some(StorageType::S3),
        alterable: true,
    },
    StorageOption {
        name: "CREDENTIALS",
        value: Value::Secret(|set| &mut set.credentials),
        only: Some(StorageType::S3),
        alterable: true,
    },
];

/// CREATE STORAGE, after the words: `[IF NOT EXISTS] id TYPE 's3' BUCKET '...' ...`.
pub(crate) fn create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("CREATE STORAGE");
    cursor.keep_secrets();
    let if_not_exists = cursor.if_not_exists();
    let id = storage_id(cursor)?;
    cursor.expect("TYPE")?;
    let _ = cursor.accept_token(&Token::Eq);
    let kind = storage_type(cursor)?;
    let _ = cursor.accept_token(&Token::Comma);
    let options = options(cursor, |_| true)?;
    options.check(kind)?;
    Ok(Statement::CreateStorage(CreateStorage { id, kind, options, if_not_exists }))
}

/// ALTER STORAGE, after the words: `id SET CREDENTIALS '...' ...`.
pub(crate) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("ALTER STORAGE");
    cursor.keep_secrets();
    let id = storage_id(cursor)?;
    cursor.expect("SET")?;
    let options = options(cursor, |option| option.alterable)?;
    Ok(Statement::AlterStorage { id, options })
}

/// DROP STORAGE, after the words.
pub(crate) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("DROP STORAGE");
    let if_exists = cursor.if_exists();
    Ok(Statement::DropStorage { id: storage_id(cursor)?, if_exists })
}

/// STORAGE CHECK, after the words.
pub(crate) fn check(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("STORAGE CHECK");
    let id = storage_id(cursor)?;
    Ok(Statement::CheckStorage { id, extended: cursor.accept("EXTENDED") })
}

/// `'s3_prod'`, `"s3_prod"` or `s3_prod`.
fn storage_id(cursor: &mut Cursor<'_>) -> Result<String> {
    match cursor.peek() {
        Token::SingleQuotedString(_) => cursor.string("a storage id"),
        _ => cursor.identifier("a storage id"),
    }
}

fn storage_type(cursor: &mut Cursor<'_>) -> Result<StorageType> {
    let text = match cursor.peek() {
        Token::Word(Word { value, .. }) | Token::SingleQuotedString(value) => value.to_ascii_lowercase(),
        _ => return Err(cursor.unexpected("a storage type: 'filesystem' or 's3'")),
    };
    let kind = match text.as_str() {
        "filesystem" => StorageType::Filesystem,
        "s3" => StorageType::S3,
        "gcs" | "azure" => {
            return Err(
                cursor.not_implemented(&format!("the storage type '{text}' (allowed are 'filesystem' and 's3')"))
            );
        }
        _ => return Err(cursor.invalid("the storage type is unknown; allowed are 'filesystem' and 's3'")),
    };
    cursor.skip();
    Ok(kind)
}

/// `NAME 'value' NAME = 'value', ...`, at least one.
fn options(cursor: &mut Cursor<'_>, allowed: impl Fn(&StorageOption) -> bool) -> Result<StorageOptionSet> {
    let mut set = StorageOptionSet::default();
    loop {
        let Some(option) = OPTIONS.iter().find(|option| cursor.sees(option.name)) else {
            return Err(cursor.unexpected(&names(&allowed)));
        };
        if !allowed(option) {
            return Err(cursor.invalid(format!(
                "{} cannot be changed: the files lie where they are; create another storage",
                option.name
            )));
        }
        cursor.skip();
        let _ = cursor.accept_token(&Token::Eq);
        let is_first = match &option.value {
            Value::Text(place) => place(&mut set).replace(cursor.string(option.name)?).is_none(),
            Value::Truth(place) => place(&mut set).replace(truth(cursor)?).is_none(),
            Value::Secret(place) => place(&mut set).replace(Secret::new(cursor.secret(option.name)?)).is_none(),
        };
        if !is_first {
            return Err(cursor.invalid(format!("{} is said twice", option.name)));
        }
        if !cursor.accept_token(&Token::Comma) && cursor.at_end() {
            return Ok(set);
        }
    }
}

fn names(allowed: impl Fn(&StorageOption) -> bool) -> String {
    let names: Vec<&str> = OPTIONS.iter().filter(|option| allowed(option)).map(|option| option.name).collect();
    names.join(", ")
}

fn truth(cursor: &mut Cursor<'_>) -> Result<bool> {
    let text = match cursor.peek() {
        Token::Word(Word { value, .. }) | Token::SingleQuotedString(value) => value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let truth = match text.as_str() {
        "true" => true,
        "false" => false,
        _ => return Err(cursor.unexpected("TRUE or FALSE")),
    };
    cursor.skip();
    Ok(truth)
}

impl StorageOptionSet {
    /// Refuses options that mean nothing for the type.
    pub fn check_type(&self, kind: StorageType) -> Result<()> {
        for option in OPTIONS.iter().filter(|option| option.only.is_some_and(|only| only != kind)) {
            let mut copy = self.clone();
            let is_set = match &option.value {
                Value::Text(place) => place(&mut copy).is_some(),
                Value::Truth(place) => place(&mut copy).is_some(),
                Value::Secret(place) => place(&mut copy).is_some(),
            };
            if is_set {
                return Err(Error::invalid_input(format!(
                    "{} is not for storages of type '{}'",
                    option.name,
                    kind.as_str()
                )));
            }
        }
        Ok(())
    }

    /// As [`Self::check_type`], and refuses the lack of the option that the type needs.
    pub fn check(&self, kind: StorageType) -> Result<()> {
        self.check_type(kind)?;
        let (needed, given) = match kind {
            StorageType::Filesystem => ("PATH", &self.path),
            StorageType::S3 => ("BUCKET", &self.bucket),
        };
        match given.as_deref() {
            Some("") | None => {
                Err(Error::invalid_input(format!("a storage of type '{}' needs {needed} '...'", kind.as_str())))
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
