//! From text to logical lines: comments dropped, continuations joined.

/// One instruction's text and the number of its first line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) text: String,
}

/// The logical lines of a Dockerfile. Inside a continuation, comments and empty lines are skipped.
pub(super) fn logical(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    for (index, raw) in text.lines().enumerate() {
        let trimmed = raw.trim_start();
        if trimmed.starts_with('#') || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (content, continues) = split_continuation(raw);
        if open.is_some() && content.trim().is_empty() && !continues {
            continue;
        }
        let line = open.get_or_insert_with(|| Line { number: index + 1, text: String::new() });
        line.text.push_str(content);
        if !continues {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    for line in &mut lines {
        line.text = line.text.trim().to_owned();
    }
    lines.retain(|line| !line.text.is_empty());
    lines
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
        logical(text).into_iter().map(|line| (line.number, line.text)).collect()
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
