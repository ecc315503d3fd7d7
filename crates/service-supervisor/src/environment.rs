//! The variables that the container was started with, and which of them a service gets.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secret_string::SecretString;

use crate::error::{Error, Result};
use crate::plan::Value;

/// What may stand in a URL's user, password or path as it is (RFC 3986, "unreserved").
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What every program needs, and nobody keeps secret.
const COMMON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The variables that the container was started with. All of them count as secret.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, SecretString>);

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        Self::from_iter(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name).filter(|value| !value.expose().is_empty())
    }

    pub(crate) fn need(&self, name: &str, wanted_by: &str) -> Result<&SecretString> {
        self.get(name).ok_or_else(|| Error::MissingVariable {
            name: name.to_owned(),
            wanted_by: wanted_by.to_owned(),
        })
    }

    /// The whole environment of a service: what its plan names, and what every program needs.
    pub(crate) fn select(
        &self,
        wanted: &BTreeMap<String, Value>,
        wanted_by: &str,
    ) -> Result<BTreeMap<String, SecretString>> {
        let common = COMMON.iter().filter_map(|name| Some(((*name).to_owned(), self.get(name)?)));
        let mut selected: BTreeMap<_, _> =
            common.map(|(name, value)| (name, value.clone())).collect();
        for (name, value) in wanted {
            if let Some(value) = self.value(value, wanted_by)? {
                selected.insert(name.clone(), value);
            }
        }
        Ok(selected)
    }

    fn value(&self, value: &Value, wanted_by: &str) -> Result<Option<SecretString>> {
        match value {
            Value::Text(text) => Ok(Some(text.as_str().into())),
            Value::From(name) => self.need(name, wanted_by).cloned().map(Some),
            Value::FromAny(names) => Ok(names.iter().find_map(|name| self.get(name)).cloned()),
            Value::Url(template) => self.url(template, wanted_by).map(Some),
        }
    }

    /// Replaces each `{NAME}`; braces that hold no name stay.
    fn url(&self, template: &str, wanted_by: &str) -> Result<SecretString> {
        let mut url = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            url.push_str(before);
            match after.split_once('}') {
                Some((name, tail)) if is_name(name) => {
                    let value = self.need(name, wanted_by)?;
                    url.extend(utf8_percent_encode(value.expose(), UNRESERVED));
                    rest = tail;
                }
                _ => {
                    url.push('{');
                    rest = after;
                }
            }
        }
        url.push_str(rest);
        Ok(url.into())
    }
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_part)
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let pairs = [
            ("PATH", "/bin"),
            ("POSTGRES_USER", "goat"),
            ("POSTGRES_PASSWORD", "p@ss/w{rd"),
            ("ADMIN_PASSWORD", "never"),
            ("EMPTY", ""),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn select(wanted: &[(&str, Value)]) -> Result<Vec<String>> {
        let wanted = wanted.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let selected = environment().select(&wanted.collect(), "service `x`")?;
        Ok(selected.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect())
    }

    #[test]
    fn a_service_sees_what_its_plan_names_and_nothing_else() {
        let url = "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@127.0.0.1/{}{x";
        let selected = select(&[
            ("MODE", Value::Text("{POSTGRES_USER}".into())),
            ("DATABASE_URL", Value::Url(url.into())),
            ("USER_NAME", Value::From("POSTGRES_USER".into())),
            ("SALT", Value::FromAny(vec!["EMPTY".into(), "POSTGRES_USER".into()])),
            ("KEY", Value::FromAny(vec!["EMPTY".into()])),
        ]);
        insta::assert_snapshot!(selected.unwrap().join("\n"), @r"
        DATABASE_URL=postgresql://goat:p%40ss%2Fw%7Brd@127.0.0.1/{}{x
        MODE={POSTGRES_USER}
        PATH=/bin
        SALT=goat
        USER_NAME=goat
        ");
    }

    #[test]
    fn a_variable_that_is_not_there_is_named_with_who_wants_it() {
        let error = select(&[("A", Value::From("EMPTY".into()))]).unwrap_err();
        insta::assert_snapshot!(error, @"service `x` needs the variable `EMPTY`, which is not set or empty: is its secret attached?");
    }

    #[test]
    fn no_value_is_shown() {
        let shown = format!("{:?}", environment());
        assert!(!shown.contains("goat") && !shown.contains("never"), "{shown}");
    }
}
