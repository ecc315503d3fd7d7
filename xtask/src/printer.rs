//! The one place that writes to the terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use crate::cli::{Global, Output};

/// Prints: results to standard output, everything else to standard error.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    output: Output,
    quiet: bool,
    verbose: bool,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        Self { output: global.output, quiet: global.quiet, verbose: global.verbose > 0 }
    }

    /// Whether only results and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether more is wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether progress is wanted as bars: a person watches.
    pub(crate) fn has_bars(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// A result for people; nothing with `--output json`.
    pub(crate) fn text(&self, text: &str) {
        if self.output == Output::Text {
            write_line(io::stdout().lock(), text);
        }
    }

    /// A result for programs; nothing with `--output text`.
    pub(crate) fn json(&self, value: &impl Serialize) -> serde_json::Result<()> {
        if self.output == Output::Json {
            let text = serde_json::to_string_pretty(value)?;
            let _closed = writeln!(io::stdout().lock(), "{text}");
        }
        Ok(())
    }

    /// A line about what happens.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            write_line(io::stderr().lock(), line);
        }
    }

    /// A line that `--quiet` does not hide.
    pub(crate) fn warn(&self, line: &str) {
        write_line(io::stderr().lock(), &format!("warning: {line}"));
    }

    /// An error and its causes, one a line.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        write_line(io::stderr().lock(), &format!("error: {error}"));
        for cause in error.chain().skip(1) {
            write_line(io::stderr().lock(), &format!("  caused by: {cause}"));
        }
    }

    /// Asks a question; `false` where nobody can answer.
    pub(crate) fn confirm(&self, question: &str) -> io::Result<bool> {
        if !io::stdin().is_terminal() {
            return Ok(false);
        }
        write!(io::stderr().lock(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Writes a line. Where a person watches, nothing in it steers the terminal: much of it was written
/// by agents. A reader that went away is no reason to fail.
fn write_line(mut to: impl Write + IsTerminal, line: &str) {
    let line = if to.is_terminal() { printable(line) } else { Cow::Borrowed(line) };
    let _closed = writeln!(to, "{line}");
}

/// The text with control characters spelt out, but for line ends and tabs.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let steers = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let spelt = |char: char| {
        if steers(char) { char.escape_default().to_string() } else { char.to_string() }
    };
    Cow::Owned(text.chars().map(spelt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_an_agent_prints_steers_the_terminal() {
        assert_eq!(printable("ünï\tcode\n"), "ünï\tcode\n");
        assert_eq!(printable("\u{1b}[2Jx\ry\u{9b}m"), "\\u{1b}[2Jx\\ry\\u{9b}m");
    }
}
