//! The LiteLLM proxy, its spool of traces and its door.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use litellm_config::generate::{StandIn, Wanted, generate};
use litellm_config::{Catalogue, Sends, VersionSet, hook};
use secret_string::SecretString;
use service_supervisor::plan::{
    Access, DoorSpec, Health, Limits, Plan, Route, ServiceSpec, SpoolSpec, Stop, StopSignal,
    TaskKeys, Value,
};

use super::{
    Contents, KEPT_VOLUME, Kind, LANGFUSE, LANGFUSE_URL, LITELLM, Server, Service, ServiceFile,
    in_files, in_state, words,
};
use crate::catalog::PROVIDERS_SECRET;

const DOOR: u16 = 4000;
const PORT: u16 = 4001;
const SPOOL: u16 = 4002;
const REPLAY: u16 = 4003;
/// Where the volume with what outlives the container is: what waits in the spool, revoked runs, what tasks have spent.
const KEPT: &str = "/kept";
/// Events on disk: some hundred thousand calls.
const SPOOL_BYTES: u64 = 2 << 30;
/// The spool, for the door.
const SPOOL_NAME: &str = "traces";
/// Langfuse's database may lose a minute with its container, and what its volume had not committed yet.
const AGAIN_WITHIN: Duration = Duration::from_secs(180);
const CONFIG: &str = "config.yaml";
/// `llm-replay` and its recordings, below [`FILES`](super::FILES).
const REPLAY_PROGRAM: &str = "llm-replay";
const RECORDINGS: &str = "recordings";
const REPLAY_KEY: &str = "GOAT_STAND_IN_KEY";
const SIGNING_KEYS: &str = "GOAT_TASK_SIGNING_KEY";
const MASTER_KEY: &str = "LITELLM_MASTER_KEY";
/// As LiteLLM's callback reads them, and as those of an existing Langfuse are called.
const PUBLIC_KEY: &str = "LANGFUSE_PUBLIC_KEY";
const SECRET_KEY: &str = "LANGFUSE_SECRET_KEY";

/// Where models are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    /// At the providers whose variables these are, all of them in the secret.
    Providers(Vec<String>),
    /// Nowhere: recorded conversations answer for every model of the catalogue.
    Replay {
        /// `llm-replay`.
        program: Contents,
        /// The recordings: the path below their directory, and the file.
        recordings: Vec<(String, PathBuf)>,
    },
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traces {
    /// To the app's function `langfuse`.
    Own,
    /// To a Langfuse that is there already.
    Existing(ExistingLangfuse),
}

/// A Langfuse that this app is no part of, and the keys of a project of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingLangfuse {
    /// Its address.
    pub url: String,
    /// `LANGFUSE_PUBLIC_KEY`.
    pub public_key: SecretString,
    /// `LANGFUSE_SECRET_KEY`.
    pub secret_key: SecretString,
}

impl ExistingLangfuse {
    /// The proxy's variables.
    fn values(&self) -> BTreeMap<String, SecretString> {
        let pairs = [
            (LANGFUSE_URL, SecretString::from(&*self.url)),
            (PUBLIC_KEY, self.public_key.clone()),
            (SECRET_KEY, self.secret_key.clone()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Traces {
    /// The variables with the keys of the project.
    fn keys(&self) -> [&'static str; 2] {
        match self {
            Self::Own => ["LANGFUSE_INIT_PROJECT_PUBLIC_KEY", "LANGFUSE_INIT_PROJECT_SECRET_KEY"],
            Self::Existing(_) => [PUBLIC_KEY, SECRET_KEY],
        }
    }
}

/// What the proxy is to be.
#[derive(Debug)]
pub struct Litellm<'a> {
    /// Its versions.
    pub set: &'a VersionSet,
    /// Its models.
    pub catalogue: &'a Catalogue,
    /// Where they are.
    pub upstreams: Upstreams,
    /// Where traces go.
    pub traces: Traces,
}

/// The function `litellm`.
pub fn litellm(wanted: &Litellm<'_>, supervisor: &Contents) -> Service {
    let mut files = vec![
        ServiceFile::text(CONFIG, config(wanted)),
        ServiceFile::text(hook::FILE_NAME, hook::source()),
    ];
    let mut secrets = vec!["goat-litellm"];
    let (mut values, mut addresses) = (BTreeMap::new(), Vec::new());
    match &wanted.traces {
        Traces::Own => {
            secrets.push("goat-langfuse");
            addresses.push((LANGFUSE_URL, LANGFUSE));
        }
        Traces::Existing(existing) => values = existing.values(),
    }
    let mut services = Vec::new();
    let mut stand_ins = Vec::new();
    match &wanted.upstreams {
        Upstreams::Providers(_) => secrets.push(PROVIDERS_SECRET),
        Upstreams::Replay { program, recordings } => {
            files.push(ServiceFile::program(REPLAY_PROGRAM, program.clone()));
            let copy = |(name, path): &(String, PathBuf)| {
                ServiceFile::copy(format!("{RECORDINGS}/{name}"), path)
            };
            files.extend(recordings.iter().map(copy));
            services.push(replay());
            let why = "no provider is set up: recorded conversations answer (replay)";
            stand_ins.push(format!("models: {why}"));
        }
    }
    services.push(proxy(wanted));
    let service = Service {
        name: LITELLM,
        base: "python:3.11-slim-bookworm".to_owned(),
        commands: commands(wanted.set),
        files,
        kind: Kind::Server(Server {
            port: DOOR,
            plan: Plan {
                spools: vec![spool(&wanted.traces)],
                postgres: None,
                services,
                doors: vec![door()],
            },
            concurrent: 1000,
            startup: Duration::from_secs(180),
        }),
        secrets,
        values,
        addresses,
        volumes: vec![(KEPT, KEPT_VOLUME)],
        memory_mib: None,
        timeout: Duration::from_secs(24 * 3600),
        stand_ins,
    };
    service.with_supervisor(supervisor)
}

fn config(wanted: &Litellm<'_>) -> String {
    let Litellm { set, catalogue, upstreams, traces: _ } = wanted;
    let wanted = match upstreams {
        Upstreams::Providers(variables) => {
            Wanted::new(set, catalogue, |name| variables.iter().any(|it| it == name))
        }
        Upstreams::Replay { .. } => {
            let api_base = format!("http://127.0.0.1:{REPLAY}/v1");
            let stand_in = StandIn { api_base, key_variable: REPLAY_KEY.to_owned() };
            Wanted::with_stand_in(set, catalogue, stand_in)
        }
    };
    generate(&wanted).render()
}

/// Every package in its version: the list is complete, so that pip resolves nothing.
fn commands(set: &VersionSet) -> Vec<String> {
    let lines = set.requirements().lines().map(str::trim);
    let packages = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let packages: Vec<String> = packages.map(|package| format!("'{package}'")).collect();
    vec![format!("RUN python -m pip install --no-cache-dir --no-deps {}", packages.join(" "))]
}

/// Recordings; the key keeps nobody out of a loopback that nobody else is on.
fn replay() -> ServiceSpec {
    let listen = format!("127.0.0.1:{REPLAY}");
    ServiceSpec {
        name: "replay".to_owned(),
        prepare: Vec::new(),
        command: words([
            &in_files(REPLAY_PROGRAM),
            "replay",
            &in_files(RECORDINGS),
            "--listen",
            &listen,
            "--key-env",
            REPLAY_KEY,
        ]),
        env: BTreeMap::from([replay_key()]),
        directory: None,
        user: None,
        health: Health::Tcp { port: REPLAY },
        ready_within: Duration::from_secs(20),
        stop: Stop { signal: StopSignal::Int, ..Stop::default() },
    }
}

fn replay_key() -> (String, Value) {
    (REPLAY_KEY.to_owned(), Value::Text("sk-replay-inside".to_owned()))
}

fn proxy(wanted: &Litellm<'_>) -> ServiceSpec {
    let text = |name: &str, value: &str| (name.to_owned(), Value::Text(value.to_owned()));
    let from = |name: &str, of: &str| (name.to_owned(), Value::From(of.to_owned()));
    let [public_key, secret_key] = wanted.traces.keys();
    // A call makes two events, or one span: what waits in memory for more is lost with the process.
    let flush_at = match wanted.set.sends {
        Sends::Ingestion => "2",
        Sends::Otlp => "1",
    };
    let mut env = BTreeMap::from([
        from(MASTER_KEY, MASTER_KEY),
        from(SIGNING_KEYS, SIGNING_KEYS),
        text(hook::REVOKED_RUNS_VARIABLE, &in_kept("revoked")),
        // To the spool, which hands it on for as long as it takes.
        text("LANGFUSE_HOST", &format!("http://127.0.0.1:{SPOOL}")),
        text("LANGFUSE_FLUSH_AT", flush_at),
        from(PUBLIC_KEY, public_key),
        from(SECRET_KEY, secret_key),
        // Prices are those of the release: a map that is fetched changes without a deployment.
        text("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        text("PYTHONUNBUFFERED", "1"),
    ]);
    match &wanted.upstreams {
        Upstreams::Providers(variables) => {
            env.extend(variables.iter().map(|name| from(name, name)))
        }
        Upstreams::Replay { .. } => env.extend([replay_key()]),
    }
    ServiceSpec {
        name: LITELLM.to_owned(),
        prepare: Vec::new(),
        command: words([
            "litellm",
            "--config",
            &in_files(CONFIG),
            "--host",
            "127.0.0.1",
            "--port",
            &PORT.to_string(),
        ]),
        env,
        directory: None,
        user: None,
        health: Health::Http { port: PORT, path: "/health/liveliness".to_owned() },
        ready_within: Duration::from_secs(150),
        stop: Stop::default(),
    }
}

fn spool(traces: &Traces) -> SpoolSpec {
    let [public_key, secret_key] = traces.keys();
    SpoolSpec {
        name: SPOOL_NAME.to_owned(),
        port: SPOOL,
        directory: in_state("spool").into(),
        kept: Some(in_kept("spool").into()),
        again_within: match traces {
            Traces::Own => AGAIN_WITHIN,
            // What it queued is its own affair, and nobody says when it starts anew.
            Traces::Existing(_) => Duration::ZERO,
        },
        max_bytes: SPOOL_BYTES,
        url: LANGFUSE_URL.to_owned(),
        public_key: public_key.to_owned(),
        secret_key: secret_key.to_owned(),
        drain: Duration::from_secs(10),
    }
}

fn in_kept(name: &str) -> String {
    format!("{KEPT}/{name}")
}

/// What tasks may ask for is what the hook lets them ask for; all else needs the master key or is not there.
pub(super) fn door() -> DoorSpec {
    let route = |methods: &[&str], path: &str, access, upstream| Route {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        path: path.to_owned(),
        access,
        upstream,
    };
    let mut routes = vec![
        route(&["GET"], "/health/liveliness", Access::Open, None),
        route(&["GET"], "/health/readiness", Access::Open, None),
    ];
    for path in ["/chat/completions", "/completions", "/embeddings", "/responses", "/messages"] {
        routes.push(route(&["POST"], &format!("/v1{path}"), Access::User, None));
    }
    for path in ["/chat/completions", "/completions", "/embeddings", "/responses"] {
        routes.push(route(&["POST"], path, Access::User, None));
    }
    for path in ["/v1/models", "/models", "/v1/model/info", "/model/info"] {
        routes.push(route(&["GET"], path, Access::User, None));
    }
    routes.push(route(&["GET"], "/goat/traces/status", Access::Admin, Some(SPOOL)));
    for path in ["/health", "/health/readiness/details", "/active/callbacks", "/model_group/info"] {
        routes.push(route(&["GET"], path, Access::Admin, None));
    }
    DoorSpec {
        name: "litellm-door".to_owned(),
        listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: DOOR,
        upstream: PORT,
        routes,
        user_keys: Vec::new(),
        admin_keys: vec![MASTER_KEY.to_owned()],
        task_keys: Some(TaskKeys {
            signing_keys: SIGNING_KEYS.to_owned(),
            revoked: in_kept("revoked").into(),
            spent: Some(in_kept("spent").into()),
        }),
        traced_by: Some(SPOOL_NAME.to_owned()),
        limits: Limits::default(),
    }
}
