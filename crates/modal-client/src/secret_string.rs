//! A string that must not be shown: it prints as `****` and is wiped from memory when dropped.

use std::fmt;

use zeroize::Zeroize as _;

/// A secret value: a token, a key, the value of a secret's variable.
///
/// There is no `Display`; whoever sends it must say so with [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(String);

impl SecretString {
    /// The value itself: for the wire, never for a log, an error or a command line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretString {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl From<&str> for SecretString {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl From<&String> for SecretString {
    fn from(value: &String) -> Self {
        Self(value.clone())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let secret = SecretString::from("sk-value");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "**** Some(\n    ****,\n)");
        assert_eq!(secret.expose(), "sk-value");
    }
}
