//! Names of containers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A container's name: 1 to 64 letters, digits, `-`, `_`. It becomes part of a control group's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(Error::InvalidSpec {
                field: "container id",
                reason: format!("`{text:.80}` is not 1 to 64 of letters, digits, `-` and `_`"),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for bad in ["", "..", "a/b", "a\0", "%2e", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
        assert!("sb-Ab_9".parse::<ContainerId>().is_ok());
    }
}
