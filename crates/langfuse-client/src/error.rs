//! Why a call failed: variants are situations a caller can act on.

use std::{error::Error as StdError, time::Duration};

use crate::probe::ApiVersion;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as libraries hand it on.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What a Langfuse server wrote into an answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server answered {status}: {message}")]
pub struct ServerAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The server's words, cut to 2,000 characters.
    pub message: String,
}

/// Why something failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error("the Langfuse configuration cannot be used: {problem}")]
    Config {
        /// What is wrong with it.
        problem: String,
    },
    /// No answer came: wrong address, server down, or the limit of an attempt passed.
    #[error("failed to {operation}: no answer from {url} after {attempts} attempts")]
    Unreachable {
        /// What was being done.
        operation: &'static str,
        /// The server's address.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt failed with.
        source: BoxError,
    },
    /// The keys were not accepted.
    #[error(
        "failed to {operation}: the keys were not accepted; check the public key, the secret key and that they belong to this server"
    )]
    Auth {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        source: ServerAnswer,
    },
    /// The keys are valid, but may not do this.
    #[error("failed to {operation}: not permitted with these keys")]
    Forbidden {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        source: ServerAnswer,
    },
    /// Nothing by that id or name exists in the project.
    #[error("failed to {operation}: not found")]
    NotFound {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        source: ServerAnswer,
    },
    /// A request that no retry will make valid.
    #[error("failed to {operation}: the server refused the request")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        source: ServerAnswer,
    },
    /// The body is over the server's limit.
    #[error("failed to {operation}: the request is too large for the server")]
    TooLarge {
        /// What was being done.
        operation: &'static str,
        /// What the server said.
        source: ServerAnswer,
    },
    /// A limit was reached, and waiting as long as the policy allows did not help.
    #[error("failed to {operation}: the rate limit is used up")]
    RateLimited {
        /// What was being done.
        operation: &'static str,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// What the server said.
        source: ServerAnswer,
    },
    /// The server failed, also when asked again.
    #[error("failed to {operation}: the server failed after {attempts} attempts")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// What the server said last.
        source: ServerAnswer,
    },
    /// The answer is not what Langfuse's API promises: another program answers, or a newer version.
    #[error("failed to {operation}: the answer cannot be read")]
    Unreadable {
        /// What was being done.
        operation: &'static str,
        /// What was wrong with it.
        source: BoxError,
    },
    /// This version of the server has no such endpoint.
    #[error("failed to {operation}: Langfuse {version} has no such endpoint; {instead}")]
    Unsupported {
        /// What was being done.
        operation: &'static str,
        /// The API that the server speaks.
        version: ApiVersion,
        /// What to use instead.
        instead: &'static str,
    },
    /// One event is larger than the server takes in a request of its own.
    #[error("the event `{event}` has {bytes} bytes, over the limit of {limit}")]
    EventTooLarge {
        /// Its id.
        event: String,
        /// Its size as JSON.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The event cannot be written as JSON.
    #[error("the event `{event}` cannot be written as JSON")]
    Unwritable {
        /// Its id.
        event: String,
        /// Why.
        source: BoxError,
    },
    /// The queue has no room; the event was not taken.
    #[error("the queue of events is full")]
    QueueFull,
    /// The queue was shut down; the event was not taken.
    #[error("the queue of events is closed")]
    QueueClosed,
}

impl Error {
    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether asking again later may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::RateLimited { .. } | Self::Server { .. })
    }

    /// The HTTP status of the last answer, where one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Auth { source, .. }
            | Self::Forbidden { source, .. }
            | Self::NotFound { source, .. }
            | Self::Refused { source, .. }
            | Self::TooLarge { source, .. }
            | Self::RateLimited { source, .. }
            | Self::Server { source, .. } => Some(source.status),
            _ => None,
        }
    }
}
