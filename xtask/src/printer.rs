//! The one place that writes to the terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use serde_json::json;

use crate::cli::{Global, Output};

/// Causes that fit on the line of their error, in characters of the whole line.
const ONE_LINE: usize = 160;

/// Prints: results to standard output, everything else to standard error.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    output: Output,
    quiet: bool,
    verbose: bool,
    /// Whatever is drawn on the terminal; lines are written beside it.
    bars: MultiProgress,
    /// Whether a program has its one JSON value.
    has_answered: Arc<AtomicBool>,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let bars = MultiProgress::new();
        if global.quiet || !io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self {
            output: global.output,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            bars,
            has_answered: Arc::default(),
        }
    }

    /// One that says nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let (output, quiet, verbose) = (Output::Text, true, false);
        Self { output, quiet, verbose, bars, has_answered: Arc::default() }
    }

    /// Where bars are drawn.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether only results and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a program reads the results.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
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
            self.write_line(io::stdout(), text);
        }
    }

    /// A result for programs; nothing with `--output text`.
    pub(crate) fn json(&self, value: &impl Serialize) -> serde_json::Result<()> {
        if self.output == Output::Json {
            let text = serde_json::to_string_pretty(value)?;
            let _closed = writeln!(io::stdout().lock(), "{text}");
            self.has_answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One of many results for programs, which come one after the other; nothing with `--output text`.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> serde_json::Result<()> {
        if self.output == Output::Json {
            let text = serde_json::to_string(value)?;
            let _closed = writeln!(io::stdout().lock(), "{text}");
            self.has_answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A line about what happens.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.write_line(io::stderr(), line);
        }
    }

    /// A line that `--quiet` does not hide.
    pub(crate) fn warn(&self, line: &str) {
        self.write_line(io::stderr(), &format!("warning: {line}"));
    }

    /// A failure that a command goes on after.
    pub(crate) fn failure(&self, line: &str) {
        self.write_line(io::stderr(), &format!("error: {line}"));
    }

    /// The error that ends a command, with its causes. A program that waits for JSON gets it as JSON.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.failure(&with_causes(error));
        if !self.has_answered.load(Ordering::Relaxed) {
            let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            let answer = json!({"error": {"message": error.to_string(), "causes": causes}});
            // Strings alone: they can be written.
            let _written = self.json(&answer);
        }
    }

    fn write_line(&self, to: impl Write + IsTerminal, line: &str) {
        self.bars.suspend(|| write_line(to, line));
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

/// An error and its causes: on one line where they fit, else one a line.
fn with_causes(error: &anyhow::Error) -> String {
    let whole = format!("{error:#}");
    if whole.chars().count() <= ONE_LINE && !whole.contains('\n') {
        return whole;
    }
    let causes = error.chain().skip(1).map(|cause| format!("\n  caused by: {cause}"));
    std::iter::once(error.to_string()).chain(causes).collect()
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
    fn causes_stand_on_the_line_where_they_fit() {
        let error = anyhow::anyhow!("connection refused").context("no model answers at x");
        assert_eq!(with_causes(&error), "no model answers at x: connection refused");
        let error = anyhow::anyhow!("x".repeat(200)).context("it is long");
        assert_eq!(with_causes(&error), format!("it is long\n  caused by: {}", "x".repeat(200)));
    }

    #[test]
    fn nothing_that_an_agent_prints_steers_the_terminal() {
        assert_eq!(printable("ünï\tcode\n"), "ünï\tcode\n");
        assert_eq!(printable("\u{1b}[2Jx\ry\u{9b}m"), "\\u{1b}[2Jx\\ry\\u{9b}m");
    }
}
