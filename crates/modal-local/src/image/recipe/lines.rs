//! From text to logical lines: comments dropped, continuations joined, here-documents put aside.

use super::here_document::{self, HereDocument};

/// One instruction's text and the number of its first line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) text: String,
    /// The texts that follow it, in the order in which it opens them.
    pub(super) documents: Vec<HereDocument>,
}

/// A here-document without the line that ends it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unterminated {
    pub(super) line: Line,
    pub(super) name: String,
}

/// The logical lines of a Dockerfile. Inside a continuation, comments and empty lines are skipped.
pub(super) fn logical(text: &str) -> Result<Vec<Line>, Unterminated> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    let mut all = text.lines().enumerate();
    while let Some((index, raw)) = all.next() {
        let trimmed = raw.trim_start();
        if trimmed.starts_with('#') || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (content, continues) = split_continuation(raw);
        if open.is_some() && content.trim().is_empty() && !continues {
            continue;
        }
        let line = open.get_or_insert_with(|| Line::at(index + 1));
        line.text.push_str(content);
        if continues {
            continue;
        }
        if let Some(line) = open.take() {
            lines.push(line.with_documents(&mut all.by_ref().map(|(_, raw)| raw))?);
        }
    }
    if let Some(line) = open {
        lines.push(line.with_documents(&mut std::iter::empty())?);
    }
    lines.retain(|line| !line.text.is_empty());
    Ok(lines)
}

impl Line {
    fn at(number: usize) -> Self {
        Self { number, text: String::new(), documents: Vec::new() }
    }

    /// The line as it is now complete, with the here-documents that it opens taken from `rest`.
    fn with_documents(
        mut self,
        rest: &mut dyn Iterator<Item = &str>,
    ) -> Result<Self, Unterminated> {
        self.text = self.text.trim().to_owned();
        for mark in here_document::marks(&self.text) {
            match mark.read(rest) {
                Some(document) => self.documents.push(document),
                None => return Err(Unterminated { line: self, name: mark.name }),
            }
        }
        Ok(self)
    }
}

/// A line without its backslash, and whether it had one; blanks after the backslash do not matter.
fn split_continuation(raw: &str) -> (&str, bool) {
    match raw.trim_end_matches([' ', '\t', '\r']).strip_suffix('\\') {
        Some(content) => (content, true),
        None => (raw, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, String)> {
        logical(text).unwrap().into_iter().map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn continuations_join_and_comments_inside_vanish() {
        let joined = texts("RUN a \\\n  # why\n\n  b\\ \t\n c\nCMD d");
        assert_eq!(joined, [(1, "RUN a   b c".to_owned()), (6, "CMD d".to_owned())]);
    }

    #[test]
    fn a_backslash_at_the_end_of_the_text_is_no_error() {
        assert_eq!(texts("RUN a \\"), [(1, "RUN a".to_owned())]);
        assert_eq!(texts("\\"), []);
    }
}
