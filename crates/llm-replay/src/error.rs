use std::{io, net::SocketAddr, path::PathBuf};

/// Why recordings could not be read, written or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of recordings could not be read or written.
    #[error("can't access recording `{path}`")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not a recording: broken JSON, a missing field, an unknown one.
    #[error("`{path}` is not a recording")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the JSON goes wrong.
        source: serde_json::Error,
    },
    /// The JSON is sound but says something impossible.
    #[error("recording `{path}` can't be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is nothing to replay.
    #[error("no recording (*.json) below `{path}`")]
    Empty {
        /// Where recordings were looked for.
        path: PathBuf,
    },
    /// The address could not be listened on.
    #[error("can't listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP client for the upstream could not be made.
    #[error("can't set up the HTTP client")]
    HttpClient(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
