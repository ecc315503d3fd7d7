//! A program of a container: from a file of it, or built in.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::container::invalid;
use crate::error::Result;

/// A program to start in a container.
#[derive(Clone)]
pub struct ExecSpec {
    /// Program and arguments; the program is looked up in `PATH` of `env` unless it has a `/`.
    pub argv: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// A terminal instead of the three: input goes to it, output and errors come merged from it.
    pub pty: Option<PtySize>,
    /// Whether that terminal echoes its input.
    pub pty_echo: bool,
    /// User inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

impl ExecSpec {
    /// `argv` as root in `/`, nothing on stdin, both outputs piped, an empty environment.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            stdin: Stdio::Null,
            stdout: Stdio::Pipe,
            stderr: Stdio::Pipe,
            pty: None,
            pty_echo: false,
            uid: 0,
            gid: 0,
        }
    }

    /// Adds one variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Refuses what `execve` cannot carry.
    pub fn check(&self) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        if self.argv.first().is_none_or(|program| program.is_empty()) {
            return Err(invalid("command", "it is empty".to_owned()));
        }
        let has_nul = |text: &OsString| text.as_bytes().contains(&0);
        if self.argv.iter().any(has_nul) {
            return Err(invalid("command", "an argument contains a NUL byte".to_owned()));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.as_bytes().contains(&b'=') || has_nul(name) {
                let shown = name.to_string_lossy();
                return Err(invalid("environment", format!("`{shown:.80}` is no variable name")));
            }
            if has_nul(value) {
                let shown = name.to_string_lossy();
                return Err(invalid("environment", format!("`{shown:.80}` contains a NUL byte")));
            }
        }
        if !self.cwd.is_absolute() {
            let shown = self.cwd.display();
            return Err(invalid("working directory", format!("`{shown}` is not absolute")));
        }
        Ok(())
    }
}

impl fmt::Debug for ExecSpec {
    /// Without values of the environment and without arguments: both may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSpec")
            .field("program", &self.argv.first())
            .field("arguments", &self.argv.len().saturating_sub(1))
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("pty", &self.pty)
            .finish_non_exhaustive()
    }
}

/// What a standard descriptor is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// A pipe to the caller.
    Pipe,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtySize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A program that exists in every container without a file: `exec` of `path` runs `main` in a
/// forked child inside, under the same isolation as any program.
///
/// `main` starts single-threaded with the exec's environment, working directory and standard
/// descriptors, and returns the exit code.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// The absolute path that names it.
    pub path: &'static str,
    /// Its body; `args[0]` is the path.
    pub main: fn(args: Vec<OsString>) -> i32,
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builtin({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let exec = ExecSpec::new(["tool", "--key=hidden1"]).env("KEY", "hidden2");
        let shown = format!("{exec:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("tool") && shown.contains("KEY"));
    }

    #[test]
    fn commands_that_execve_cannot_carry_are_refused() {
        assert!(ExecSpec::new(Vec::<String>::new()).check().is_err());
        assert!(ExecSpec::new(["a\0b"]).check().is_err());
        assert!(ExecSpec::new(["a"]).env("A=B", "").check().is_err());
        assert!(ExecSpec::new(["a"]).env("A", "B\0").check().is_err());
        assert!(ExecSpec::new(["a"]).env("A", "").check().is_ok());
    }
}
