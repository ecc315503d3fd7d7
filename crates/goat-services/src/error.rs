//! Why values could not be read, made or kept.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why values could not be read, made or kept. No message holds a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file of variables can't be read.
    #[error("can't read `{}`", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of variables has a line that is none. Which one is told, not what it holds.
    #[error("`{}` has a line that is not NAME=value: after `{after}`", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// The last name before it.
        after: String,
    },
    /// The file of variables can't be written.
    #[error("can't write `{}`", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of a service can't be read or put where it is sent from.
    #[error("can't prepare `{}` for a service", path.display())]
    Stage {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A value that no line of the file can hold.
    #[error(
        "the value of `{0}` holds a quote or the end of a line: set it in the environment instead"
    )]
    UnwritableValue(String),
    /// No random numbers are to be had.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A signing key could not be made or continued.
    #[error("can't make a signing key for tasks")]
    SigningKey(#[source] goat_keys::Error),
    /// A key that nothing knows was to be replaced.
    #[error("`{name}` is no key of these secrets{}", near.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
    UnknownKey {
        /// What was asked for.
        name: String,
        /// The nearest that there is.
        near: Option<String>,
    },
}
