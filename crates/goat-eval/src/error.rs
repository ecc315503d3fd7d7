//! Why a run could not start or go on.

use std::{io, path::PathBuf};

use crate::{cli::FlagError, exit_code, mcp::config::ConfigError, model::ModelError};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no answer, apart from turns, time and signals (those are ends, not errors).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line can't be understood.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// Neither `--prompt` nor stdin held any text.
    #[error("no prompt: give `--prompt TEXT`, or write the prompt to stdin")]
    NoPrompt,
    /// Stdin could not be read.
    #[error("cannot read the prompt from stdin")]
    Stdin(#[source] io::Error),
    /// The directory of `--cwd` can't be entered.
    #[error("cannot work in directory `{}`", path.display())]
    WorkingDirectory {
        /// The directory as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of `--prices` can't be used.
    #[error("cannot read prices and sizes of models from `{}`", path.display())]
    Prices {
        /// The file as it was given.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A limit in money without a price.
    #[error(
        "`--max-cost` needs the price of model `{model}`: give `--price IN,OUT`, or `--prices FILE` that names it"
    )]
    NoPrice {
        /// The model that is asked.
        model: String,
    },
    /// The transcript or the summary can't be written where it was asked for.
    #[error("cannot write the {what} `{}`", path.display())]
    Output {
        /// `transcript` or `summary`.
        what: &'static str,
        /// The file as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory of a flag can't be read.
    #[error("cannot read the {what} `{}`", path.display())]
    Input {
        /// What it is: `system prompt`, `directory of skills`.
        what: &'static str,
        /// The path as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of MCP servers can't be used.
    #[error("cannot use the MCP config `{}`", path.display())]
    McpConfig {
        /// The file as it was given.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// Signals or the event loop could not be set up.
    #[error("cannot set up the process")]
    Setup(#[source] io::Error),
    /// A fault of this program.
    #[error("the agent itself broke, which is a fault to be reported: {message}")]
    Broken {
        /// What was noticed.
        message: String,
    },
    /// The model could not be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Error {
    /// The exit code that tells this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Flag(_) => exit_code::BAD_FLAG,
            Error::Model(_) => exit_code::MODEL_ERROR,
            _ => exit_code::USAGE,
        }
    }
}

/// The error and its causes on one line.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        line.push_str(": ");
        line.push_str(&source.to_string());
        cause = source.source();
    }
    line.replace('\n', " ")
}
