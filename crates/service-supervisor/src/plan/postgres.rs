//! A PostgreSQL whose data outlives its container.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// A PostgreSQL that starts before all services, from what is kept in a directory that outlives the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSpec {
    /// Stands before each line of its output.
    pub name: String,
    /// Where `postgres`, `initdb`, `pg_basebackup` and the others lie: the first of these directories that has them.
    pub programs: Vec<PathBuf>,
    /// Who it runs as, by name of `/etc/passwd` or number; PostgreSQL refuses to be root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the server works: on the container's own disk, made anew when it is not the newest state.
    pub data: PathBuf,
    /// What is kept: base backups and archived WAL, on a volume. A directory `data` in it is of the earlier layout.
    pub store: PathBuf,
    /// The port on loopback.
    pub port: u16,
    /// The database, made if it is missing.
    pub database: String,
    /// The variable with the name of the role that owns the database.
    pub role: String,
    /// The variable with that role's password, which also opens the control routes.
    pub password: String,
    /// The port on loopback of the control routes, `/goat/postgres/*`.
    pub control: u16,
    /// What the loss of the container may cost at most: WAL is archived twice as often.
    #[serde(with = "seconds", default = "max_loss")]
    pub max_loss: Duration,
    /// Between two base backups; the last eight are kept. A restore has to go through all WAL since the newest.
    #[serde(with = "seconds", default = "base_every")]
    pub base_every: Duration,
    /// From the lease on until it must be ready, a restore included.
    #[serde(with = "seconds")]
    pub ready_within: Duration,
    /// Who may write.
    pub lease: LeaseSpec,
}

/// The lease that at most one container has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSpec {
    /// The directory of the register, for containers of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The name of a register that the supervisor's binary knows how to open, where there is no directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A holder that was not heard of for that long has lost it.
    #[serde(with = "seconds", default = "expires")]
    pub expires: Duration,
    /// How long a start waits for it.
    #[serde(with = "seconds", default = "wait")]
    pub wait: Duration,
}

fn max_loss() -> Duration {
    Duration::from_secs(60)
}

fn base_every() -> Duration {
    Duration::from_secs(6 * 60 * 60)
}

fn expires() -> Duration {
    Duration::from_secs(30)
}

fn wait() -> Duration {
    Duration::from_secs(120)
}
