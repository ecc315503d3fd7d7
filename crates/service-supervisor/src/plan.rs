//! What a container runs: data, written by who builds the image, read once at the start.
//!
//! The plan lies in the image, so it names secrets and never holds one. Times are in seconds.

mod check;
mod postgres;
mod seconds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::postgres::{LeaseSpec, PostgresSpec};
use crate::error::{Error, Result};

/// All that a container runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What keeps traces on disk; they start before all services and end after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spools: Vec<SpoolSpec>,
    /// A PostgreSQL, which starts before all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSpec>,
    /// In the order in which they start; each waits until the one before is healthy.
    pub services: Vec<ServiceSpec>,
    /// What listens for the outside, once all services are healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doors: Vec<DoorSpec>,
}

/// One service: a program that is meant to run as long as the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Stands before each line of its output.
    pub name: String,
    /// Commands that must end well before it starts, one after another, as the same user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Vec<String>>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Value>,
    /// Its working directory; else the supervisor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Who it runs as, by name of `/etc/passwd` or number; else the supervisor's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it counts as ready.
    pub health: Health,
    /// From the start of its preparation until it must be ready.
    #[serde(with = "seconds")]
    pub ready_within: Duration,
    /// How it is asked to end.
    #[serde(default)]
    pub stop: Stop,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Value {
    /// This text.
    Text(String),
    /// The supervisor's own variable of that name, which must be there.
    From(String),
    /// The first of the supervisor's own variables that is there; else the service goes without.
    FromAny(Vec<String>),
    /// A text in which `{NAME}` stands for a variable of the supervisor, encoded for a URL.
    Url(String),
}

/// When a service counts as ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Health {
    /// As soon as it has started.
    Started,
    /// A port on loopback accepts connections.
    Tcp {
        /// The port.
        port: u16,
    },
    /// `GET` on loopback answers with a status below 400.
    Http {
        /// The port.
        port: u16,
        /// The path, with its slash.
        path: String,
    },
    /// A command ends with 0, as the service's user with its variables.
    Command(Vec<String>),
}

/// How a service is asked to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// What its first process gets.
    pub signal: StopSignal,
    /// After that long its process group is killed.
    #[serde(with = "seconds")]
    pub within: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: StopSignal::Term, within: Duration::from_secs(10) }
    }
}

/// What asks a service to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT: a "fast" stop of PostgreSQL, which ends connections and then writes all there is.
    Int,
}

/// A port for the outside, and what may pass it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorSpec {
    /// For messages.
    pub name: String,
    /// The address to listen at: all interfaces in a container, loopback elsewhere.
    pub listen: std::net::IpAddr,
    /// The port to listen at; 0 takes a free one, which the log tells.
    pub port: u16,
    /// Where the service listens, on loopback.
    pub upstream: u16,
    /// What passes; the first that fits decides, and all else is 404.
    pub routes: Vec<Route>,
    /// Variables that hold keys of users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_keys: Vec<String>,
    /// Variables that hold keys of administrators, which open what users' keys open, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admin_keys: Vec<String>,
    /// Keys that a task's tokens are signed with; such a token opens what users' keys open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_keys: Option<TaskKeys>,
    /// The spool that gets the traces of what passes here: calls that were answered and not traced are counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced_by: Option<String>,
    /// What is too much.
    #[serde(default)]
    pub limits: Limits,
}

/// How tokens of tasks are checked (crate `goat-keys`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskKeys {
    /// The variable that holds the signing keys.
    pub signing_keys: String,
    /// The file of revoked runs, read again whenever it changes. With it, the door answers `POST
    /// /goat/keys/revoke` (`{"run": …}`) to administrators by itself.
    pub revoked: PathBuf,
    /// The directory of what tokens have spent, by which doors keep budgets across restarts, a file for each, and
    /// answer `GET /goat/keys/spent` to administrators. Without it no budget is kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<PathBuf>,
}

/// Traces on their way to Langfuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolSpec {
    /// For messages.
    pub name: String,
    /// The port to listen at, on loopback; 0 takes a free one, which the log tells.
    pub port: u16,
    /// Where events are kept: on the container's disk.
    pub directory: PathBuf,
    /// Where they are kept, too, so that they outlive the container: a directory on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    /// What Langfuse took is handed on once more where it starts anew within that time: longer than its database
    /// can lose. It must be behind a door of this program.
    #[serde(with = "seconds", default, skip_serializing_if = "Duration::is_zero")]
    pub again_within: Duration,
    /// Bytes of events that are kept at most.
    pub max_bytes: u64,
    /// The variable that holds the address of Langfuse.
    pub url: String,
    /// The variable that holds the project's public key.
    pub public_key: String,
    /// The variable that holds the project's secret key.
    pub secret_key: String,
    /// At the end, how long events are still handed on.
    #[serde(with = "seconds")]
    pub drain: Duration,
}

/// A kind of request that passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its methods; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The path. `*` at its end stands for anything, `*` as a part stands for any one part.
    pub path: String,
    /// Who may.
    pub access: Access,
    /// Another port on loopback than the door's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<u16>,
}

/// Who may send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody: probes of health.
    Open,
    /// Who has a key of users or of administrators.
    User,
    /// Who has a key of administrators.
    Admin,
    /// Who shows credentials of any kind; the service judges them. For services that keep users themselves.
    Credentials,
    /// Anybody: the service shows its own login page. Only for services that have one.
    Login,
}

/// What is too much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: u64,
    /// From a whole request to the first byte of its answer. Models that must start first take long.
    #[serde(with = "seconds")]
    pub answer_within: Duration,
    /// Between two pieces of an answer, or of a request's body.
    #[serde(with = "seconds")]
    pub idle: Duration,
    /// Requests at a time; more are told to come again.
    pub concurrent: usize,
    /// How long requests may go on after the container was told to stop.
    #[serde(with = "seconds")]
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            answer_within: Duration::from_secs(1_800),
            idle: Duration::from_secs(600),
            concurrent: 1_000,
            drain: Duration::from_secs(20),
        }
    }
}

impl Plan {
    /// Reads and checks the plan in a file of JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .map_err(|source| Error::ReadPlan { path: path.to_owned(), source })?;
        let plan: Self = serde_json::from_slice(&text)
            .map_err(|source| Error::ParsePlan { path: path.to_owned(), source })?;
        plan.check()?;
        Ok(plan)
    }

    /// Refuses what could not be carried out: names twice, ports twice, empty commands, unknown paths.
    pub fn check(&self) -> Result<()> {
        check::check(self).map_err(Error::Plan)
    }
}
