//! The app `goat-services`: which functions it has, what their containers hold and run, and what it takes to tell
//! whether one changed.
//!
//! Services are web servers: a Python image, files of ours under [`FILES`], and a [`Plan`] for the supervisor, which
//! starts everything else. One function is for calls through Modal's SDK: [`langfuse_query`]. The only Python of ours
//! that Modal sees is [`shim`].
//!
//! Source of ports, limits, secrets and volumes: the scripts of jack-phare/goat at dd706f5 (`modal_services.py`). What
//! differs: one container at most of each, ports behind a door, PostgreSQL's data on the container's own disk.

mod digest;
mod file;
mod langfuse;
mod litellm;
mod postgres;
mod query;
mod record;
mod routes;
mod shim;

use secret_string::SecretString;
use std::collections::BTreeMap;
use std::time::Duration;

pub use service_supervisor::plan::{Access, Route};
pub use service_supervisor::{LIFE_HEADER, Plan};

pub use self::digest::{Digests, PartDigest};
pub use self::file::{Contents, ServiceFile};
pub use self::langfuse::{LANGFUSE_IMAGE, Langfuse, langfuse, stand_in_recipe};
pub use self::litellm::{ExistingLangfuse, Litellm, Traces, Upstreams, litellm};
pub use self::query::langfuse_query;
pub use self::record::{Change, DEPLOY_DICT, DeployRecord};
pub use self::routes::{OWN_ROUTES, langfuse_routes, litellm_routes};
pub use self::shim::shim;

/// The app's name.
pub const APP: &str = "goat-services";
/// The proxy's function.
pub const LITELLM: &str = "litellm";
/// The function of Langfuse and its database.
pub const LANGFUSE: &str = "langfuse";
/// The function that asks Langfuse's database.
pub const LANGFUSE_QUERY: &str = "langfuse_query";
/// Where files of ours lie in containers.
pub const FILES: &str = "/goat";
/// The supervisor, below [`FILES`].
pub const SUPERVISOR: &str = "service-supervisor";
/// The plan, below [`FILES`].
pub const PLAN: &str = "plan.json";
/// What changes while a container lives, and is gone with it.
pub(crate) const STATE: &str = "/var/lib/goat";
/// The volume with what the proxy must remember when its container is lost; made with the first deployment.
pub const KEPT_VOLUME: &str = "goat-litellm";
/// The variable with the public address of Langfuse.
pub const LANGFUSE_URL: &str = "GOAT_LANGFUSE_URL";

/// A function of the app.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// What `FROM` names.
    pub base: String,
    /// Dockerfile commands on it.
    pub commands: Vec<String>,
    /// What is added, below [`FILES`]; the supervisor and a server's plan are among them.
    pub files: Vec<ServiceFile>,
    /// What it does.
    pub kind: Kind,
    /// Secrets whose variables it gets.
    pub secrets: Vec<&'static str>,
    /// Variables that go along with the function itself, in a secret that nobody keeps by a name.
    pub values: BTreeMap<String, SecretString>,
    /// Variables with addresses of functions of the app: name of the variable, of the function.
    pub addresses: Vec<(&'static str, &'static str)>,
    /// Volumes: path and name.
    pub volumes: Vec<(&'static str, &'static str)>,
    /// Memory that is reserved, in MiB.
    pub memory_mib: Option<u32>,
    /// How long a request or call may take.
    pub timeout: Duration,
    /// What stands in for something that the target cannot have, in sentences.
    pub stand_ins: Vec<String>,
}

/// What a function does.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are three functions")]
pub enum Kind {
    /// It answers HTTP, in one container that is always there.
    Server(Server),
    /// It is called through Modal's SDK, in containers that come and go.
    Query,
}

/// A web server.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// The port that its door listens at.
    pub port: u16,
    /// What the supervisor does.
    pub plan: Plan,
    /// Requests at a time that Modal lets through.
    pub concurrent: u32,
    /// From the container's start until the port must be open.
    pub startup: Duration,
}

impl Service {
    /// What it is as a web server, if it is one.
    pub fn server(&self) -> Option<&Server> {
        match &self.kind {
            Kind::Server(server) => Some(server),
            Kind::Query => None,
        }
    }

    /// Adds the supervisor, and a server's plan, to the files.
    fn with_supervisor(mut self, supervisor: &Contents) -> Self {
        self.files.push(ServiceFile::program(SUPERVISOR, supervisor.clone()));
        if let Kind::Server(server) = &self.kind {
            let plan = serde_json::to_string_pretty(&server.plan).unwrap_or_default();
            self.files.push(ServiceFile::text(PLAN, plan));
        }
        self
    }
}

impl Server {
    /// How long its supervisor waits for everything to be ready: no other deadline may be shorter.
    pub fn ready_within(&self) -> Duration {
        self.plan.services.iter().map(|service| service.ready_within).sum()
    }
}

/// A path below [`FILES`].
fn in_files(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// A path below [`STATE`].
fn in_state(name: &str) -> String {
    format!("{STATE}/{name}")
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
