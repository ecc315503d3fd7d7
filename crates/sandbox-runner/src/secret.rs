//! Values that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// A key. Printed as `Secret(****)`, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// What stands in place of a secret.
pub(crate) const MASK: &str = "****";

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// A fresh random value: `prefix` and 32 hexadecimal digits.
    pub fn random(prefix: &str) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0u8; 16]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self::new(format!("{prefix}{}", hex::encode(*bytes))))
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the value. Values of fewer than 8 characters are no secrets worth the damage.
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < 8 { text.to_owned() } else { text.replace(self.expose(), MASK) }
    }

    /// [`Secret::redact`] for bytes that need not be text.
    pub fn redact_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let key = self.0.as_bytes();
        if key.len() < 8 || !bytes.windows(key.len()).any(|window| window == key) {
            return bytes;
        }
        let mut kept = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(key.len()).position(|window| window == key) {
            kept.extend_from_slice(&rest[..at]);
            kept.extend_from_slice(MASK.as_bytes());
            rest = &rest[at + key.len()..];
        }
        kept.extend_from_slice(rest);
        kept
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_is_cut_out_of_texts() {
        let secret = Secret::new("sk-0123456789");
        assert_eq!(format!("{secret:?}"), "Secret(****)");
        assert_eq!(secret.redact("key sk-0123456789!"), "key ****!");
        assert_eq!(secret.redact_bytes(b"\xffsk-0123456789sk-0123456789".into()), b"\xff********");
        assert_eq!(Secret::new("").redact("unchanged"), "unchanged");
    }
}
