//! Why a PostgreSQL can't be kept.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::lease::RegisterError;

/// Result of this module.
pub(crate) type Result<T, E = PostgresError> = std::result::Result<T, E>;

/// Why a PostgreSQL can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// A file or directory can't be used.
    #[error("can't {what} `{}`", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed; its words are in the log.
    #[error("`{program}` ended with {status}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// One of PostgreSQL's programs can't be run.
    #[error("`{program}` can't be run")]
    Run {
        /// Its name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The server does not do what it is told.
    #[error("failed to {what}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// What the server says.
        source: sqlx::Error,
    },
    /// The earlier data is another version's.
    #[error(
        "the data in `{}` was made by PostgreSQL {found} and can't be opened by {ours}: install PostgreSQL {found}",
        path.display()
    )]
    Version {
        /// Where it lies.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What is installed.
        ours: String,
    },
    /// Another container holds the lease.
    #[error("another container writes to this database, and did not leave within {0} s")]
    LeaseHeld(u64),
    /// The lease is lost: another container may write from now on.
    #[error("the lease can't be renewed ({0}): another container may write from now on")]
    LeaseLost(String),
    /// The register of leases can't be used.
    #[error("the register of leases can't be used")]
    Register(#[source] RegisterError),
    /// No backup is as old as that.
    #[error("there is no base backup from before {0}")]
    NoBackup(String),
    /// PostgreSQL does not hand its WAL over.
    #[error("PostgreSQL did not hand its WAL over within {0} s")]
    NotArchived(u64),
}

impl PostgresError {
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(super) fn sql(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { what, source }
    }
}
