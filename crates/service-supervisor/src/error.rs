//! Why a plan could not be carried out, or ended before it was told to.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::postgres::PostgresError;
pub use crate::spool::StoreError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a plan could not be carried out, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file of the plan can't be read.
    #[error("can't read the plan `{}`", path.display())]
    ReadPlan {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of the plan is no plan.
    #[error("`{}` is no plan", path.display())]
    ParsePlan {
        /// Where it is.
        path: PathBuf,
        /// Line, column and what is wrong.
        source: serde_json::Error,
    },
    /// What the plan asks for can't be done.
    #[error("the plan can't be carried out: {0}")]
    Plan(String),
    /// A variable that the plan asks for is not there.
    #[error(
        "{wanted_by} needs the variable `{name}`, which is not set or empty: is its secret attached?"
    )]
    MissingVariable {
        /// The variable.
        name: String,
        /// Which service or door.
        wanted_by: String,
    },
    /// A user that the plan names does not exist in this container.
    #[error("service `{service}` is to run as `{user}`, who is not in /etc/passwd")]
    NoUser {
        /// Which service.
        service: String,
        /// The user.
        user: String,
    },
    /// The supervisor can't find its own program, which starts all others.
    #[error("can't find this program's own file")]
    Itself(#[source] io::Error),
    /// A program can't be started.
    #[error("service `{service}`: can't start `{program}`")]
    Start {
        /// Which service.
        service: String,
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// A command before a service failed.
    #[error("service `{service}`: its preparation `{program}` ended with {status}")]
    Prepare {
        /// Which service.
        service: String,
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A service, or a command before it, was not done in time.
    #[error("service `{service}` was not ready within {} s: {last}", within.as_secs_f64())]
    NotReady {
        /// Which service.
        service: String,
        /// Its deadline.
        within: Duration,
        /// What the last look at it said.
        last: String,
    },
    /// A service ended, though nobody told it to.
    #[error("service `{service}` ended by itself with {status}")]
    Died {
        /// Which service.
        service: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A service can't be waited for.
    #[error("service `{service}` can't be waited for")]
    Wait {
        /// Which service.
        service: String,
        /// What the system says.
        source: io::Error,
    },
    /// A port can't be listened on.
    #[error("door `{door}` can't listen on port {port}")]
    Listen {
        /// Which door.
        door: String,
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// A door's keys for tasks can't be used.
    #[error("door `{door}` can't check tokens of tasks")]
    TaskKeys {
        /// Which door.
        door: String,
        /// What is wrong with them.
        source: Box<goat_keys::Error>,
    },
    /// The directory of what tokens have spent can't be used.
    #[error("door `{door}` can't keep budgets in `{}`", path.display())]
    Budgets {
        /// Which door.
        door: String,
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A spool has no usable address or keys of Langfuse.
    #[error("spool `{spool}` can't hand traces on")]
    SpoolTarget {
        /// Which spool.
        spool: String,
        /// What is wrong with them.
        source: Box<langfuse_client::Error>,
    },
    /// A spool can't keep events.
    #[error("spool `{spool}` can't keep traces")]
    Spool {
        /// Which spool.
        spool: String,
        /// What is wrong with its directory.
        source: StoreError,
    },
    /// The PostgreSQL of the plan can't be kept.
    #[error("PostgreSQL `{name}` can't be kept")]
    Postgres {
        /// Which.
        name: String,
        /// Why.
        source: Box<PostgresError>,
    },
    /// Services did not end in time and were killed.
    #[error("killed, because they did not end within their time: {}", services.join(", "))]
    Killed {
        /// Their names.
        services: Vec<String>,
    },
}

impl Error {
    /// This and what led to it, on one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and what led to it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error;
    while let Some(source) = cause.source() {
        words.push_str(": ");
        words.push_str(&source.to_string());
        cause = source;
    }
    words
}
