//! Why the server could not do what it was asked, and which gRPC status says so.

use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;

use crate::room::CURE;

/// A cause of another library, kept for the log.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the server could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing by that name or id exists. Worded as by Modal, since SDKs show it and programs look for it.
    #[error("{} '{name}' not found{place}", capitalized(kind))]
    NotFound {
        /// What was looked for, such as `volume`.
        kind: &'static str,
        /// Its name, id or path.
        name: String,
        /// In what: ` in environment 'main'`, or nothing.
        place: String,
    },
    /// The same in other words.
    #[error("{0}")]
    Missing(String),
    /// The name is taken.
    #[error("{kind} `{name}` already exists")]
    AlreadyExists {
        /// What was to be made.
        kind: &'static str,
        /// Its name or path.
        name: String,
    },
    /// The request makes no sense; sending it again does not help.
    #[error("{0}")]
    Invalid(String),
    /// The request makes sense, but not in the state that the object is in.
    #[error("{0}")]
    Precondition(String),
    /// There is no room; it may be tried again when there is.
    #[error("{0}")]
    Exhausted(String),
    /// A record could not be read or written.
    #[error("could not {operation} in the server's database")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database said.
        source: BoxError,
    },
    /// A file of the state directory could not be read or written.
    #[error("could not {operation} `{}`", path.display())]
    File {
        /// What was being done, such as `write`.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("could not listen on {address}; choose another port")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server's connection loop ended with an error.
    #[error("the server stopped serving")]
    Serve {
        /// Why.
        source: BoxError,
    },
    /// Another server uses this state directory.
    #[error("another server already uses `{}`; stop it first", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The background server did not come up, or answers wrongly.
    #[error("{message}; its log is `{}`", log.display())]
    Daemon {
        /// What went wrong.
        message: String,
        /// Where to read more.
        log: PathBuf,
    },
    /// The certificates of tunnels could not be made.
    #[error("could not make the certificates of tunnels")]
    Tls {
        /// Why.
        source: BoxError,
    },
    /// Sandboxes cannot run on this machine.
    #[error("cannot run containers on this machine")]
    Runtime {
        /// What is missing.
        source: BoxError,
    },
}

impl Error {
    pub(crate) fn not_found(kind: &'static str, name: impl ToString) -> Self {
        Self::NotFound { kind, name: name.to_string(), place: String::new() }
    }

    /// The same for a name that only means something in the `container`, an environment or app called `holder`.
    pub(crate) fn not_found_in(
        kind: &'static str,
        name: impl ToString,
        (container, holder): (&str, &str),
    ) -> Self {
        let place = format!(" in {container} '{holder}'");
        Self::NotFound { kind, name: name.to_string(), place }
    }

    pub(crate) fn already_exists(kind: &'static str, name: impl ToString) -> Self {
        Self::AlreadyExists { kind, name: name.to_string() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// For `map_err` on database calls: `operation` completes "could not … in the server's database".
    pub(crate) fn database(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source: source.into() }
    }

    /// For `map_err` on file calls: `operation` completes "could not … `path`".
    pub(crate) fn file(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// Whether the kernel or the database had no room to write.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => is_out_of_space(source),
            Self::Database { source, .. } => database_is_full(source.as_ref()),
            _ => false,
        }
    }

    /// Whether the object asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Missing(_))
    }
}

impl From<crate::ids::InvalidId> for Error {
    fn from(error: crate::ids::InvalidId) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The status that a client sees. Causes stay here, in the log: they name paths of this machine.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match &error {
            Error::NotFound { .. } | Error::Missing(_) => Self::not_found(message),
            Error::AlreadyExists { .. } => Self::already_exists(message),
            Error::Invalid(_) => Self::invalid_argument(message),
            Error::Exhausted(_) => Self::resource_exhausted(message),
            Error::Precondition(_) => {
                log_cause(&error);
                Self::failed_precondition(message)
            }
            // What this machine lacks is what its user must know.
            Error::Runtime { source } => {
                log_cause(&error);
                Self::failed_precondition(format!("{message}: {source}"))
            }
            error if error.is_disk_full() => {
                log_cause(error);
                Self::resource_exhausted(format!("the disk of the local server is full; {CURE}"))
            }
            _ => {
                log_cause(&error);
                Self::internal(message)
            }
        }
    }
}

/// The kind as the first word of a sentence.
fn capitalized(kind: &str) -> String {
    let mut letters = kind.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Source: SQLite's list of result codes; SQLITE_FULL is 13, and what follows a failed write of the
/// write-ahead file are kinds of SQLITE_IOERR, of which those of a full disk are WRITE and SHMSIZE.
fn database_is_full(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    const FULL: [&str; 3] = ["13", "778", "4874"];
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.and_then(|error| error.code()).is_some_and(|code| FULL.contains(&code.as_ref()))
}

fn log_cause(error: &Error) {
    if let Some(cause) = std::error::Error::source(error) {
        tracing::warn!(%error, %cause, "request failed");
    }
}
