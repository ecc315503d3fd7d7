//! Which local files are left out: the rules of `.dockerignore`.
//!
//! Facts: <https://docs.docker.com/build/concepts/context/#dockerignore-files>. A rule also holds for everything
//! below a directory that it matches, the last rule that matches decides, and `!` takes files in again.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` is not a valid ignore rule: {problem}")]
pub struct InvalidRule {
    rule: String,
    problem: String,
}

/// Rules for files to leave out, as `.dockerignore` has them: `target/`, `**/*.pyc`, `!keep.pyc`.
///
/// Unlike in `.gitignore`, a rule without a slash holds at the root only; `**/` in front makes it hold everywhere.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    takes_in_again: bool,
    matcher: GlobMatcher,
}

impl IgnoreRules {
    /// Rules, one each.
    ///
    /// # Errors
    /// A rule is `!` alone, or not a valid pattern.
    pub fn new(rules: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, InvalidRule> {
        let rules = rules.into_iter().map(|rule| Rule::parse(rule.as_ref()));
        Ok(Self { rules: rules.filter_map(Result::transpose).collect::<Result<_, _>>()? })
    }

    /// The rules of a `.dockerignore` file, one a line; empty lines and comments are none.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        Self::new(text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#')))
    }

    /// Whether the file or directory at this path, relative to the root of the rules, is left out.
    pub fn ignores(&self, path: &Path) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            if rule.takes_in_again == ignored && rule.holds_for(path) {
                ignored = !rule.takes_in_again;
            }
        }
        ignored
    }

    /// Whether a directory that is left out may be skipped with everything below it.
    pub(crate) fn can_skip_directories(&self) -> bool {
        !self.rules.iter().any(|rule| rule.takes_in_again)
    }
}

/// Rules are equal if they were written alike.
impl PartialEq for IgnoreRules {
    fn eq(&self, other: &Self) -> bool {
        let texts = |rules: &Self| -> Vec<(bool, String)> {
            rules.rules.iter().map(|rule| (rule.takes_in_again, rule.text.clone())).collect()
        };
        texts(self) == texts(other)
    }
}

impl Eq for IgnoreRules {}

impl Rule {
    /// `None` for a rule without content.
    fn parse(text: &str) -> Result<Option<Self>, InvalidRule> {
        let trimmed = text.trim();
        let (takes_in_again, pattern) = match trimmed.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, trimmed),
        };
        let invalid =
            |problem: &str| InvalidRule { rule: trimmed.to_owned(), problem: problem.to_owned() };
        if takes_in_again && pattern.is_empty() {
            return Err(invalid("nothing follows the `!`"));
        }
        let cleaned = clean(pattern);
        if cleaned.is_empty() {
            return Ok(None);
        }
        let glob = GlobBuilder::new(&glob_of(&cleaned))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| invalid(&error.kind().to_string()))?;
        Ok(Some(Self { text: cleaned, takes_in_again, matcher: glob.compile_matcher() }))
    }

    /// Whether it matches the path or a directory above it.
    fn holds_for(&self, path: &Path) -> bool {
        path.ancestors().any(|path| path != Path::new("") && self.matcher.is_match(path))
    }
}

/// A pattern as a path without `.`, `..` and slashes at its ends.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The pattern in globset's words: braces mean nothing in `.dockerignore`, and `**` may touch other characters.
fn glob_of(pattern: &str) -> String {
    let parts = pattern.split('/').map(|part| {
        let part = part.replace('{', "\\{").replace('}', "\\}");
        match part.strip_prefix("**") {
            Some(rest) if !rest.is_empty() => format!("**/*{rest}"),
            _ => part,
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &[&str], ignored: &[&str], kept: &[&str]) {
        let parsed = IgnoreRules::new(rules).unwrap();
        for path in ignored {
            assert!(parsed.ignores(Path::new(path)), "{rules:?} keep {path}");
        }
        for path in kept {
            assert!(!parsed.ignores(Path::new(path)), "{rules:?} ignore {path}");
        }
    }

    #[test]
    fn a_rule_holds_at_the_root_and_below_what_it_matches() {
        check(&["target/"], &["target", "target/debug/x"], &["a/target", "targets"]);
        check(&["/a.txt"], &["a.txt"], &["b/a.txt"]);
        check(&["*.pyc"], &["x.pyc", "d.pyc/inside"], &["a/x.pyc"]);
        check(&["a/*/c"], &["a/b/c", "a/b/c/d"], &["a/c", "a/b/b/c"]);
        check(&["temp?"], &["tempa", "tempb/x"], &["temp", "temp/a"]);
        check(&["[ab].txt"], &["a.txt"], &["c.txt"]);
    }

    #[test]
    fn two_stars_cross_directories() {
        check(&["**/*.pyc"], &["x.pyc", "a/b/x.pyc"], &["x.py"]);
        check(&["**/node_modules"], &["node_modules/a", "b/node_modules/c"], &["b/modules"]);
        check(&["a/**"], &["a/b", "a/b/c"], &["a"]);
        check(&["**.log"], &["x.log", "a/x.log"], &["x.logs"]);
    }

    #[test]
    fn the_last_rule_decides() {
        check(&["*.md", "!README.md"], &["a.md"], &["README.md"]);
        check(&["!README.md", "*.md"], &["README.md"], &[]);
        check(&["**", "!src/**"], &["Cargo.toml"], &["src/lib.rs"]);
    }

    #[test]
    fn comments_empty_lines_and_odd_paths_are_understood() {
        let rules =
            IgnoreRules::parse("\u{feff}# a comment\n\n  ./a/../b  \n!\\!odd\n{x}\n").unwrap();
        assert!(rules.ignores(Path::new("b")) && rules.ignores(Path::new("{x}")));
        assert!(!rules.ignores(Path::new("x")) && !rules.can_skip_directories());
    }

    #[test]
    fn a_rule_that_says_nothing_is_an_error() {
        assert_eq!(
            IgnoreRules::new(["!"]).unwrap_err().to_string(),
            "`!` is not a valid ignore rule: nothing follows the `!`"
        );
        assert!(IgnoreRules::new(["[a"]).is_err());
    }
}
