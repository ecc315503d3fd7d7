//! Commands in sandboxes: the service `TaskCommandRouter`.

use modal_proto::task_command_router::task_command_router_server::TaskCommandRouter;
use modal_proto::task_command_router::{
    SandboxStdinWriteV2Request, SandboxStdinWriteV2Response, SandboxStdioReadV2Request,
    SandboxStdioReadV2Response, SandboxWaitUntilReadyTcrRequest, SandboxWaitUntilReadyTcrResponse,
    TaskExecPollRequest, TaskExecPollResponse, TaskExecStartRequest, TaskExecStartResponse,
    TaskExecStdinStatusRequest, TaskExecStdinStatusResponse, TaskExecStdinWriteRequest,
    TaskExecStdinWriteResponse, TaskExecStdinWriteStreamRequest, TaskExecStdinWriteStreamResponse,
    TaskExecStdioReadRequest, TaskExecStdioReadResponse, TaskExecWaitRequest, TaskExecWaitResponse,
    TaskReloadVolumesRequest, TaskReloadVolumesResponse,
};
use tonic::{Request, Response, Status, Streaming};

use crate::ctx::Ctx;
use crate::service::{BoxStream, not_served};

/// The router's answers; each call is checked against the sandbox that its token names.
#[derive(Clone)]
pub(crate) struct CommandRouter {
    ctx: Ctx,
}

impl CommandRouter {
    pub(crate) fn new(ctx: Ctx) -> Self {
        Self { ctx }
    }
}

#[tonic::async_trait]
impl TaskCommandRouter for CommandRouter {
    type SandboxStdioReadV2Stream = BoxStream<SandboxStdioReadV2Response>;
    type TaskExecStdioReadStream = BoxStream<TaskExecStdioReadResponse>;

    async fn sandbox_stdin_write_v2(
        &self,
        _request: Request<SandboxStdinWriteV2Request>,
    ) -> Result<Response<SandboxStdinWriteV2Response>, Status> {
        let _ = &self.ctx;
        Err(not_served("SandboxStdinWriteV2"))
    }

    async fn sandbox_stdio_read_v2(
        &self,
        _request: Request<SandboxStdioReadV2Request>,
    ) -> Result<Response<Self::SandboxStdioReadV2Stream>, Status> {
        let _ = &self.ctx;
        Err(not_served("SandboxStdioReadV2"))
    }

    async fn sandbox_wait_until_ready(
        &self,
        _request: Request<SandboxWaitUntilReadyTcrRequest>,
    ) -> Result<Response<SandboxWaitUntilReadyTcrResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("SandboxWaitUntilReady"))
    }

    async fn task_exec_poll(
        &self,
        _request: Request<TaskExecPollRequest>,
    ) -> Result<Response<TaskExecPollResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecPoll"))
    }

    async fn task_exec_start(
        &self,
        _request: Request<TaskExecStartRequest>,
    ) -> Result<Response<TaskExecStartResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecStart"))
    }

    async fn task_exec_stdin_status(
        &self,
        _request: Request<TaskExecStdinStatusRequest>,
    ) -> Result<Response<TaskExecStdinStatusResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecStdinStatus"))
    }

    async fn task_exec_stdin_write(
        &self,
        _request: Request<TaskExecStdinWriteRequest>,
    ) -> Result<Response<TaskExecStdinWriteResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecStdinWrite"))
    }

    async fn task_exec_stdin_write_stream(
        &self,
        _request: Request<Streaming<TaskExecStdinWriteStreamRequest>>,
    ) -> Result<Response<TaskExecStdinWriteStreamResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecStdinWriteStream"))
    }

    async fn task_exec_stdio_read(
        &self,
        _request: Request<TaskExecStdioReadRequest>,
    ) -> Result<Response<Self::TaskExecStdioReadStream>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecStdioRead"))
    }

    async fn task_exec_wait(
        &self,
        _request: Request<TaskExecWaitRequest>,
    ) -> Result<Response<TaskExecWaitResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskExecWait"))
    }

    async fn task_reload_volumes(
        &self,
        _request: Request<TaskReloadVolumesRequest>,
    ) -> Result<Response<TaskReloadVolumesResponse>, Status> {
        let _ = &self.ctx;
        Err(not_served("TaskReloadVolumes"))
    }
}
