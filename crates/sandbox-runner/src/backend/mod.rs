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
}

/// A program to run in a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Keys, in its environment alone.
    pub secrets: BTreeMap<String, Secret>,
    /// When the backend kills it.
    pub timeout: Duration,
}

impl Exec {
    /// A program with these arguments.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>, timeout: Duration) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, secrets: BTreeMap::new(), timeout }
    }

    /// A shell command.
    pub fn shell(command: &str, timeout: Duration) -> Self {
        Self::new(["sh", "-c", command], timeout)
    }
}

/// A program that runs in [`WORKSPACE`]. Both outputs must be read to their end.
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

/// Who hears it.
pub type Say<'s> = &'s (dyn Fn(Said) + Send + Sync);

/// Makes sandboxes of one kind: one image, one agent, one size.
#[async_trait]
pub trait SandboxBackend: Send + Sync {
    /// Makes what all sandboxes need (image, volume, upload of the agent). Called once, before the first sandbox.
    async fn prepare(&self, say: Say<'_>) -> Result<()>;

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

    /// Reads a file; none where there is none, at most `limit` bytes of it.
    async fn read_file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;

    /// Ends it and everything in it. May be called twice.
    async fn terminate(&self) -> Result<()>;
}
