//! Short lines on stderr for a person who watches. Stdout belongs to the answer.

use std::io::Write;

use crate::secret::Redactor;

/// Characters of a line at most.
const WIDTH: usize = 160;

/// Writes progress to stderr, without secrets.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    redactor: Redactor,
}

impl Progress {
    /// Progress in which the redactor's secrets are masked.
    pub fn new(redactor: Redactor) -> Self {
        Progress { redactor }
    }

    /// One line, shortened. A closed stderr is no reason to stop working.
    pub fn line(&self, text: &str) {
        self.full_line(&shorten(text, WIDTH));
    }

    /// A line for programs that read stderr: nothing but the text.
    pub fn data(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{}", self.redactor.clean(text));
    }

    /// One line, whole.
    pub fn full_line(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "goat-eval: {}", self.redactor.clean(text));
    }
}

/// The first line of `text`, of at most `width` characters.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    let clean: String = first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let more = lines.next().is_some() || clean.chars().count() > width;
    let cut: String = clean.chars().take(width).collect();
    if more { format!("{} …", cut.trim_end()) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn lines_are_short_and_plain() {
        assert_eq!(shorten("  ls -la  ", 20), "ls -la");
        assert_eq!(shorten("one\ntwo", 20), "one …");
        assert_eq!(shorten("äöüäöü", 3), "äöü …");
        assert_eq!(shorten("a\u{1b}[31mb", 20), "a [31mb");
    }
}
