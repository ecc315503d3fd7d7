//! Paths inside a volume: lists of plain names that cannot lead out of it.

use std::fmt;

use crate::error::{Error, Result};

/// Longest name in a path, as in most file systems.
const MAX_NAME: usize = 255;
/// Longest path.
const MAX_PATH: usize = 4_096;

/// A path relative to a volume's root: no `..`, no empty name, no NUL. Empty is the root itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct VolumePath {
    names: Vec<String>,
}

impl VolumePath {
    /// Takes `/a/b`, `a/b`, `a//b/` and `./a/b` for the same path.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Err(Error::invalid(format!("invalid path {shown:?}: {why}")))
        };
        if text.len() > MAX_PATH {
            return refuse("it is longer than 4096 bytes");
        }
        if text.contains('\0') {
            return refuse("it contains NUL");
        }
        let names: Vec<&str> =
            text.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if names.contains(&"..") {
            return refuse("`..` is not allowed");
        }
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return refuse("a name in it is longer than 255 bytes");
        }
        Ok(Self { names: names.into_iter().map(str::to_owned).collect() })
    }

    /// Its names, from the root on.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The directory it lies in and its last name; `None` for the root.
    pub(crate) fn split_last(&self) -> Option<(&[String], &str)> {
        self.names.split_last().map(|(last, parents)| (parents, last.as_str()))
    }

    /// The path of an entry of this directory.
    pub(crate) fn join(&self, name: &str) -> Self {
        let mut names = self.names.clone();
        names.push(name.to_owned());
        Self { names }
    }
}

/// Without a leading slash, as lists of files write it.
impl fmt::Display for VolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_path() {
        for text in ["/a/b", "a/b", "a//b/", "./a/./b"] {
            assert_eq!(VolumePath::parse(text).unwrap().to_string(), "a/b", "{text}");
        }
        for root in ["", "/", ".", "//"] {
            assert!(VolumePath::parse(root).unwrap().names().is_empty());
        }
    }

    #[test]
    fn nothing_that_leads_out() {
        let long = "x".repeat(256);
        for text in ["..", "/..", "a/../b", "a/..", "a\0b", &long, &"a/".repeat(2_049)] {
            VolumePath::parse(text).unwrap_err();
        }
        assert_eq!(VolumePath::parse("a/...").unwrap().to_string(), "a/...");
    }

    proptest! {
        #[test]
        fn what_parses_has_only_plain_names(text in any::<String>()) {
            if let Ok(path) = VolumePath::parse(&text) {
                for name in path.names() {
                    prop_assert!(!name.is_empty() && name != "." && name != "..");
                    prop_assert!(!name.contains(['/', '\0']));
                }
                prop_assert_eq!(VolumePath::parse(&path.to_string()).unwrap(), path);
            }
        }
    }
}
