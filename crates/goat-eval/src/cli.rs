//! The command line: long flags, with one dash or two, `-flag value` or `-flag=value`.
//!
//! Written by hand, because Goat's scripts use `-prompt` as well as `--prompt`, and the agent has to start quickly.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Turns that a run may take where nothing else is said.
pub const DEFAULT_MAX_TURNS: u32 = 100;

/// What `--help` prints.
pub const HELP: &str = "\
A coding agent without a screen: it works on one prompt in a directory and prints its last answer.

Usage: goat-eval [FLAGS] [--prompt TEXT | < FILE]

Flags (one dash or two):
  --prompt TEXT      What to do; without it, all of stdin
  --cwd DIR          Directory to work in [default: the current one]
  --max-turns N      Calls of the model at most [default: 100]
  --timeout SECONDS  Time for the whole run [default: no limit]
  --model NAME       Model to ask [default: EVAL_MODEL]
  --transcript FILE  Write everything that happens, one JSON object a line
  --summary FILE     Write how it ended, one JSON object
  --version          Print the version
  --help             Print this

Environment:
  OPENAI_BASE_URL    An OpenAI-compatible endpoint [default: http://localhost:13131/v1]
  OPENAI_API_KEY     Its key [default: inspect]; commands of the agent never see it
  EVAL_MODEL         The model [default: inspect]

Exit codes:
  0 answered, 1 no prompt or unusable file or directory, 2 bad flag, 3 turns used up,
  4 model error, 5 time-out, 130 and 143 ended by SIGINT and SIGTERM

Example:
  goat-eval --cwd /workspace --max-turns 10 --prompt 'Make the tests pass'
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Work on a prompt.
    Run(Arguments),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// The flags of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    /// `--prompt`.
    pub prompt: Option<String>,
    /// `--cwd`.
    pub cwd: Option<PathBuf>,
    /// `--max-turns`, at least one.
    pub max_turns: u32,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--model`.
    pub model: Option<String>,
    /// `--transcript`.
    pub transcript: Option<PathBuf>,
    /// `--summary`.
    pub summary: Option<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            prompt: None,
            cwd: None,
            max_turns: DEFAULT_MAX_TURNS,
            timeout: None,
            model: None,
            transcript: None,
            summary: None,
        }
    }
}

/// Why the command line can't be understood.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum FlagError {
    /// No flag has this name.
    #[error("unknown flag `{0}`; `goat-eval --help` lists the flags")]
    Unknown(String),
    /// Text that belongs to no flag.
    #[error("unexpected argument `{0}`; a prompt is given with `--prompt TEXT`")]
    Unexpected(String),
    /// The last argument is a flag that needs a value.
    #[error("flag `--{0}` needs a value")]
    NoValue(String),
    /// The value can't be used.
    #[error("flag `--{flag}`: `{value}` is not {expected}")]
    BadValue {
        /// The flag's name.
        flag: String,
        /// What was given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: Vec<OsString>) -> Result<Command, FlagError> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let (flag, inline) = split_flag(&argument)?;
        match flag.as_str() {
            "help" | "h" => return Ok(Command::Help),
            "version" => return Ok(Command::Version),
            _ if !is_flag(&flag) => {
                return Err(FlagError::Unknown(argument.to_string_lossy().into_owned()));
            }
            _ => {
                let value = inline.or_else(|| rest.next());
                let value = value.ok_or_else(|| FlagError::NoValue(flag.clone()))?;
                set(&mut parsed, &flag, value)?;
            }
        }
    }
    Ok(Command::Run(parsed))
}

fn is_flag(name: &str) -> bool {
    ["prompt", "cwd", "max-turns", "timeout", "model", "transcript", "summary"].contains(&name)
}

/// The name of a flag, and its value where it follows after `=`.
fn split_flag(argument: &OsString) -> Result<(String, Option<OsString>), FlagError> {
    let text = argument.to_string_lossy();
    let Some(flag) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
        return Err(FlagError::Unexpected(text.into_owned()));
    };
    match flag.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), Some(OsString::from(value)))),
        None => Ok((flag.to_owned(), None)),
    }
}

fn set(arguments: &mut Arguments, flag: &str, value: OsString) -> Result<(), FlagError> {
    let text = value.to_string_lossy().into_owned();
    match flag {
        "prompt" => arguments.prompt = Some(text),
        "model" => arguments.model = Some(text),
        "cwd" => arguments.cwd = Some(value.into()),
        "transcript" => arguments.transcript = Some(value.into()),
        "summary" => arguments.summary = Some(value.into()),
        "max-turns" => {
            arguments.max_turns =
                turns(&text).ok_or_else(|| bad(flag, text, "a number of at least 1"))?
        }
        _ => {
            arguments.timeout =
                Some(seconds(&text).ok_or_else(|| bad(flag, text, "a number of seconds above 0"))?)
        }
    }
    Ok(())
}

fn bad(flag: &str, value: String, expected: &'static str) -> FlagError {
    FlagError::BadValue { flag: flag.to_owned(), value, expected }
}

fn turns(text: &str) -> Option<u32> {
    text.parse().ok().filter(|turns| *turns > 0)
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, FlagError> {
        parse(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn help_reads_well() {
        insta::assert_snapshot!(HELP);
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        let expected = Command::Run(Arguments {
            prompt: Some("-cwd is text here".into()),
            cwd: Some("/w".into()),
            max_turns: 3,
            timeout: Some(Duration::from_millis(1500)),
            ..Arguments::default()
        });
        let one = ["-prompt", "-cwd is text here", "-cwd=/w", "-max-turns", "3", "-timeout", "1.5"];
        let two = ["--prompt=-cwd is text here", "--cwd", "/w", "--max-turns=3", "--timeout=1.5s"];
        assert_eq!(parsed(&one).unwrap(), expected);
        assert_eq!(parsed(&two).unwrap(), expected);
    }

    #[test]
    fn mistakes_are_named() {
        let cases: [&[&str]; 6] = [
            &["--promt", "x"],
            &["hello"],
            &["--prompt"],
            &["--max-turns", "0"],
            &["-timeout=-1"],
            &["--timeout", "soon"],
        ];
        let messages: Vec<String> =
            cases.iter().map(|case| parsed(case).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"), @r"
        unknown flag `--promt`; `goat-eval --help` lists the flags
        unexpected argument `hello`; a prompt is given with `--prompt TEXT`
        flag `--prompt` needs a value
        flag `--max-turns`: `0` is not a number of at least 1
        flag `--timeout`: `-1` is not a number of seconds above 0
        flag `--timeout`: `soon` is not a number of seconds above 0
        ");
    }

    #[test]
    fn help_and_version_win() {
        assert_eq!(parsed(&["-help"]).unwrap(), Command::Help);
        assert_eq!(parsed(&["--cwd", "/w", "--version"]).unwrap(), Command::Version);
    }
}
