//! A text that must not be shown: it prints as `****` and is wiped from memory when dropped.
//!
//! ```
//! # use secret_string::SecretString;
//! let key = SecretString::from("sk-1");
//! assert_eq!(format!("{key:?}"), "****");
//! assert_eq!(key.expose(), "sk-1");
//! ```

use std::fmt;

use zeroize::Zeroizing;

/// A secret value: a token, a key, the value of a secret's variable.
///
/// There is no `Display`; whoever sends it must say so with [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// The value itself: for the wire, never for a log, an error or a command line. Every use is a place to look at in a
    /// review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl From<&str> for SecretString {
    fn from(value: &str) -> Self {
        Self::from(value.to_owned())
    }
}

impl From<&String> for SecretString {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
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
