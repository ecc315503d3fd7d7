//! The barest client: generated stubs over one connection.

use std::sync::atomic::{AtomicU64, Ordering};

use modal_proto::{
    client::{
        NetworkAccess, Resources, Sandbox, SandboxCreateV2Request,
        modal_client_client::ModalClientClient, network_access::NetworkAccessType,
    },
    task_command_router::{
        TaskExecStartRequest, TaskExecStderrConfig, TaskExecStdoutConfig, TaskExecWaitRequest,
        task_command_router_client::TaskCommandRouterClient, task_exec_wait_response::ExitStatus,
    },
};
use tonic::{Status, transport::Channel};

use crate::error::{Error, Result};

/// The stubs of both services over one connection, shared by all calls.
#[derive(Debug)]
pub struct RawClient {
    control: ModalClientClient<Channel>,
    router: TaskCommandRouterClient<Channel>,
    execs: AtomicU64,
}

impl RawClient {
    /// Connects to a server without TLS.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        let connect = |source: tonic::transport::Error| Error::Connect {
            url: url.to_owned(),
            source: source.into(),
        };
        let endpoint = Channel::from_shared(url.to_owned())
            .map_err(|source| Error::Connect { url: url.to_owned(), source: source.into() })?;
        let channel = endpoint.connect().await.map_err(connect)?;
        Ok(Self {
            control: ModalClientClient::new(channel.clone()),
            router: TaskCommandRouterClient::new(channel),
            execs: AtomicU64::new(0),
        })
    }

    /// Creates a sandbox, runs `true` in it, waits for its end. Three RPCs.
    ///
    /// # Errors
    /// [`Error::Rpc`], [`Error::Code`].
    pub async fn cycle(&self) -> Result<()> {
        let (mut control, mut router) = (self.control.clone(), self.router.clone());
        let created = control.sandbox_create_v2(create_request()).await;
        let task_id = created.map_err(rpc("SandboxCreateV2"))?.into_inner().task_id;
        let exec_id = self.execs.fetch_add(1, Ordering::Relaxed).to_string();
        let start = TaskExecStartRequest {
            task_id: task_id.clone(),
            exec_id: exec_id.clone(),
            command_args: vec!["true".to_owned()],
            stdout_config: TaskExecStdoutConfig::Pipe.into(),
            stderr_config: TaskExecStderrConfig::Pipe.into(),
            ..Default::default()
        };
        router.task_exec_start(start).await.map_err(rpc("TaskExecStart"))?;
        let waited = router.task_exec_wait(TaskExecWaitRequest { task_id, exec_id }).await;
        match waited.map_err(rpc("TaskExecWait"))?.into_inner().exit_status {
            Some(ExitStatus::Code(0)) => Ok(()),
            _ => Err(Error::Code),
        }
    }
}

/// What a client that has all comfort sends for the same sandbox.
fn create_request() -> SandboxCreateV2Request {
    let definition = Sandbox {
        entrypoint_args: vec!["sleep".to_owned(), "300".to_owned()],
        image_id: crate::server::IMAGE.to_owned(),
        resources: Some(Resources::default()),
        timeout_secs: 300,
        network_access: Some(NetworkAccess {
            network_access_type: NetworkAccessType::Blocked.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    SandboxCreateV2Request {
        app_id: crate::server::APP.to_owned(),
        definition: Some(definition),
        ..Default::default()
    }
}

fn rpc(rpc: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Rpc { rpc, source: status.into() }
}
