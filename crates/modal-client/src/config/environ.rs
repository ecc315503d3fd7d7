//! The variables that a configuration is read from: handed over by a binary, made up by a test.

use std::{collections::BTreeMap, fmt};

/// Environment variables, as a value.
///
/// A binary passes its own: [`Environ::of_process`]. `Debug` shows names only, since
/// variables hold tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environ(BTreeMap<String, String>);

impl Environ {
    /// The variables of an iterator of names and values.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The variables of this process; those that are not UTF-8 are left out. The only place where this
    /// library reads them: nothing does it unasked.
    pub fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
                .collect(),
        )
    }

    /// A variable's value; `None` where it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Environ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_unset_and_values_are_not_printed() {
        let environ = Environ::from_pairs([("A", ""), ("B", "planted")]);
        assert_eq!((environ.get("A"), environ.get("B")), (None, Some("planted")));
        assert_eq!(format!("{environ:?}"), r#"{"A", "B"}"#);
    }
}
