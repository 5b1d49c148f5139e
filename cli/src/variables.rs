//! Variables in SQL, as `psql` has them: `:name` is replaced by a value as it is, `:'name'` by it as a text in quotes,
//! `:"name"` as a name in quotes. Nothing is replaced within quotes and comments; what is not set stays as it is.

use std::collections::BTreeMap;

use crate::statements;

/// The variables of a session.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Sets a variable. The error says what a name is.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name || name.starts_with(|c: char| c.is_numeric()) {
            return Err(format!(
                "'{name}' is not the name of a variable: letters, digits and _ are, not a digit first"
            ));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Reads `name=value`.
    pub(crate) fn assign(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not name=value"))?;
        self.set(name, value)
    }

    /// Forgets a variable.
    pub(crate) fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them, a line each.
    pub(crate) fn listed(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect()
    }

    /// A text with the variables in it replaced.
    pub(crate) fn replaced(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        statements::with_variables(text, |name| {
            let (quote, name) = match name.chars().next()? {
                quote @ ('\'' | '"') => (Some(quote), name.get(1..name.len() - 1)?),
                _ => (None, name),
            };
            let value = self.0.get(name)?;
            Some(match quote {
                Some(quote) => format!("{quote}{}{quote}", value.replace(quote, &format!("{quote}{quote}"))),
                None => value.clone(),
            })
        })
    }
}

#[cfg(test)]
mod tests;
