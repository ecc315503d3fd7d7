//! What every RPC handler can reach.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use container_runtime::{Runtime, RuntimeConfig};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::auth::{Auth, Grant};
use crate::certificates::Certificates;
use crate::clock;
use crate::connect::Connect;
use crate::error::{Error, Result};
use crate::function::Functions;
use crate::idempotency::Idempotency;
use crate::image::Images;
use crate::login::Logins;
use crate::logs::Logs;
use crate::relay::Relays;
use crate::sandbox::{Furnishing, Sandboxes};
use crate::server::ServerConfig;
use crate::service::router::old_files::OldFiles;
use crate::service::router::tls_door::TlsDoor;
use crate::state::State;
use crate::substitution::Substitutions;
use crate::web::WebFronts;

/// The server's parts, the stores of its [`State`] included: `ctx.volumes`, `ctx.secrets` and so on.
/// Clones share them.
#[derive(Clone)]
pub(crate) struct Ctx {
    parts: Arc<Parts>,
}

/// The server's parts.
pub(crate) struct Parts {
    /// Where clients reach this server: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// Tokens, JWTs and signed URLs.
    pub(crate) auth: Auth,
    /// Answers of recent mutating calls.
    pub(crate) idempotency: Idempotency,
    /// When the server was last used.
    pub(crate) activity: Activity,
    /// What sandboxes and builds print.
    pub(crate) logs: Logs,
    /// Ports of this machine that chosen sandboxes may reach.
    pub(crate) relays: Relays,
    /// Recipes to use instead of others.
    pub(crate) substitutions: Substitutions,
    /// Images and their builds.
    pub(crate) images: Images,
    /// HTTP into sandboxes.
    pub(crate) connect: Connect,
    /// TLS of tunnels.
    pub(crate) certificates: Certificates,
    /// Files that every container is shown above its image's.
    pub(crate) furnishing: Furnishing,
    /// Log-ins through a browser.
    pub(crate) logins: Logins,
    /// Live sandboxes.
    pub(crate) sandboxes: Sandboxes,
    /// Functions, their calls and their containers.
    pub(crate) functions: Functions,
    /// Where HTTP requests to functions come in.
    pub(crate) web: WebFronts,
    /// The command router for clients before 1.5.
    pub(crate) tls_door: TlsDoor,
    /// Open files of clients before 1.6.
    pub(crate) old_files: OldFiles,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    /// When the server started, in seconds since 1970.
    pub(crate) started_at: f64,
    /// What the server was started with.
    pub(crate) config: ServerConfig,
    state: State,
    runtime: Mutex<Option<Runtime>>,
    /// Held while one is started: whoever waits finds it started.
    starting_runtime: tokio::sync::Mutex<()>,
}

impl Ctx {
    /// Opens everything below the state directory.
    pub(crate) async fn open(config: ServerConfig, url: String) -> Result<Self> {
        let state = State::open(&config).await?;
        let parts = Parts {
            url,
            auth: Auth::open(&state.dir, config.token.clone())?,
            idempotency: Idempotency::open(state.db.clone()).await?,
            activity: Activity::new(),
            logs: Logs::open(&state).await?,
            relays: Relays::default(),
            substitutions: Substitutions::new(state.db.clone()),
            images: Images::open(&state).await?,
            connect: Connect::default(),
            certificates: Certificates::open(&state.dir)?,
            furnishing: Furnishing::open(&state.dir.furnishing())?,
            logins: Logins::new(&state.dir),
            sandboxes: Sandboxes::open(&state).await?,
            functions: Functions::open(&state).await?,
            web: WebFronts::new(state.db.clone()),
            tls_door: TlsDoor::default(),
            old_files: OldFiles::default(),
            stop: CancellationToken::new(),
            started_at: clock::now(),
            config,
            state,
            runtime: Mutex::default(),
            starting_runtime: tokio::sync::Mutex::default(),
        };
        Ok(Self { parts: Arc::new(parts) })
    }
}

impl Parts {
    /// `HOST:PORT` of this server.
    pub(crate) fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, authority)| authority)
    }

    /// A URL of this server that allows whoever holds it this one thing, for a day.
    pub(crate) fn grant_url(&self, grant: &Grant) -> String {
        format!("{}{}{}", self.url, crate::http::GRANTED, self.auth.sign_grant(grant))
    }

    /// What runs containers; started when first needed, since much of the server works without, and
    /// again after it died.
    pub(crate) async fn runtime(&self) -> Result<Runtime> {
        if let Some(runtime) = self.started_runtime().filter(Runtime::is_running) {
            return Ok(runtime);
        }
        let _starting = self.starting_runtime.lock().await;
        match self.started_runtime() {
            Some(runtime) if runtime.is_running() => return Ok(runtime),
            Some(dead) => {
                tracing::error!(
                    "the container runtime died, and its containers with it; starting another"
                );
                tokio::spawn(clear_up(dead));
            }
            None => {}
        }
        let mut config = RuntimeConfig::new(self.dir.runtime());
        config.spawner.clone_from(&self.config.spawner);
        let started = Runtime::start(config).await;
        let started = started.map_err(|source| Error::Runtime { source: source.into() })?;
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.clone());
        Ok(started)
    }

    /// Whether no container runs, builds' included: nothing can have a volume or a mount's files open.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sandboxes.running() == 0
            && self.functions.running() == 0
            && self.images.building() == 0
    }

    /// The runtime, if something needed it. It may have died since.
    pub(crate) fn started_runtime(&self) -> Option<Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for the ends of a dead runtime's containers and removes what it left.
async fn clear_up(dead: Runtime) {
    if let Err(error) = dead.shutdown().await {
        tracing::warn!(%error, "a dead container runtime leaves something until the next start");
    }
}

impl Deref for Ctx {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Deref for Parts {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}
