//! Sandboxes: isolated containers to run commands in.

mod create;
mod definition;
mod exec;
mod files;
mod generation;
mod guard;
mod list;
mod probe;
mod snapshot;
mod spec;

use std::{collections::BTreeMap, time::Duration};

use modal_proto::{client as api, task_command_router as router_api};

pub use create::SandboxCreate;
pub(crate) use definition::{milli, seconds, volume_mount};
pub use exec::{Exec, Output, Process, Pty, Redirect};
pub use files::{FileKind, FileProblem, SandboxFile, SandboxFiles};
pub use generation::SandboxVersion;
use guard::Guard;
pub use list::{ListSandboxes, SandboxInfo, Sandboxes};
pub use probe::Probe;
pub use snapshot::ConnectToken;
pub use spec::{MiB, NetworkAccess, Port, VolumeMount};

use crate::{
    client::Client,
    error::{Error, Operation, Result},
    ids::{AppId, SandboxId, TaskId},
    router::{Descriptor, Feed, OutputStream, Router, StdinWriter, Target},
    rpc::{CallOptions, Method, methods},
};

/// How long one poll for the end is held by the server.
const WAIT_POLL: Duration = Duration::from_secs(10);
/// How much longer the answer may take.
const POLL_SLACK: Duration = Duration::from_secs(5);
/// How long the server may take to set tunnels up, in seconds.
const TUNNELS: f32 = 50.0;
/// How long a reload of volumes may take.
const RELOAD: Duration = Duration::from_secs(55);
/// How long a terminated sandbox may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A sandbox. Clones are the same sandbox; dropping one ends nothing, unless it was created with
/// [`terminate_on_drop`](SandboxCreate::terminate_on_drop).
#[derive(Clone)]
pub struct Sandbox {
    client: Client,
    id: SandboxId,
    app: Option<AppId>,
    router: Router,
    tunnels: Vec<Tunnel>,
    /// Ends it with the last clone, if it was created so.
    guard: Option<std::sync::Arc<Guard>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("id", &self.id)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SandboxExit {
    /// Why.
    pub reason: ExitReason,
    /// The exit code: 124 after a time-out, 137 after `terminate`.
    pub code: i32,
    /// What the server adds, if anything.
    pub message: String,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// Its command ended with code 0.
    Success,
    /// Its command ended with another code.
    Failure,
    /// Somebody terminated it.
    Terminated,
    /// Its time was over.
    Timeout,
    /// Nothing used it for as long as it may idle.
    IdleTimeout,
    /// It used more memory than it may.
    OutOfMemory,
    /// It could not be started.
    InitFailure,
    /// The server failed.
    InternalFailure,
}

/// How a port of a sandbox is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tunnel {
    /// The port inside.
    pub container_port: u16,
    /// The host name outside, for TLS.
    pub host: String,
    /// The port outside, for TLS.
    pub port: u16,
    /// Host and port for plain TCP, where the port was opened without encryption.
    pub unencrypted: Option<(String, u16)>,
}

impl Tunnel {
    /// The address for HTTPS.
    pub fn url(&self) -> String {
        match self.port {
            443 => format!("https://{}", self.host),
            port => format!("https://{}:{port}", self.host),
        }
    }
}

impl Sandbox {
    pub(crate) fn new(
        client: Client,
        id: SandboxId,
        app: Option<AppId>,
        router: Router,
        tunnels: Vec<Tunnel>,
    ) -> Self {
        Self { client, id, app, router, tunnels, guard: None }
    }

    /// Its version: 1 with a GPU, 2 without.
    pub fn version(&self) -> SandboxVersion {
        SandboxVersion::of(&self.id)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its id.
    pub fn id(&self) -> &SandboxId {
        &self.id
    }

    /// The app it belongs to, where known.
    pub fn app(&self) -> Option<&AppId> {
        self.app.as_ref()
    }

    /// The task that runs it; waits for it to be scheduled.
    pub async fn task(&self) -> Result<TaskId> {
        self.router.task().await.cloned()
    }

    /// The output of its own command, from the start.
    pub fn stdout(&self) -> OutputStream {
        self.output(Descriptor::Stdout)
    }

    /// The error output of its own command, from the start.
    pub fn stderr(&self) -> OutputStream {
        self.output(Descriptor::Stderr)
    }

    fn output(&self, descriptor: Descriptor) -> OutputStream {
        OutputStream::new(self.router.clone(), Feed::Sandbox { descriptor }, 0, None)
    }

    /// The input of its own command. Take it once: a second writer would start at offset 0 again.
    pub fn stdin(&self) -> StdinWriter {
        StdinWriter::new(self.router.clone(), Target::Sandbox)
    }

    /// Runs a command in it.
    pub fn exec(&self, command: impl IntoIterator<Item = impl Into<String>>) -> Exec {
        Exec::new(self.router.clone(), command.into_iter().map(Into::into).collect())
    }

    /// A command that was started before, by another process perhaps: its output can be read from any offset.
    pub fn process(&self, exec_id: impl Into<String>) -> Process {
        Process::attach(self.router.clone(), exec_id.into())
    }

    /// Its files.
    pub fn files(&self) -> SandboxFiles {
        SandboxFiles::new(self.router.clone())
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> Result<SandboxExit> {
        loop {
            if let Some(exit) = self.ask_for_end(WAIT_POLL).await? {
                return Ok(exit);
            }
        }
    }

    /// How it ended, or `None` while it runs. One RPC.
    pub async fn poll(&self) -> Result<Option<SandboxExit>> {
        self.ask_for_end(Duration::ZERO).await
    }

    async fn ask_for_end(&self, timeout: Duration) -> Result<Option<SandboxExit>> {
        let query = wait_request(&self.id, timeout);
        let deadline = (!timeout.is_zero()).then_some(timeout + POLL_SLACK);
        let method = self.version().choose(&methods::SANDBOX_WAIT, &methods::SANDBOX_WAIT_V2);
        let mut options = self.options(method, "wait for").await?;
        options.deadline = deadline;
        let answer = self.client.call_with(method, &query, options).await?;
        Ok(answer.result.and_then(exit_of))
    }

    /// Ends it, if it runs. Returns when the server has taken the request; see
    /// [`terminate_and_wait`](Self::terminate_and_wait). One RPC.
    pub async fn terminate(&self) -> Result<()> {
        if let Some(guard) = &self.guard {
            guard.disarm();
        }
        let (v1, v2) = (&methods::SANDBOX_TERMINATE, &methods::SANDBOX_TERMINATE_V2);
        let method = self.version().choose(v1, v2);
        let query = api::SandboxTerminateRequest { sandbox_id: self.id.to_string() };
        let options = self.options(method, "terminate").await?;
        self.client.call_with(method, &query, options).await.map(drop)
    }

    /// Ends it and waits until it has ended, a minute at most.
    pub async fn terminate_and_wait(&self) -> Result<SandboxExit> {
        self.terminate().await?;
        match tokio::time::timeout(END_LIMIT, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                let problem = format!("it was still running {END_LIMIT:?} later");
                Err(Error::deadline(self.operation("terminate"), problem))
            }
        }
    }

    /// Its tags. One RPC.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>> {
        let (v1, v2) = (&methods::SANDBOX_TAGS_GET, &methods::SANDBOX_TAGS_GET_V2);
        let method = self.version().choose(v1, v2);
        let query = api::SandboxTagsGetRequest { sandbox_id: self.id.to_string() };
        let options = self.options(method, "read the tags of").await?;
        let answer = self.client.call_with(method, &query, options).await?;
        Ok(answer.tags.into_iter().map(|tag| (tag.tag_name, tag.tag_value)).collect())
    }

    /// Replaces its tags. One RPC.
    pub async fn set_tags(
        &self,
        tags: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Result<()> {
        let (v1, v2) = (&methods::SANDBOX_TAGS_SET, &methods::SANDBOX_TAGS_SET_V2);
        let method = self.version().choose(v1, v2);
        let query = api::SandboxTagsSetRequest {
            environment_name: String::new(),
            sandbox_id: self.id.to_string(),
            tags: tags.into_iter().map(|(name, value)| tag(name.into(), value.into())).collect(),
        };
        let options = self.options(method, "set the tags of").await?;
        self.client.call_with(method, &query, options).await
    }

    /// Gives a nameless sandbox a name, unique among the running ones of its app. One RPC.
    pub async fn set_name(&self, name: impl Into<String>) -> Result<()> {
        let method = &methods::SANDBOX_SET_NAME;
        let query =
            api::SandboxSetNameRequest { sandbox_id: self.id.to_string(), name: name.into() };
        let options = self.options(method, "name").await?;
        self.client.call_with(method, &query, options).await.map(drop)
    }

    /// How its open ports are reached, by the port inside. No RPC where the answer came with the sandbox.
    pub async fn tunnels(&self) -> Result<BTreeMap<u16, Tunnel>> {
        if !self.tunnels.is_empty() {
            return Ok(by_port(self.tunnels.clone()));
        }
        let (v1, v2) = (&methods::SANDBOX_GET_TUNNELS, &methods::SANDBOX_GET_TUNNELS_V2);
        let method = self.version().choose(v1, v2);
        let query =
            api::SandboxGetTunnelsRequest { sandbox_id: self.id.to_string(), timeout: TUNNELS };
        let options = self.options(method, "find the tunnels of").await?;
        let answer = self.client.call_with(method, &query, options).await?;
        let status = answer.result.as_ref().map(api::GenericResult::status);
        if status == Some(api::generic_result::GenericStatus::Timeout) {
            let problem = format!("they were not there within {TUNNELS} seconds");
            return Err(Error::deadline(self.operation("find the tunnels of"), problem));
        }
        Ok(by_port(answer.tunnels.into_iter().filter_map(tunnel_of).collect()))
    }

    /// Makes what others wrote to its volumes visible in it, after committing its own writes. One RPC.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a file of a volume is open.
    pub async fn reload_volumes(&self) -> Result<()> {
        let operation = self.operation("reload the volumes of");
        let query = router_api::TaskReloadVolumesRequest {
            task_id: self.router.task().await?.to_string(),
            container_id: String::new(),
        };
        let method = &methods::TASK_RELOAD_VOLUMES;
        let asked = self.router.unary(method, &query, &operation, Some(RELOAD)).await;
        asked.map(drop).map_err(|failure| failure.into_error(method.name, operation))
    }

    fn operation(&self, verb: &'static str) -> Operation {
        Operation::new(verb, format!("sandbox `{}`", self.id))
    }

    async fn options<Q, A>(
        &self,
        method: &Method<Q, A>,
        verb: &'static str,
    ) -> Result<CallOptions> {
        let mut options = self.client.options(method, self.operation(verb)).await?;
        self.router.add_sandbox_token(&mut options.metadata)?;
        Ok(options)
    }
}

fn by_port(tunnels: Vec<Tunnel>) -> BTreeMap<u16, Tunnel> {
    tunnels.into_iter().map(|tunnel| (tunnel.container_port, tunnel)).collect()
}

pub(crate) fn tunnel_of(tunnel: api::TunnelData) -> Option<Tunnel> {
    let unencrypted_port = tunnel.unencrypted_port.and_then(|port| u16::try_from(port).ok());
    let unencrypted = tunnel.unencrypted_host.filter(|host| !host.is_empty()).zip(unencrypted_port);
    Some(Tunnel {
        container_port: u16::try_from(tunnel.container_port).ok()?,
        host: tunnel.host,
        port: u16::try_from(tunnel.port).ok()?,
        unencrypted,
    })
}

fn tag(tag_name: String, tag_value: String) -> api::SandboxTag {
    api::SandboxTag { tag_name, tag_value }
}

pub(crate) fn wait_request(sandbox: &SandboxId, timeout: Duration) -> api::SandboxWaitRequest {
    api::SandboxWaitRequest { sandbox_id: sandbox.to_string(), timeout: timeout.as_secs_f32() }
}

/// How a sandbox ended; `None` where the result says that it has not.
pub(crate) fn exit_of(result: api::GenericResult) -> Option<SandboxExit> {
    use api::generic_result::GenericStatus as Status;
    let reason = match result.status() {
        Status::Unspecified => return None,
        Status::Success => ExitReason::Success,
        Status::Failure => ExitReason::Failure,
        Status::Terminated => ExitReason::Terminated,
        Status::Timeout => ExitReason::Timeout,
        Status::IdleTimeout => ExitReason::IdleTimeout,
        Status::InitFailure => ExitReason::InitFailure,
        Status::InternalFailure => ExitReason::InternalFailure,
        Status::MemoryManagerEviction | Status::MemoryThrashingEviction | Status::KernelOomKill => {
            ExitReason::OutOfMemory
        }
    };
    let code = match reason {
        ExitReason::Timeout => 124,
        ExitReason::Terminated => 137,
        _ => result.exitcode,
    };
    Some(SandboxExit { reason, code, message: result.exception })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: api::generic_result::GenericStatus, exitcode: i32) -> Option<SandboxExit> {
        let mut result = api::GenericResult { exitcode, ..Default::default() };
        result.set_status(status);
        exit_of(result)
    }

    #[test]
    fn a_sandbox_without_a_status_still_runs() {
        use api::generic_result::GenericStatus as Status;
        assert_eq!(exit(Status::Unspecified, 0), None);
        let codes = [Status::Success, Status::Failure, Status::Timeout, Status::Terminated]
            .map(|status| exit(status, 7).unwrap().code);
        assert_eq!(codes, [7, 7, 124, 137]);
    }

    #[test]
    fn the_usual_port_is_left_out_of_a_tunnels_address() {
        let data = api::TunnelData {
            host: "x.modal.host".into(),
            port: 443,
            container_port: 8080,
            ..Default::default()
        };
        assert_eq!(tunnel_of(data.clone()).unwrap().url(), "https://x.modal.host");
        let other = api::TunnelData { port: 8443, ..data };
        assert_eq!(tunnel_of(other).unwrap().url(), "https://x.modal.host:8443");
    }
}
