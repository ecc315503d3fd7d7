//! Paths of requests, and patterns of them.
//!
//! A path passes only if everybody who reads it reads the same: a service may decode it, fold `..` or
//! double slashes before it looks at it, and would then see another path than the one that was checked.

use std::fmt;

use percent_encoding::percent_decode_str;

/// A path without tricks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    parts: Vec<&'a str>,
}

impl<'a> Path<'a> {
    /// `None` for what could be read in two ways: empty parts, `.`, `..`, controls, backslashes, and bytes
    /// that are encoded twice. An encoded slash stays in its part: names may hold one.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let last = parts.len() - 1;
        // A slash at the end makes one empty part, which is like no other path.
        let is_sound = |(index, part): (usize, &&str)| {
            (!part.is_empty() || index == last) && part_is_sound(part)
        };
        parts.iter().enumerate().all(is_sound).then_some(Self { parts })
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

fn part_is_sound(part: &str) -> bool {
    let Ok(decoded) = percent_decode_str(part).decode_utf8() else { return false };
    let encoded_again =
        decoded.contains('%') && percent_decode_str(&decoded).count() < decoded.len();
    let is_bad = |c: char| c.is_control() || c == '\\';
    let climbs = decoded.split('/').any(|name| matches!(name, "." | ".."));
    !encoded_again && !climbs && !decoded.chars().any(is_bad)
}

/// Paths that a route names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Exactly(String),
    AnyOne,
    /// Only at the end: one part or more, or an empty one.
    AnyRest,
}

impl Pattern {
    /// `/a/*/b` fits any one part in the middle, `/a/*` any path below `/a`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
        let last = parts.len() - 1;
        let part = |(index, part): (usize, &&str)| match *part {
            "*" if index == last => Some(Part::AnyRest),
            "*" => Some(Part::AnyOne),
            part if part.contains('*') || !part_is_sound(part) => None,
            part if part.is_empty() && index != last => None,
            part => Some(Part::Exactly(part.to_owned())),
        };
        parts.iter().enumerate().map(part).collect::<Option<_>>().map(|parts| Self { parts })
    }

    /// Whether it is what the pattern names. Letters are compared as they are, and nothing is decoded:
    /// an encoded letter fits no name, so that it passes only where anything does.
    pub(crate) fn fits(&self, path: &Path<'_>) -> bool {
        let mut given = path.parts.iter();
        for part in &self.parts {
            let fits = match (part, given.next()) {
                (Part::AnyRest, Some(_)) => return true,
                (Part::Exactly(name), Some(given)) => name == given,
                (Part::AnyOne, Some(given)) => !given.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().fits(&Path::parse(path).unwrap())
    }

    #[test]
    fn patterns_fit_what_they_name() {
        assert!(fits("/v1/models", "/v1/models"));
        assert!(!fits("/v1/models", "/v1/models/"));
        assert!(!fits("/v1/models", "/v1/models/x"));
        assert!(!fits("/v1/models", "/v1"));
        assert!(!fits("/v1/models", "/v1/m%6fdels"));
        assert!(fits("/api/*", "/api/public/traces/x") && fits("/api/*", "/api/"));
        assert!(!fits("/api/*", "/api") && !fits("/api/*", "/apix/y"));
        assert!(fits("/engines/*/completions", "/engines/a%2Fb/completions"));
        assert!(!fits("/engines/*/completions", "/engines/a/b/completions"));
        assert!(fits("/*", "/") && fits("/*", "/a/b"));
        assert!(fits("/", "/"));
    }

    #[test]
    fn paths_that_can_be_read_in_two_ways_do_not_pass() {
        let tricks = [
            "",
            "a",
            "//a",
            "/a//b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/a/..%2fb",
            "/./a",
            "/a%5c..%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%252e%252e",
            "/a%25%32%65",
            "/%ff",
        ];
        for path in tricks {
            assert_eq!(Path::parse(path), None, "{path}");
        }
        assert!(Path::parse("/a/..b/...").is_some() && Path::parse("/100%25").is_some());
    }

    #[test]
    fn patterns_that_say_nothing_are_refused() {
        for pattern in ["", "a", "/a*", "/a//b", "/../a"] {
            assert_eq!(Pattern::parse(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_never_climbs_however_it_is_read(path in "/[a./%25ef\\\\]{0,12}") {
            if Path::parse(&path).is_some() {
                let mut read = path;
                for _ in 0..3 {
                    prop_assert!(!read.split(['/', '\\']).any(|part| part == ".."), "{}", read);
                    read = percent_decode_str(&read).decode_utf8_lossy().into_owned();
                }
            }
        }
    }
}
