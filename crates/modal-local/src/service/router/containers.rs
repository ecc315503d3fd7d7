//! Sidecars of a sandbox: made, listed, waited for and ended.

use std::sync::Arc;
use std::time::Duration;

use modal_proto::client::{Sandbox, StringMap};
use modal_proto::task_command_router::{
    TaskContainerCreateRequest, TaskContainerCreateResponse, TaskContainerInfo,
    TaskContainerWaitResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::sandbox::{Ending, LiveSandbox, SandboxSpec, checked_name, secret_sources};

/// No wait is held longer; the SDKs ask for 10 seconds and then again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a request to end one waits for the end.
const TERMINATE_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn create(
    ctx: &Ctx,
    sandbox: Arc<LiveSandbox>,
    request: TaskContainerCreateRequest,
) -> Result<TaskContainerCreateResponse, Status> {
    let inline = (!request.env.is_empty()).then_some(StringMap { contents: request.env });
    let sources = secret_sources(request.secret_sources, request.secret_ids, inline);
    let definition = Sandbox {
        image_id: request.image_id,
        entrypoint_args: request.args,
        workdir: Some(request.workdir),
        volume_mounts: request.volume_mounts,
        network_access: request.network_access,
        pty_info: request.pty_info,
        ..Sandbox::default()
    };
    let name = checked_name(request.container_name)?;
    let spec = SandboxSpec::parse_sidecar(&sandbox.app, definition, sources)?;
    let made = sandbox.create_sidecar(ctx, name, spec).await?;
    Ok(TaskContainerCreateResponse {
        container_id: made.container_id(),
        container_name: made.container_name().to_owned(),
    })
}

pub(super) fn info(container: &LiveSandbox) -> TaskContainerInfo {
    let ending = container.ending();
    TaskContainerInfo {
        container_id: container.container_id(),
        container_name: container.container_name().to_owned(),
        status: if ending.is_some() { "terminated" } else { "running" }.to_owned(),
        result: ending.as_ref().map(Ending::result),
    }
}

pub(super) async fn terminate(container: &LiveSandbox) {
    container.request_stop(Ending::terminated(""));
    let _ = container.ended_within(TERMINATE_WAIT).await;
}

/// `result` stays unset while it runs.
pub(super) async fn wait(container: &LiveSandbox, seconds: f32) -> TaskContainerWaitResponse {
    let limit = Duration::try_from_secs_f32(seconds).unwrap_or_default().min(LONGEST_WAIT);
    let ending = container.ended_within(limit).await;
    TaskContainerWaitResponse { result: ending.as_ref().map(Ending::result) }
}
