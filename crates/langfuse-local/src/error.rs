//! Why the server cannot run.

use std::{error::Error as StdError, io, net::SocketAddr};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as libraries hand it on.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable is missing or wrong.
    #[error("the settings cannot be used: {problem}")]
    Settings {
        /// What is wrong.
        problem: String,
    },
    /// The database does not answer, or not as it should.
    #[error("failed to {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database or the driver said.
        source: BoxError,
    },
    /// The address cannot be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server stopped serving.
    #[error("the server stopped")]
    Serve {
        /// Why.
        source: io::Error,
    },
}

pub(crate) fn database<E: Into<BoxError>>(operation: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Database { operation, source: source.into() }
}
