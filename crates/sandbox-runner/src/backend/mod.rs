//! Where sandboxes come from: the one port of this crate.
//!
//! [`ModalBackend`](modal::ModalBackend) speaks Modal's API, to Modal or to `modal-local`.
//! [`MemoryBackend`](memory::MemoryBackend) has programs that are Rust functions, for tests. Both
//! pass [`conformance`](crate::conformance).

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

use crate::{Result, secret::Secret};

pub mod memory;
pub mod modal;

/// Working directory of agents and checks.
pub const WORKSPACE: &str = "/workspace";
/// The trial's own directory of the results volume.
pub const RESULTS: &str = "/results";
/// The agent.
pub const AGENT: &str = "/opt/goat-eval";

/// Tag with the run of a sandbox.
pub const RUN_TAG: &str = "goat-run";
/// Tag with its trial.
pub const TRIAL_TAG: &str = "goat-trial";

/// What a sandbox may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The outside.
    Open,
    /// Nothing.
    Nothing,
    /// These names.
    Hosts(Vec<String>),
}

/// A sandbox to make.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxSpec {
    /// Run and trial, as tags, so that a sweep finds it.
    pub tags: BTreeMap<String, String>,
    /// Directory of the results volume that it sees at [`RESULTS`]; none: it sees none.
    pub results: Option<String>,
    /// Environment of every program in it. No secrets.
    pub env: BTreeMap<String, String>,
    /// When it is ended whatever happens.
    pub timeout: Duration,
    /// Network.
    pub reach: Reach,
    /// Whether the run's skills lie in it.
    pub skills: bool,
    /// Whether the run's MCP config lies in it.
    pub mcp: bool,
}

/// A program to run in a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Keys, in its environment alone.
    pub secrets: BTreeMap<String, Secret>,
    /// Where it starts: the workspace, unless it must start whatever became of that.
    pub workdir: &'static str,
    /// When the backend kills it.
    pub timeout: Duration,
}

impl Exec {
    /// A program with these arguments.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>, timeout: Duration) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, secrets: BTreeMap::new(), workdir: WORKSPACE, timeout }
    }

    /// A shell command.
    pub fn shell(command: &str, timeout: Duration) -> Self {
        Self::new(["sh", "-c", command], timeout)
    }

    /// The same, started in `/`, which no agent can remove.
    #[must_use]
    pub fn outside(mut self) -> Self {
        self.workdir = "/";
        self
    }
}

/// A program that runs. Both outputs must be read to their end.
pub struct Running {
    /// Its standard output.
    pub stdout: BoxStream<'static, Result<Bytes>>,
    /// Its standard error.
    pub stderr: BoxStream<'static, Result<Bytes>>,
    /// Its exit code; 128 + n for signal n.
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// Something to say while sandboxes are prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// For everybody.
    Step(String),
    /// For who wants to see everything: the output of a build.
    Detail(String),
}

/// What preparing found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The images of a registry that the sandboxes' image is made of, as they were asked for.
    pub bases: Vec<String>,
}

/// Who hears it.
pub type Say<'s> = &'s (dyn Fn(Said) + Send + Sync);

/// Makes sandboxes of one kind: one image, one agent, one size.
#[async_trait]
pub trait SandboxBackend: Send + Sync {
    /// Makes what all sandboxes need (image, volume, upload of the agent). Called before the first
    /// sandbox, and again where it failed.
    async fn prepare(&self, say: Say<'_>) -> Result<Prepared>;

    /// Makes a sandbox.
    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>>;

    /// Ends the sandboxes with that tag that an earlier process left behind, and says how many there
    /// were. A process that was killed may not have known of its last one, so no list of ids would do.
    async fn end_tagged(&self, name: &str, value: &str) -> Result<usize>;
}

/// One isolated machine.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Its id.
    fn id(&self) -> &str;

    /// Starts a program.
    async fn exec(&self, exec: &Exec) -> Result<Running>;

    /// Writes a file, its directories included.
    async fn write_file(&self, path: &str, contents: &[u8]) -> Result<()>;

    /// Reads a file, at most `limit` bytes of it; none where there is none, or something that is no
    /// file. What lies there is an agent's doing: a pipe must not hold up who looks.
    async fn read_file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;

    /// Whether it ended by itself: its own program was ended from inside, or used up its memory. False
    /// while it runs, where somebody ended it, and where it was lost.
    async fn ended_from_inside(&self) -> bool;

    /// Ends it and everything in it. May be called twice.
    async fn terminate(&self) -> Result<()>;
}
