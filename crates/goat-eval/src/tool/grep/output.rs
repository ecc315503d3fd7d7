//! What a search found, as text.

use std::io;

use grep_searcher::{Searcher, Sink, SinkContext, SinkFinish, SinkMatch};

use super::options::Mode;
use crate::tool::{
    text::{LONGEST_RESULT, cut_line, cut_middle},
    walk::{Deadline, STOPPED_EARLY},
};

/// Results of all files so far.
#[derive(Debug)]
pub(super) struct Found {
    mode: Mode,
    limit: usize,
    deadline: Deadline,
    lines: Vec<String>,
    size: usize,
    more: bool,
}

impl Found {
    pub(super) fn new(mode: Mode, limit: Option<usize>, deadline: Deadline) -> Self {
        Found {
            mode,
            limit: limit.unwrap_or(usize::MAX),
            deadline,
            lines: Vec::new(),
            size: 0,
            more: false,
        }
    }

    /// Whether nothing more will be shown. (Beyond twice what fits, the middle would be cut anyway.)
    pub(super) fn is_full(&self) -> bool {
        self.more || self.size > 2 * LONGEST_RESULT
    }

    /// Adds a line, unless the limit is reached.
    fn add(&mut self, line: String) -> bool {
        if self.lines.len() >= self.limit {
            self.more = true;
            return false;
        }
        self.size += line.len();
        self.lines.push(line);
        !self.is_full() && !self.deadline.is_over()
    }

    pub(super) fn render(self) -> String {
        let overflown = self.size > 2 * LONGEST_RESULT;
        let shown = self.lines.len();
        let mut text = if shown == 0 { "No matches.".to_owned() } else { self.lines.join("\n") };
        text = cut_middle(&text, LONGEST_RESULT);
        if self.more {
            text.push_str(&format!("\n[Only the first {shown} are shown.]"));
        } else if overflown {
            text.push_str("\n[There may be more; use a narrower pattern, `glob` or `head_limit`.]");
        }
        if self.deadline.is_over() {
            text.push('\n');
            text.push_str(STOPPED_EARLY);
        }
        text
    }
}

/// Takes the matches of one file.
pub(super) struct FileSink<'f> {
    path: String,
    line_numbers: bool,
    found: &'f mut Found,
    matches: u64,
    binary: bool,
    /// Lines of `found` before this file.
    before: usize,
}

impl<'f> FileSink<'f> {
    pub(super) fn new(path: String, line_numbers: bool, found: &'f mut Found) -> Self {
        let before = found.lines.len();
        FileSink { path, line_numbers, found, matches: 0, binary: false, before }
    }

    /// Adds what is known only at the end of a file. Lines of a file that turned out to be binary go again.
    pub(super) fn end_file(self) {
        if self.binary {
            self.found.lines.truncate(self.before);
            return;
        }
        let line = match self.found.mode {
            Mode::Files => self.path,
            Mode::Count => format!("{}:{}", self.path, self.matches),
            Mode::Content => return,
        };
        if self.matches > 0 {
            self.found.add(line);
        }
    }

    /// Adds lines in ripgrep's form: `:` around the number of a match, `-` around that of its context.
    fn add_lines(&mut self, bytes: &[u8], first: Option<u64>, mark: char) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        for (position, line) in text.split('\n').enumerate() {
            let line = cut_line(line.trim_end_matches('\r'));
            let number = first.filter(|_| self.line_numbers).map(|first| first + position as u64);
            let number = number.map(|number| format!("{number}{mark}")).unwrap_or_default();
            if !self.found.add(format!("{}{mark}{number}{line}", self.path)) {
                return false;
            }
        }
        true
    }
}

impl Sink for FileSink<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.matches += 1;
        Ok(match self.found.mode {
            Mode::Files => false,
            Mode::Count => !self.found.deadline.is_over(),
            Mode::Content => self.add_lines(found.bytes(), found.line_number(), ':'),
        })
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        Ok(self.add_lines(context.bytes(), context.line_number(), '-'))
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        Ok(self.found.add("--".into()))
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> io::Result<bool> {
        self.binary = true;
        Ok(false)
    }

    fn finish(&mut self, _: &Searcher, _: &SinkFinish) -> io::Result<()> {
        Ok(())
    }
}
