//! The one place that writes to the terminal.

use std::io::{self, IsTerminal as _, Write as _};

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
            // A reader that went away is no reason to fail.
            let _closed = writeln!(io::stdout().lock(), "{text}");
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
            let _closed = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// A line that `--quiet` does not hide.
    pub(crate) fn warn(&self, line: &str) {
        let _closed = writeln!(io::stderr().lock(), "warning: {line}");
    }

    /// An error and its causes, one a line.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut stderr = io::stderr().lock();
        let _closed = writeln!(stderr, "error: {error}");
        for cause in error.chain().skip(1) {
            let _closed = writeln!(stderr, "  caused by: {cause}");
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
