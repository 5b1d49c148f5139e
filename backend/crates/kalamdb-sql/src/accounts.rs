//! CREATE, ALTER, DROP and ERASE USER, EXPORT USER DATA. No error of these repeats a literal, because one of them is a password.

use kalamdb_commons::Result;
use kalamdb_commons::limits::UserLimit;
use kalamdb_commons::schema::Role;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Word};

use crate::cursor::Cursor;
use crate::statement::{CreateUser, ExportUser, Secret, Statement, UserChange};

/// CREATE USER, after the words.
pub(crate) fn create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("CREATE USER");
    cursor.keep_secrets();
    let if_not_exists = cursor.if_not_exists();
    let name = user_name(cursor)?;
    let _ = cursor.accept("WITH");
    let (mut password, mut role, mut email) = (None, None, None);
    while !cursor.at_end() {
        let first = match change(cursor)? {
            UserChange::Password(secret) => password.replace(secret).is_none(),
            UserChange::Role(said) => role.replace(said).is_none(),
            UserChange::Email(address) => email.replace(address).is_none(),
            UserChange::Limit(..) => {
                return Err(cursor.not_implemented("LIMIT in CREATE USER; use ALTER USER ... SET LIMIT"));
            }
        };
        if !first {
            return Err(cursor.invalid("CREATE USER says something twice"));
        }
    }
    let password = password.ok_or_else(|| cursor.unexpected("PASSWORD '...'"))?;
    let role = role.unwrap_or(Role::User);
    Ok(Statement::CreateUser(CreateUser { name, password, role, email, if_not_exists }))
}

/// ALTER USER, after the words.
pub(crate) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("ALTER USER");
    cursor.keep_secrets();
    let name = user_name(cursor)?;
    if !cursor.accept("SET") && !cursor.accept("WITH") && cursor.sees("RENAME") {
        return Err(cursor.not_implemented("ALTER USER ... RENAME"));
    }
    Ok(Statement::AlterUser { name, change: change(cursor)? })
}

/// DROP USER, after the words.
pub(crate) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("DROP USER");
    let if_exists = cursor.if_exists();
    let name = user_name(cursor)?;
    if *cursor.peek() == Token::Comma {
        return Err(cursor.not_implemented("dropping several users in one statement"));
    }
    Ok(Statement::DropUser { name, if_exists })
}

/// ERASE, after the word: `USER 'alice'`.
pub(crate) fn erase(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("ERASE USER");
    cursor.expect("USER")?;
    Ok(Statement::EraseUser { name: user_name(cursor)? })
}

/// EXPORT, after the word: `USER DATA 'alice' TO 'place'`.
pub(crate) fn export(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.call("EXPORT USER DATA");
    cursor.expect("USER")?;
    cursor.expect("DATA")?;
    let _ = cursor.accept("OF") || cursor.accept("FOR");
    let name = user_name(cursor)?;
    cursor.expect("TO")?;
    Ok(Statement::ExportUser(ExportUser { name, to: cursor.string("a directory or a storage, as text")? }))
}

/// `'alice'`, `"alice"` or `alice`.
fn user_name(cursor: &mut Cursor<'_>) -> Result<String> {
    match cursor.peek() {
        Token::SingleQuotedString(_) => cursor.string("a user name"),
        _ => cursor.identifier("a user name"),
    }
}

/// `LIMIT name [=] n`, `LIMIT name UNLIMITED` or `LIMIT name DEFAULT`, after the word.
fn limit(cursor: &mut Cursor<'_>) -> Result<UserChange> {
    let limit = UserLimit::parse(&cursor.identifier("the name of a limit")?)?;
    let _ = cursor.accept_token(&Token::Eq);
    if cursor.accept("DEFAULT") {
        return Ok(UserChange::Limit(limit, None));
    }
    let max = if cursor.accept("UNLIMITED") { 0 } else { cursor.whole_number("a number, UNLIMITED or DEFAULT")? };
    Ok(UserChange::Limit(limit, Some(max)))
}

/// `PASSWORD '...'`, `ROLE ...`, `EMAIL '...'` or `LIMIT ...`.
fn change(cursor: &mut Cursor<'_>) -> Result<UserChange> {
    if cursor.accept("PASSWORD") {
        return Ok(UserChange::Password(Secret::new(cursor.secret("a password")?)));
    }
    if cursor.accept("ROLE") {
        let text = match cursor.peek() {
            Token::Word(Word { value, .. }) | Token::SingleQuotedString(value) => value.clone(),
            _ => return Err(cursor.unexpected("a role: user, service, dba or system")),
        };
        cursor.skip();
        return Role::parse(&text).map(UserChange::Role);
    }
    if cursor.accept("EMAIL") {
        return cursor.string("an e-mail address").map(UserChange::Email);
    }
    if cursor.accept("LIMIT") {
        return limit(cursor);
    }
    Err(match cursor.peek() {
        // Only a keyword is repeated: another word may be a password without its quotes.
        Token::Word(Word { value, quote_style: None, keyword }) if *keyword != Keyword::NoKeyword => {
            cursor.refuse_clause(&value.to_ascii_uppercase())
        }
        _ => cursor.unexpected("PASSWORD, ROLE, EMAIL or LIMIT"),
    })
}

#[cfg(test)]
mod tests;
