//! What a running server says about itself.

use container_runtime::Runtime;
use serde::{Deserialize, Serialize};

use super::probe;
use super::record::{Lock, ServerRecord, build_id};
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::room::DiskUsage;
use crate::sandbox::usage as sandbox_usage;
use crate::state_dir::StateDir;
use crate::substitution::Substitution;

/// What a running server says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its process.
    pub pid: i32,
    /// Where clients connect.
    pub url: String,
    /// The version of this crate that it was built from.
    pub version: String,
    /// The program file that it was started from; another build has another id.
    pub build_id: String,
    /// Where it keeps everything.
    pub state_dir: String,
    /// When it started, in seconds since 1970.
    pub started_at: f64,
    /// For how many seconds nothing has been asked of it.
    pub idle_secs: u64,
    /// How many sandboxes run.
    pub sandboxes: usize,
    /// How many containers of functions run.
    #[serde(default)]
    pub functions: usize,
    /// How many image builds run.
    pub builds: usize,
    /// What containers can do on this machine, in one line; absent until one was needed.
    pub containers: Option<String>,
    /// What a sandbox may use that asks for nothing, in one line; absent until one was needed.
    #[serde(default)]
    pub limits: Option<String>,
    /// Recipes to use instead of others.
    pub substitutions: Vec<Substitution>,
    /// Which images were built from something else than was asked for, in sentences.
    pub substituted: Vec<String>,
}

impl ServerStatus {
    pub(crate) async fn of(ctx: &Ctx) -> Result<Self> {
        Ok(Self {
            pid: rustix::process::getpid().as_raw_pid(),
            url: ctx.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_id: build_id().to_owned(),
            state_dir: ctx.dir.root().display().to_string(),
            started_at: ctx.started_at,
            idle_secs: ctx.activity.idle_for().as_secs(),
            sandboxes: ctx.sandboxes.running(),
            functions: ctx.functions.running(),
            builds: ctx.images.building(),
            containers: ctx.started_runtime().map(|it| containers(&it)),
            limits: ctx.started_runtime().map(|it| sandbox_usage::describe(&ctx.room, &it)),
            substitutions: ctx.substitutions.list().await?,
            substituted: ctx.images.substitutions().await?.into_iter().collect(),
        })
    }

    /// For how many seconds it has run.
    pub fn uptime_secs(&self) -> u64 {
        (clock::now() - self.started_at).max(0.0) as u64
    }

    /// Whether it does something that stopping it would end.
    pub fn is_busy(&self) -> bool {
        self.sandboxes > 0 || self.functions > 0 || self.builds > 0
    }
}

fn containers(runtime: &Runtime) -> String {
    if runtime.is_running() {
        return runtime.capabilities().to_string();
    }
    "the container runtime died, and its sandboxes with it; the next one starts another".to_owned()
}

/// What the directory's server takes of its disk; `None` if none runs. Takes longer than [`status`],
/// since every file is looked at.
pub async fn usage(dir: &StateDir) -> Result<Option<DiskUsage>> {
    let Some(record) = ServerRecord::read(dir).filter(ServerRecord::is_same_process) else {
        return Ok(None);
    };
    let failed = |message: String| Error::Daemon { message, log: dir.log() };
    let answer = probe::long_request(&record, "GET", "/_local/usage").await;
    let answer = answer.map_err(|error| failed(format!("its disk is not known: {error}")))?;
    let usage = serde_json::from_slice(&answer);
    usage.map(Some).map_err(|error| failed(format!("its answer is not understood: {error}")))
}

/// The status of the directory's server; `None` if none runs.
pub async fn status(dir: &StateDir) -> Result<Option<ServerStatus>> {
    if !Lock::is_held(dir)? {
        return Ok(None);
    }
    match ServerRecord::read(dir).filter(ServerRecord::is_same_process) {
        Some(record) => ask(dir, &record).await.map(Some),
        // It holds the lock and has not said yet where it listens.
        None => Ok(None),
    }
}

pub(super) async fn ask(dir: &StateDir, record: &ServerRecord) -> Result<ServerStatus> {
    let answer = probe::request(record, "GET", "/_local/status").await;
    let failed = |reason: String| Error::Daemon {
        message: format!("the server at {} does not answer: {reason}", record.url),
        log: dir.log(),
    };
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&answer).map_err(|error| failed(error.to_string()))
}
