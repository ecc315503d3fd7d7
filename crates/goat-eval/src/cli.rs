//! The command line: long flags, with one dash or two, `-flag value` or `-flag=value`.
//!
//! Written by hand, because Goat's scripts use `-prompt` as well as `--prompt`, and the agent has to start quickly.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::model::{price::Price, profile::Overrides};
use crate::trace::{Trace, is_traceparent};

/// Turns that a run may take where nothing else is said.
pub const DEFAULT_MAX_TURNS: u32 = 100;

/// What `--help` prints.
pub const HELP: &str = "\
A coding agent without a screen: it works on one prompt in a directory and prints its last answer.

Usage: goat-eval [FLAGS] [--prompt TEXT | < FILE]

Flags (one dash or two):
  --prompt TEXT      What to do; without it, all of stdin
  --multi-turn       One conversation of many prompts, each a line of stdin
  --cwd DIR          Directory to work in [default: the current one]
  --max-turns N      Calls of the model at most [default: 100]
  --timeout SECONDS  Time for the whole run [default: no limit]
  --max-tokens N     Tokens of all requests and answers together [default: no limit]
  --max-cost USD     Cost of all requests and answers together; needs a price [default: no limit]
  --model NAME       Model to ask [default: EVAL_MODEL]
  --system-prompt FILE  Instructions in place of the built-in ones
  --skills-dir DIR   Skills to offer: DIR/.claude/skills/NAME/SKILL.md or DIR/NAME/SKILL.md
  --mcp-config FILE  MCP servers to start or reach
  --mcp-env NAMES    Variables that ${NAME} in that file may stand for, with commas between
  --transcript FILE  Write everything that happens, one JSON object a line
  --summary FILE     Write how it ended, one JSON object
  --version          Print the version
  --help             Print this

Flags for traces, sent with every call of the model where given:
  --traceparent ID   W3C trace context
  --trace-session ID, --trace-name NAME, --trace-tag TAG (may be repeated)

Flags about the model, where its table has nothing or something else:
  --temperature X    Sampling temperature, or `default` to send none
  --top-p X          Nucleus sampling, or `default` to send none
  --context-tokens N       Size of its context window
  --max-output-tokens N    Tokens of one answer at most [default: 16384, or less]
  --price IN,OUT[,CACHED]  USD for a million tokens [default: EVAL_PRICE]
  --prices FILE      JSON: prices and sizes by model, as LiteLLM writes them [default: EVAL_PRICES]

Environment:
  OPENAI_BASE_URL    An OpenAI-compatible endpoint [default: http://localhost:13131/v1]
  OPENAI_API_KEY     Its key [default: inspect]; commands of the agent never see it
  EVAL_MODEL         The model [default: inspect]

Exit codes:
  0 answered, 1 no prompt or unusable file or directory, 2 bad flag, 3 turns used up,
  4 model error, 5 time-out, 6 tokens used up, 7 money used up,
  130 and 143 ended by SIGINT and SIGTERM

Examples:
  goat-eval --cwd /workspace --max-turns 10 --prompt 'Make the tests pass'
  printf 'What is here?\\nSum it up.\\n' | goat-eval --multi-turn --skills-dir skills
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
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
    /// `--max-tokens`.
    pub max_tokens: Option<u64>,
    /// `--max-cost`, in USD.
    pub max_cost: Option<f64>,
    /// `--model`.
    pub model: Option<String>,
    /// `--temperature`, `--top-p`, `--context-tokens`, `--max-output-tokens`.
    pub overrides: Overrides,
    /// `--price`.
    pub price: Option<Price>,
    /// `--prices`.
    pub prices: Option<PathBuf>,
    /// `--transcript`.
    pub transcript: Option<PathBuf>,
    /// `--summary`.
    pub summary: Option<PathBuf>,
    /// `--multi-turn`.
    pub multi_turn: bool,
    /// `--system-prompt`.
    pub system_prompt: Option<PathBuf>,
    /// `--skills-dir`.
    pub skills_dir: Option<PathBuf>,
    /// `--mcp-config`.
    pub mcp_config: Option<PathBuf>,
    /// `--mcp-env`.
    pub mcp_env: Vec<String>,
    /// What the flags for traces say.
    pub trace: Trace,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            prompt: None,
            cwd: None,
            max_turns: DEFAULT_MAX_TURNS,
            timeout: None,
            max_tokens: None,
            max_cost: None,
            model: None,
            overrides: Overrides::default(),
            price: None,
            prices: None,
            transcript: None,
            summary: None,
            multi_turn: false,
            system_prompt: None,
            skills_dir: None,
            mcp_config: None,
            mcp_env: Vec::new(),
            trace: Trace::default(),
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
            "multi-turn" => parsed.multi_turn = yes_or_no(&flag, inline)?,
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
    const NAMES: &[&str] = &[
        "prompt",
        "cwd",
        "max-turns",
        "timeout",
        "model",
        "transcript",
        "summary",
        "system-prompt",
        "skills-dir",
        "mcp-config",
        "mcp-env",
        "traceparent",
        "trace-session",
        "trace-name",
        "trace-tag",
        "max-tokens",
        "max-cost",
        "temperature",
        "top-p",
        "context-tokens",
        "max-output-tokens",
        "price",
        "prices",
    ];
    NAMES.contains(&name)
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
    let wrong = |expected| bad(flag, text.clone(), expected);
    let positive = || count(&text).ok_or_else(|| wrong("a number of at least 1"));
    let sampled =
        |most| sampling(&text, most).ok_or_else(|| wrong("a number from 0 on, or `default`"));
    match flag {
        "prompt" => arguments.prompt = Some(text),
        "model" => arguments.model = Some(text),
        "cwd" => arguments.cwd = Some(value.into()),
        "transcript" => arguments.transcript = Some(value.into()),
        "summary" => arguments.summary = Some(value.into()),
        "system-prompt" => arguments.system_prompt = Some(value.into()),
        "skills-dir" => arguments.skills_dir = Some(value.into()),
        "mcp-config" => arguments.mcp_config = Some(value.into()),
        "mcp-env" => arguments.mcp_env.extend(names(&text)),
        "traceparent" => {
            if !is_traceparent(&text) {
                return Err(bad(flag, text, "a W3C traceparent"));
            }
            arguments.trace.parent = Some(text);
        }
        "trace-session" => arguments.trace.session = Some(text),
        "trace-name" => arguments.trace.name = Some(text),
        "trace-tag" => arguments.trace.tags.push(text),
        "prices" => arguments.prices = Some(value.into()),
        "max-turns" => {
            arguments.max_turns = u32::try_from(positive()?).unwrap_or(u32::MAX);
        }
        "max-tokens" => arguments.max_tokens = Some(positive()?),
        "context-tokens" => arguments.overrides.context = Some(positive()?),
        "max-output-tokens" => arguments.overrides.max_output = Some(positive()?),
        "temperature" => arguments.overrides.temperature = Some(sampled(2.0)?),
        "top-p" => arguments.overrides.top_p = Some(sampled(1.0)?),
        "max-cost" => {
            arguments.max_cost = Some(amount(&text).ok_or_else(|| wrong("a sum in USD above 0"))?);
        }
        "price" => {
            let price = text.parse().map_err(|_| wrong("IN,OUT or IN,OUT,CACHED in USD"))?;
            arguments.price = Some(price);
        }
        _ => {
            let time = seconds(&text).ok_or_else(|| wrong("a number of seconds above 0"))?;
            arguments.timeout = Some(time);
        }
    }
    Ok(())
}

fn bad(flag: &str, value: String, expected: &'static str) -> FlagError {
    FlagError::BadValue { flag: flag.to_owned(), value, expected }
}

/// A flag without value means yes.
fn yes_or_no(flag: &str, value: Option<OsString>) -> Result<bool, FlagError> {
    let Some(value) = value else { return Ok(true) };
    match value.to_string_lossy().as_ref() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(bad(flag, other.to_owned(), "`true` or `false`")),
    }
}

fn names(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count > 0)
}

fn amount(text: &str) -> Option<f64> {
    let text = text.strip_prefix('$').unwrap_or(text);
    text.parse().ok().filter(|sum: &f64| sum.is_finite() && *sum > 0.0)
}

/// A setting of sampling: a number up to `most`, or nothing to be sent.
fn sampling(text: &str, most: f64) -> Option<Option<f64>> {
    if text == "default" {
        return Some(None);
    }
    text.parse().ok().filter(|it| (0.0..=most).contains(it)).map(Some)
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
        let cases: [&[&str]; 12] = [
            &["--promt", "x"],
            &["hello"],
            &["--prompt"],
            &["--max-turns", "0"],
            &["-timeout=-1"],
            &["--timeout", "soon"],
            &["--multi-turn=maybe"],
            &["--traceparent", "00-0-0-0"],
            &["--max-tokens", "0"],
            &["--max-cost", "-1"],
            &["--temperature", "hot"],
            &["--price", "1"],
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
        flag `--multi-turn`: `maybe` is not `true` or `false`
        flag `--traceparent`: `00-0-0-0` is not a W3C traceparent
        flag `--max-tokens`: `0` is not a number of at least 1
        flag `--max-cost`: `-1` is not a sum in USD above 0
        flag `--temperature`: `hot` is not a number from 0 on, or `default`
        flag `--price`: `1` is not IN,OUT or IN,OUT,CACHED in USD
        ");
    }

    #[test]
    fn flags_without_value_and_flags_that_repeat() {
        let arguments =
            ["-multi-turn", "--mcp-env=A,B", "--mcp-env", "C", "--trace-tag=x", "--trace-tag", "y"];
        let Command::Run(arguments) = parsed(&arguments).unwrap() else { panic!() };
        assert!(arguments.multi_turn);
        assert_eq!(
            (arguments.mcp_env.join(" "), arguments.trace.tags.join(" ")),
            ("A B C".into(), "x y".into())
        );
    }

    #[test]
    fn help_and_version_win() {
        assert_eq!(parsed(&["-help"]).unwrap(), Command::Help);
        assert_eq!(parsed(&["--cwd", "/w", "--version"]).unwrap(), Command::Version);
    }
}
