//! Marks by which equal values are known, and nothing else of them.

use std::fmt;

use ring::hmac;
use secret_string::SecretString;

use crate::error::{Error, Result};

/// Enough to tell values apart, too little to guess from: 48 bits of a keyed hash.
const BYTES: usize = 6;

/// The mark of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// As it was stored.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text, to be shown or stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes marks with a key that is the environment's own, so that a mark says nothing elsewhere.
#[derive(Debug, Clone)]
pub struct Fingerprints {
    salt: SecretString,
}

impl Fingerprints {
    /// With a new key.
    pub fn generate() -> Result<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(Error::Random)?;
        Ok(Self { salt: hex::encode(salt).into() })
    }

    /// With the key of an environment that has one.
    pub fn with_salt(salt: impl Into<SecretString>) -> Self {
        Self { salt: salt.into() }
    }

    /// The key, to be kept beside the marks.
    pub fn salt(&self) -> &SecretString {
        &self.salt
    }

    /// The mark of a variable's value; another variable with the same value has another mark.
    pub fn of(&self, name: &str, value: &SecretString) -> Fingerprint {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.salt.expose().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(name.as_bytes());
        context.update(b"\0");
        context.update(value.expose().as_bytes());
        Fingerprint(hex::encode(&context.sign().as_ref()[..BYTES]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_marks_under_one_name_and_one_key() {
        let (one, other) = (Fingerprints::with_salt("a"), Fingerprints::with_salt("b"));
        let value = SecretString::from("value");
        assert_eq!(one.of("KEY", &value), Fingerprints::with_salt("a").of("KEY", &value));
        assert_ne!(one.of("KEY", &value), other.of("KEY", &value));
        assert_ne!(one.of("KEY", &value), one.of("OTHER", &value));
        assert_eq!(one.of("KEY", &value).as_str().len(), 12);
    }
}
