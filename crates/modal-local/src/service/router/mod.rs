//! Commands in sandboxes: the service `TaskCommandRouter`.
//!
//! Each call carries a JWT that names one task; no other task can be touched with it.

mod containers;
mod directories;
mod exec;
mod host;
pub(in crate::service) mod old_execs;
pub(crate) mod old_files;
mod stdin;
mod stdio;
pub(crate) mod tls_door;

use std::sync::Arc;
use std::time::Duration;

use modal_proto::task_command_router::task_command_router_server::TaskCommandRouter;
use modal_proto::task_command_router::*;
use tonic::{Code, Request, Response, Status, Streaming};

use self::host::Host;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{SandboxId, TaskId};
use crate::image::SnapshotKind;
use crate::sandbox::snapshot::{self, expiry};
use crate::sandbox::{LiveSandbox, NetworkAccess, RunningProcess};
use crate::service::BoxStream;

/// The longest that a client can wait for readiness in one call.
const LONGEST_READY_WAIT: Duration = Duration::from_secs(3_600);

/// The router's answers.
#[derive(Clone)]
pub(crate) struct CommandRouter {
    ctx: Ctx,
}

impl CommandRouter {
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self { ctx }
    }

    /// The sandbox of the task that a request names, if its token is for that task.
    fn sandbox<T>(&self, request: &Request<T>, task_id: &str) -> Result<Arc<LiveSandbox>, Status> {
        let token = self.ctx.auth.verify_router_token(request.metadata().as_ref())?;
        self.sandbox_of(&token, task_id)
    }

    fn sandbox_of(&self, token: &TaskId, task_id: &str) -> Result<Arc<LiveSandbox>, Status> {
        Ok(self.ctx.sandboxes.of_task(&named(token, task_id)?)?)
    }

    /// The container of a task that a request names; without an id, the sandbox's main one.
    fn container<T>(
        &self,
        request: &Request<T>,
        task_id: &str,
        container_id: &str,
    ) -> Result<Arc<LiveSandbox>, Status> {
        Ok(self.sandbox(request, task_id)?.container_of_id(container_id)?)
    }

    /// The container that a request names, of a sandbox or of a function.
    fn host<T>(&self, request: &Request<T>, task_id: &str) -> Result<Host, Status> {
        let token = self.ctx.auth.verify_router_token(request.metadata().as_ref())?;
        self.host_of(&token, task_id)
    }

    fn host_of(&self, token: &TaskId, task_id: &str) -> Result<Host, Status> {
        Ok(Host::find(&self.ctx, &named(token, task_id)?)?)
    }

    /// A client whose server was killed asks again for a snapshot of a sandbox that is gone with it.
    async fn or_taken(
        &self,
        found: Result<Arc<LiveSandbox>, Status>,
        task_id: &str,
        kind: SnapshotKind,
        key: &str,
    ) -> Result<Found, Status> {
        let gone = match found {
            Ok(sandbox) => return Ok(Found::Sandbox(sandbox)),
            Err(status) if status.code() == Code::NotFound => status,
            Err(status) => return Err(status),
        };
        let task = TaskId::parse(task_id).map_err(Error::from)?;
        let Ok(record) = self.ctx.sandboxes.records.get_by_task(&task).await else {
            return Err(gone);
        };
        let sandbox = SandboxId::parse(&record.sandbox_id).map_err(Error::from)?;
        let taken = snapshot::taken(&self.ctx, &sandbox, kind, key).await?;
        taken.map(|image| Found::Snapshot(image.to_string())).ok_or(gone)
    }

    async fn exec<T>(
        &self,
        request: &Request<T>,
        task_id: &str,
        exec_id: &str,
    ) -> Result<Arc<RunningProcess>, Status> {
        self.host(request, task_id)?.execs()?.get(exec_id).await
    }
}

/// What a call for a snapshot finds.
enum Found {
    Sandbox(Arc<LiveSandbox>),
    /// The sandbox is gone, and this snapshot of it was taken before.
    Snapshot(String),
}

/// The task that a request names, if it is the token's.
fn named(token: &TaskId, task_id: &str) -> Result<TaskId, Status> {
    let task = TaskId::parse(task_id).map_err(Error::from)?;
    if *token != task {
        return Err(Status::permission_denied("the token is for another task"));
    }
    Ok(task)
}

#[tonic::async_trait]
impl TaskCommandRouter for CommandRouter {
    async fn task_exec_start(
        &self,
        request: Request<TaskExecStartRequest>,
    ) -> Result<Response<TaskExecStartResponse>, Status> {
        let host = self.host(&request, &request.get_ref().task_id)?;
        exec::start(&self.ctx, host, request.into_inner()).await.map(Response::new)
    }

    async fn task_exec_poll(
        &self,
        request: Request<TaskExecPollRequest>,
    ) -> Result<Response<TaskExecPollResponse>, Status> {
        let TaskExecPollRequest { task_id, exec_id } = request.get_ref();
        let process = self.exec(&request, task_id, exec_id).await?;
        Ok(Response::new(exec::poll(&process)))
    }

    async fn task_exec_wait(
        &self,
        request: Request<TaskExecWaitRequest>,
    ) -> Result<Response<TaskExecWaitResponse>, Status> {
        let TaskExecWaitRequest { task_id, exec_id } = request.get_ref();
        let process = self.exec(&request, task_id, exec_id).await?;
        Ok(Response::new(exec::wait(&process).await))
    }

    async fn task_exec_stdio_read(
        &self,
        request: Request<TaskExecStdioReadRequest>,
    ) -> Result<Response<BoxStream<TaskExecStdioReadResponse>>, Status> {
        let TaskExecStdioReadRequest { task_id, exec_id, .. } = request.get_ref();
        let process = self.exec(&request, task_id, exec_id).await?;
        Ok(Response::new(stdio::exec_output(&process, request.get_ref())))
    }

    async fn sandbox_stdio_read_v2(
        &self,
        request: Request<SandboxStdioReadV2Request>,
    ) -> Result<Response<BoxStream<SandboxStdioReadV2Response>>, Status> {
        let sandbox = self.sandbox(&request, &request.get_ref().task_id)?;
        let output = stdio::sandbox_output(&sandbox.running()?.entrypoint, request.get_ref());
        Ok(Response::new(output))
    }

    async fn task_exec_stdin_write(
        &self,
        request: Request<TaskExecStdinWriteRequest>,
    ) -> Result<Response<TaskExecStdinWriteResponse>, Status> {
        let TaskExecStdinWriteRequest { task_id, exec_id, offset, data, eof } = request.get_ref();
        let process = self.exec(&request, task_id, exec_id).await?;
        stdin::write(&process, *offset, data, *eof).await?;
        Ok(Response::new(TaskExecStdinWriteResponse {}))
    }

    async fn task_exec_stdin_write_stream(
        &self,
        request: Request<Streaming<TaskExecStdinWriteStreamRequest>>,
    ) -> Result<Response<TaskExecStdinWriteStreamResponse>, Status> {
        let token = self.ctx.auth.verify_router_token(request.metadata().as_ref())?;
        let mut messages = request.into_inner();
        let start = stdin::start_of_stream(&mut messages).await?;
        let host = self.host_of(&token, &start.task_id)?;
        let process = host.execs()?.get(&start.exec_id).await?;
        stdin::stream(&process, start.offset, messages).await.map(Response::new)
    }

    async fn task_exec_stdin_status(
        &self,
        request: Request<TaskExecStdinStatusRequest>,
    ) -> Result<Response<TaskExecStdinStatusResponse>, Status> {
        let TaskExecStdinStatusRequest { task_id, exec_id } = request.get_ref();
        let process = self.exec(&request, task_id, exec_id).await?;
        let written = process.stdin.status().await;
        Ok(Response::new(TaskExecStdinStatusResponse {
            num_bytes_written: written.bytes,
            closed: written.closed,
        }))
    }

    async fn sandbox_stdin_write_v2(
        &self,
        request: Request<SandboxStdinWriteV2Request>,
    ) -> Result<Response<SandboxStdinWriteV2Response>, Status> {
        let SandboxStdinWriteV2Request { task_id, offset, data, eof } = request.get_ref();
        let sandbox = self.sandbox(&request, task_id)?;
        let _in_use = sandbox.activity.begin();
        stdin::write(&sandbox.running()?.entrypoint, *offset, data, *eof).await?;
        Ok(Response::new(SandboxStdinWriteV2Response {}))
    }

    async fn sandbox_wait_until_ready(
        &self,
        request: Request<SandboxWaitUntilReadyTcrRequest>,
    ) -> Result<Response<SandboxWaitUntilReadyTcrResponse>, Status> {
        let sandbox = self.sandbox(&request, &request.get_ref().task_id)?;
        let limit = Duration::try_from_secs_f32(request.get_ref().timeout).unwrap_or_default();
        match tokio::time::timeout(limit.min(LONGEST_READY_WAIT), sandbox.ready()).await {
            Ok(ready) => Ok(Response::new(SandboxWaitUntilReadyTcrResponse { ready_at: ready? })),
            Err(_) => {
                let id = &sandbox.id;
                Err(Status::deadline_exceeded(format!("sandbox `{id}` is not ready yet")))
            }
        }
    }

    async fn task_snapshot_filesystem(
        &self,
        request: Request<TaskSnapshotFilesystemRequest>,
    ) -> Result<Response<TaskSnapshotFilesystemResponse>, Status> {
        let TaskSnapshotFilesystemRequest { task_id, snapshot_id, container_id, .. } =
            request.get_ref();
        let found = self.container(&request, task_id, container_id);
        let kind = SnapshotKind::Filesystem;
        let sandbox = match self.or_taken(found, task_id, kind, snapshot_id).await? {
            Found::Sandbox(sandbox) => sandbox,
            Found::Snapshot(image_id) => {
                return Ok(Response::new(TaskSnapshotFilesystemResponse { image_id }));
            }
        };
        let TaskSnapshotFilesystemRequest { snapshot_id, ttl_seconds, .. } = request.into_inner();
        let ctx = self.ctx.clone();
        // In a task of its own: a client that lost its connection asks again for the same snapshot.
        let taking =
            tokio::spawn(
                async move { sandbox.snapshot(&ctx, &snapshot_id, expiry(ttl_seconds)).await },
            );
        let taken = taking.await.map_err(|_| Status::internal("the snapshot was not finished"))?;
        Ok(Response::new(TaskSnapshotFilesystemResponse { image_id: taken?.to_string() }))
    }

    async fn task_set_network_access(
        &self,
        request: Request<TaskSetNetworkAccessRequest>,
    ) -> Result<Response<TaskSetNetworkAccessResponse>, Status> {
        let sandbox = self.sandbox(&request, &request.get_ref().task_id)?;
        let access = NetworkAccess::parse(false, request.into_inner().network_access)?;
        sandbox.running()?.network.set(&access)?;
        Ok(Response::new(TaskSetNetworkAccessResponse {}))
    }

    /// As on Modal: headers are replaced only where the sandbox was made so, and here none is.
    async fn task_set_outbound_policy(
        &self,
        request: Request<TaskSetExperimentalOutboundPolicyRequest>,
    ) -> Result<Response<TaskSetExperimentalOutboundPolicyResponse>, Status> {
        self.sandbox(&request, &request.get_ref().task_id)?.container()?;
        let policy = request.into_inner().experimental_outbound_policy.unwrap_or_default();
        if policy.header_replacements.is_empty() {
            return Ok(Response::new(TaskSetExperimentalOutboundPolicyResponse {}));
        }
        Err(Status::failed_precondition(
            "the sandbox was made without header replacements, which the local server has not",
        ))
    }

    async fn task_mount_directory(
        &self,
        request: Request<TaskMountDirectoryRequest>,
    ) -> Result<Response<()>, Status> {
        let (task, container) = (&request.get_ref().task_id, &request.get_ref().container_id);
        let sandbox = self.container(&request, task, container)?;
        directories::mount(&self.ctx, sandbox, request.into_inner()).await.map(Response::new)
    }

    async fn task_unmount_directory(
        &self,
        request: Request<TaskUnmountDirectoryRequest>,
    ) -> Result<Response<()>, Status> {
        let (task, container) = (&request.get_ref().task_id, &request.get_ref().container_id);
        let sandbox = self.container(&request, task, container)?;
        directories::unmount(sandbox, request.into_inner()).await.map(Response::new)
    }

    async fn task_snapshot_directory(
        &self,
        request: Request<TaskSnapshotDirectoryRequest>,
    ) -> Result<Response<TaskSnapshotDirectoryResponse>, Status> {
        let TaskSnapshotDirectoryRequest { task_id, snapshot_id, container_id, .. } =
            request.get_ref();
        let found = self.container(&request, task_id, container_id);
        let kind = SnapshotKind::Directory;
        let sandbox = match self.or_taken(found, task_id, kind, snapshot_id).await? {
            Found::Sandbox(sandbox) => sandbox,
            Found::Snapshot(image_id) => {
                return Ok(Response::new(TaskSnapshotDirectoryResponse { image_id }));
            }
        };
        let ctx = self.ctx.clone();
        directories::snapshot(ctx, sandbox, request.into_inner()).await.map(Response::new)
    }

    /// Volumes are shown live: there is nothing to load.
    async fn task_reload_volumes(
        &self,
        request: Request<TaskReloadVolumesRequest>,
    ) -> Result<Response<TaskReloadVolumesResponse>, Status> {
        let (task, container) = (&request.get_ref().task_id, &request.get_ref().container_id);
        let sandbox = self.container(&request, task, container)?;
        sandbox.container()?;
        Ok(Response::new(TaskReloadVolumesResponse {}))
    }

    async fn task_container_create(
        &self,
        request: Request<TaskContainerCreateRequest>,
    ) -> Result<Response<TaskContainerCreateResponse>, Status> {
        let sandbox = self.sandbox(&request, &request.get_ref().task_id)?;
        containers::create(&self.ctx, sandbox, request.into_inner()).await.map(Response::new)
    }

    async fn task_container_get(
        &self,
        request: Request<TaskContainerGetRequest>,
    ) -> Result<Response<TaskContainerGetResponse>, Status> {
        let TaskContainerGetRequest { task_id, container_name, include_terminated } =
            request.get_ref();
        let sandbox = self.sandbox(&request, task_id)?;
        let found = sandbox.container_of_name(container_name, *include_terminated)?;
        let container = Some(containers::info(&found));
        Ok(Response::new(TaskContainerGetResponse { container }))
    }

    async fn task_container_list(
        &self,
        request: Request<TaskContainerListRequest>,
    ) -> Result<Response<TaskContainerListResponse>, Status> {
        let TaskContainerListRequest { task_id, include_terminated } = request.get_ref();
        let sandbox = self.sandbox(&request, task_id)?;
        let all = sandbox.containers().into_iter();
        let shown = all.filter(|it| *include_terminated || it.ending().is_none());
        let containers = shown.map(|it| containers::info(&it)).collect();
        Ok(Response::new(TaskContainerListResponse { containers }))
    }

    async fn task_container_terminate(
        &self,
        request: Request<TaskContainerTerminateRequest>,
    ) -> Result<Response<TaskContainerTerminateResponse>, Status> {
        let TaskContainerTerminateRequest { task_id, container_id } = request.get_ref();
        let container = self.container(&request, task_id, container_id)?;
        containers::terminate(&container).await;
        Ok(Response::new(TaskContainerTerminateResponse {}))
    }

    async fn task_container_wait(
        &self,
        request: Request<TaskContainerWaitRequest>,
    ) -> Result<Response<TaskContainerWaitResponse>, Status> {
        let TaskContainerWaitRequest { task_id, container_id, timeout } = request.get_ref();
        let container = self.container(&request, task_id, container_id)?;
        Ok(Response::new(containers::wait(&container, *timeout).await))
    }
}
