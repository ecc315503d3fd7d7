//! Why a call failed: one enum, whose variants are situations a caller can act on.
//!
//! `Display` says what was being done, to what, and what to do next; the cause is in `source()`, so
//! that a printed chain repeats nothing. [`Error::report`] prints the chain.

use std::{error::Error as StdError, fmt, io, path::PathBuf, time::Duration};

use crate::ids::{ImageId, SandboxId};
pub use crate::rpc::status::{Code, ServerStatus};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as libraries hand it on.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What was being done, to which object: prints as ``create volume `goat-results` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    verb: &'static str,
    object: String,
}

impl Operation {
    pub(crate) fn new(verb: &'static str, object: impl Into<String>) -> Self {
        Self { verb, object: object.into() }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.object.is_empty() {
            f.write_str(self.verb)
        } else {
            write!(f, "{} {}", self.verb, self.object)
        }
    }
}

/// A problem that was found on this side, before or after a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Problem(pub(crate) String);

/// Why something failed.
///
/// Printed with `{}` it says what failed, not why: [`report`](Self::report) says both, as `{:#}` does of an
/// `anyhow::Error` made of it.
///
/// ```no_run
/// # async fn example(client: modal_client::Client) {
/// match client.volume("models").await {
///     Ok(volume) => println!("{}", volume.id()),
///     Err(error) if error.is_not_found() => println!("not there yet"),
///     Err(error) => eprintln!("{}", error.report()),
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used: the source names the variable or the key of `~/.modal.toml`.
    #[error("the Modal configuration cannot be used")]
    Config(#[from] crate::config::ConfigError),
    /// No server answered at any of the configured addresses.
    #[error(
        "no Modal server answered at {urls} within {waited:.1?}; is the address right and the server running?"
    )]
    Unreachable {
        /// The addresses that were tried.
        urls: String,
        /// How long it took to find out.
        waited: Duration,
        /// What the last attempt failed with.
        source: BoxError,
    },
    /// The server did not accept the token: get one with `cargo xtask login`, or set the variables.
    #[error(
        "failed to {operation}: the token was not accepted; check `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET`, or the profile in `~/.modal.toml`"
    )]
    Auth {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// The token is valid, but may not do this: take another's, or have its workspace allow it.
    #[error("failed to {operation}: not permitted")]
    Permission {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// The object does not exist: create it, or check which environment is asked.
    #[error("failed to {operation}: not found")]
    NotFound {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// Something by that name exists already: take another name, or say that it may be replaced
    /// (`overwrite`, `create_if_missing`, [`IfExists`](crate::IfExists)).
    #[error("failed to {operation}: it exists already")]
    AlreadyExists {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// An argument or a request that no retry will make valid: the source says what is wrong with it.
    #[error("failed to {operation}: the request is not valid")]
    Invalid {
        /// What was being done.
        operation: Operation,
        /// What is wrong with it.
        source: BoxError,
    },
    /// A limit was reached, and waiting as long as the server asked for did not help: do less at once, or free what the
    /// source names.
    #[error("failed to {operation}: a rate limit or quota is used up")]
    RateLimited {
        /// What was being done.
        operation: Operation,
        /// How long the server asked to wait before the next attempt.
        retry_after: Option<Duration>,
        /// What the server said.
        source: BoxError,
    },
    /// It took longer than it may: the source says which limit that was. It may be done all the same.
    #[error("failed to {operation}: it took too long")]
    Deadline {
        /// What was being done.
        operation: Operation,
        /// Which limit was reached.
        source: BoxError,
    },
    /// The object is in a state that does not allow this: the source says what it lacks, a key of a secret for one.
    #[error("failed to {operation}: its state does not allow it")]
    Conflict {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// The sandbox has ended, or its machine is lost: `wait` of it says how. Create another, with a longer time-out if
    /// that was it.
    #[error("failed to {operation}: sandbox `{sandbox}` is gone")]
    SandboxGone {
        /// What was being done.
        operation: Operation,
        /// The sandbox.
        sandbox: SandboxId,
        /// What the server said.
        source: BoxError,
    },
    /// The server does not serve this: for `modal-local` see `docs/coverage.md`.
    #[error("failed to {operation}: this server does not support it")]
    Unsupported {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// An image could not be built; `output` is the end of what its step printed.
    #[error("failed to build image layer `{image}` (`{}`): {reason}{}", brief(.step), tail(.reason, .output))]
    BuildFailed {
        /// The layer that failed.
        image: ImageId,
        /// The step that failed, as a Dockerfile would write it.
        step: String,
        /// What the server gives as the reason.
        reason: String,
        /// The last lines the step printed.
        output: String,
    },
    /// A function failed: it raised an exception, took too long or lost its container.
    #[error("failed to {operation}: {}", failure(*.reason, .message))]
    FunctionFailed {
        /// What was being done.
        operation: Operation,
        /// How it ended.
        reason: crate::sandbox::ExitReason,
        /// The exception, as Python prints it in one line.
        message: String,
        /// Where it was raised, if the server says it.
        traceback: String,
    },
    /// A local file could not be read or written.
    #[error("failed to {operation}: cannot use `{}`", path.display())]
    File {
        /// What was being done.
        operation: Operation,
        /// The local file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection failed, again and again: whether the call was done is not known. All attempts had one idempotency
    /// key; another call is a new one.
    #[error("failed to {operation}: the connection failed")]
    Transport {
        /// What was being done.
        operation: Operation,
        /// What it failed with.
        source: BoxError,
    },
    /// The server failed to do it: nothing is wrong with the request, and it may work later.
    #[error("failed to {operation}: the server failed")]
    Server {
        /// What was being done.
        operation: Operation,
        /// What the server said.
        source: BoxError,
    },
    /// The answer makes no sense, or is not of the type that was asked for (`call::<i64>` of a function that returns a
    /// text): the source says which.
    #[error("failed to {operation}: the server's answer cannot be used")]
    Protocol {
        /// What was being done.
        operation: Operation,
        /// What is wrong with the answer.
        source: BoxError,
    },
}

fn failure(reason: crate::sandbox::ExitReason, message: &str) -> String {
    use crate::sandbox::ExitReason as Reason;
    let what = match reason {
        Reason::Failure => "it raised an exception",
        Reason::Timeout | Reason::IdleTimeout => "it took longer than it may",
        Reason::Terminated => "it was terminated",
        Reason::OutOfMemory => "it used more memory than it may",
        Reason::InitFailure => "its container could not start",
        Reason::Success | Reason::InternalFailure => "the server failed",
    };
    if message.is_empty() { what.to_owned() } else { format!("{what}: {message}") }
}

/// As much of a step as tells which one it is: a list of packages may be pages long.
fn brief(step: &str) -> String {
    const MOST: usize = 160;
    match step.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &step[..at]),
        None => step.to_owned(),
    }
}

/// The output on lines of its own, unless the reason quotes it already.
fn tail(reason: &str, output: &str) -> String {
    let output = output.trim_end();
    let is_quoted = output.lines().next_back().is_none_or(|last| reason.contains(last.trim()));
    if is_quoted { String::new() } else { format!("\n{output}") }
}

impl Error {
    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Something by that name exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// The token was not accepted, is missing, or may not do this.
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::Auth { .. } | Self::Permission { .. })
    }

    /// The sandbox has ended or is lost.
    pub fn is_sandbox_gone(&self) -> bool {
        matches!(self, Self::SandboxGone { .. })
    }

    /// A limit was reached.
    pub fn is_rate_limited(&self) -> bool {
        matches!(self, Self::RateLimited { .. })
    }

    /// It took longer than it may.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }

    /// The state of the object does not allow it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// The same request may succeed later: nothing about it is wrong.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Transport { .. }
                | Self::Unreachable { .. }
                | Self::RateLimited { .. }
                | Self::Deadline { .. }
                | Self::Server { .. }
        )
    }

    pub(crate) fn invalid(operation: Operation, problem: impl Into<String>) -> Self {
        Self::Invalid { operation, source: Box::new(Problem(problem.into())) }
    }

    pub(crate) fn protocol(operation: Operation, problem: impl Into<String>) -> Self {
        Self::Protocol { operation, source: Box::new(Problem(problem.into())) }
    }

    pub(crate) fn deadline(operation: Operation, problem: impl Into<String>) -> Self {
        Self::Deadline { operation, source: Box::new(Problem(problem.into())) }
    }

    pub(crate) fn file(operation: Operation, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { operation, path: path.into(), source }
    }

    /// This error and its causes in one line: what failed, and why.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// What the server said, where a status of the server is the cause.
    pub fn server_status(&self) -> Option<&ServerStatus> {
        StdError::source(self).and_then(|source| source.downcast_ref())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            Error::Permission { .. } | Error::Auth { .. } => io::ErrorKind::PermissionDenied,
            Error::Deadline { .. } => io::ErrorKind::TimedOut,
            Error::SandboxGone { .. } | Error::Conflict { .. } => io::ErrorKind::BrokenPipe,
            Error::Transport { .. } => io::ErrorKind::ConnectionAborted,
            Error::Invalid { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_failed_and_why() {
        let error = Error::deadline(Operation::new("read", "volume `v`"), "no answer within 9 s");
        assert_eq!(error.to_string(), "failed to read volume `v`: it took too long");
        assert_eq!(
            error.report(),
            "failed to read volume `v`: it took too long: no answer within 9 s"
        );
    }
}
