//! What a server answered instead of a result, in this crate's own words.

use std::{fmt, time::Duration};

use crate::error::{BoxError, Error, Operation};

/// How a call ended, by gRPC's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "gRPC's own list: <https://grpc.io/docs/guides/status-codes/>")]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        match code {
            tonic::Code::Ok => Self::Ok,
            tonic::Code::Cancelled => Self::Cancelled,
            tonic::Code::Unknown => Self::Unknown,
            tonic::Code::InvalidArgument => Self::InvalidArgument,
            tonic::Code::DeadlineExceeded => Self::DeadlineExceeded,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::AlreadyExists => Self::AlreadyExists,
            tonic::Code::PermissionDenied => Self::PermissionDenied,
            tonic::Code::ResourceExhausted => Self::ResourceExhausted,
            tonic::Code::FailedPrecondition => Self::FailedPrecondition,
            tonic::Code::Aborted => Self::Aborted,
            tonic::Code::OutOfRange => Self::OutOfRange,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::Internal => Self::Internal,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::DataLoss => Self::DataLoss,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
        }
    }
}

/// A call's status other than OK: which RPC, after how many attempts, and the server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// The RPC, by its name in Modal's API.
    pub rpc: &'static str,
    /// The status.
    pub code: Code,
    /// The server's message, unchanged.
    pub message: String,
    /// How many times the call was sent.
    pub attempts: u32,
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if self.message.is_empty() {
            write!(f, "no message")?;
        }
        write!(f, " ({:?} from {}", self.code, self.rpc)?;
        if self.attempts > 1 {
            write!(f, ", after {} attempts", self.attempts)?;
        }
        write!(f, ")")
    }
}

impl std::error::Error for ServerStatus {}

/// The error that a call ends with. `attempts` counts from 1.
pub(crate) fn into_error(
    operation: Operation,
    rpc: &'static str,
    status: &tonic::Status,
    attempts: u32,
    retry_after: Option<Duration>,
) -> Error {
    let transport = std::error::Error::source(status).is_some();
    let source: BoxError = Box::new(ServerStatus {
        rpc,
        code: status.code().into(),
        message: describe(status),
        attempts,
    });
    match Code::from(status.code()) {
        Code::Unauthenticated => Error::Auth { operation, source },
        Code::PermissionDenied => Error::Permission { operation, source },
        Code::NotFound => Error::NotFound { operation, source },
        Code::AlreadyExists => Error::AlreadyExists { operation, source },
        Code::InvalidArgument | Code::OutOfRange => Error::Invalid { operation, source },
        Code::FailedPrecondition | Code::Aborted => Error::Conflict { operation, source },
        Code::ResourceExhausted => Error::RateLimited { operation, retry_after, source },
        Code::DeadlineExceeded => Error::Deadline { operation, source },
        Code::Unimplemented => Error::Unsupported { operation, source },
        Code::Unavailable => Error::Transport { operation, source },
        _ if transport => Error::Transport { operation, source },
        _ => Error::Server { operation, source },
    }
}

/// The status's message and, for a broken connection, what broke it.
fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(status: tonic::Status) -> Error {
        into_error(Operation::new("look up", "app `x`"), "AppGetOrCreate", &status, 1, None)
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let error = error_of(tonic::Status::not_found("App 'x' not found"));
        assert_eq!(error.to_string(), "failed to look up app `x`: not found");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("App 'x' not found (NotFound from AppGetOrCreate)"));
        assert!(error.is_not_found() && !error.is_transient());
    }

    #[test]
    fn every_situation_has_its_variant() {
        let cases = [
            (tonic::Status::unauthenticated(""), "Auth"),
            (tonic::Status::permission_denied(""), "Permission"),
            (tonic::Status::already_exists(""), "AlreadyExists"),
            (tonic::Status::invalid_argument(""), "Invalid"),
            (tonic::Status::failed_precondition(""), "Conflict"),
            (tonic::Status::resource_exhausted(""), "RateLimited"),
            (tonic::Status::deadline_exceeded(""), "Deadline"),
            (tonic::Status::unimplemented(""), "Unsupported"),
            (tonic::Status::unavailable(""), "Transport"),
            (tonic::Status::internal(""), "Server"),
        ];
        for (status, variant) in cases {
            let error = error_of(status);
            assert!(format!("{error:?}").starts_with(variant), "{error:?} is not {variant}");
        }
    }
}
