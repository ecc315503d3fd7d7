//! Patterns of domain names, as Modal's domain allow-lists write them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// `example.com`, `*.example.com` (any depth below it, not itself) or `*` (every name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainPattern {
    /// Lower case, without a final dot.
    text: String,
}

impl DomainPattern {
    /// Whether `name` is meant. Case and a final dot do not matter.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match self.text.strip_prefix('*') {
            Some("") => true,
            Some(below) => name.strip_suffix(below).is_some_and(|label| !label.is_empty()),
            None => name == self.text,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let trimmed = text.trim();
        let lower = trimmed.to_ascii_lowercase();
        let (stars, name) =
            lower.strip_prefix("*.").map_or(("", lower.as_str()), |name| ("*.", name));
        let name = name.strip_suffix('.').unwrap_or(name);
        if lower == "*" || is_name(name) {
            Ok(Self { text: format!("{stars}{name}") })
        } else {
            Err(Error::Domain { text: text.to_owned() })
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<DomainPattern>().unwrap().matches(name)
    }

    #[test]
    fn a_name_means_itself_and_a_wildcard_what_lies_below() {
        assert!(matches("Example.com", "example.COM."));
        assert!(!matches("example.com", "www.example.com"));
        assert!(matches("*.example.com", "a.b.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.example.com", "badexample.com"));
        assert!(!matches("*.example.com", ".example.com"));
        assert!(!matches("example.com", "example.com.evil.net"));
        assert!(matches("*", "anything.at.all"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "*.",
            "*example.com",
            "a..b",
            "http://example.com",
            "exa mple.com",
            "*.*.com",
            "example.com:443",
        ] {
            assert!(text.parse::<DomainPattern>().is_err(), "{text}");
        }
    }
}
