use std::path::PathBuf;

use eval_types::RunId;

use crate::cause;

/// A cause whose type is no promise of this crate.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why results could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The index can't be opened or brought up to date.
    #[error("can't open the index of results `{path}`")]
    OpenIndex {
        /// Its file.
        path: PathBuf,
        /// What SQLite said.
        source: BoxError,
    },
    /// A statement failed.
    #[error("can't {doing} the index of results")]
    Index {
        /// `read` or `write`.
        doing: &'static str,
        /// What SQLite said.
        source: BoxError,
    },
    /// No run of that name.
    #[error("no run `{run}`")]
    NoRun {
        /// The name.
        run: RunId,
    },
    /// A record of the index is not what this version writes.
    #[error("the index holds a {what} that can't be read")]
    Record {
        /// Of what.
        what: &'static str,
        /// Where its JSON goes wrong.
        source: serde_json::Error,
    },
    /// A file could not be read or written.
    #[error("can't {doing} `{location}` in the results")]
    File {
        /// `read`, `write`, `list`.
        doing: &'static str,
        /// Where.
        location: String,
        /// What the object store said.
        source: BoxError,
    },
    /// A file is not there.
    #[error("there is no `{location}` in the results")]
    NoFile {
        /// Where.
        location: String,
        /// What the object store said.
        source: BoxError,
    },
    /// A file is not a result.
    #[error("`{location}` is no result file")]
    Malformed {
        /// Where.
        location: String,
        /// Where its JSON goes wrong.
        source: serde_json::Error,
    },
    /// A file of a version that does not exist yet.
    #[error("`{location}` has format {found}, this version reads up to {known}: update goat")]
    TooNew {
        /// Where.
        location: String,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
}

impl Error {
    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoRun { .. } | Self::NoFile { .. })
    }

    pub(crate) fn index(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Index { doing, source: cause::of_sqlx(source) }
    }

    pub(crate) fn file(
        doing: &'static str,
        location: &impl ToString,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let location = location.to_string();
        move |source| match source {
            source @ object_store::Error::NotFound { .. } => {
                Self::NoFile { location, source: cause::of_store(source) }
            }
            source => Self::File { doing, location, source: cause::of_store(source) },
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
