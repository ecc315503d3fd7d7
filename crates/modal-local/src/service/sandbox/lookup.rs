//! Finding a sandbox, and what belongs to it.

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::sandbox_get_command_router_access_request::Target;
use modal_proto::client::{
    GenericResult, SandboxGetCommandRouterAccessRequest, SandboxGetCommandRouterAccessResponse,
    SandboxGetFromNameRequest, SandboxGetFromNameResponse, SandboxGetTaskIdRequest,
    SandboxGetTaskIdResponse, SandboxGetTunnelsRequest, SandboxGetTunnelsResponse,
    TaskGetInfoRequest, TaskGetInfoResponse, TaskInfo,
};
use tonic::Status;

use super::list::task_info;
use super::{metadata, record, router_access};
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{SandboxId, TaskId};
use crate::sandbox::Ending;

/// Access to the commands and the output of a sandbox, also for a while after its end.
pub(crate) async fn sandbox_get_command_router_access(
    ctx: &Ctx,
    request: SandboxGetCommandRouterAccessRequest,
    caller: &Caller,
) -> Result<SandboxGetCommandRouterAccessResponse, Status> {
    let record = match request.target {
        Some(Target::SandboxId(id)) => record(ctx, &id).await?,
        Some(Target::TaskId(id)) => {
            let id = TaskId::parse(&id).map_err(Error::from)?;
            ctx.sandboxes.records.get_by_task(&id).await?
        }
        None => return Err(Status::invalid_argument("name a sandbox or a task")),
    };
    let id = SandboxId::parse(&record.sandbox_id).map_err(Error::from)?;
    let sandbox = ctx.sandboxes.find(&id).ok_or_else(|| {
        Status::failed_precondition(format!("sandbox `{id}` has ended, and its output is gone"))
    })?;
    let access = router_access(ctx, &sandbox.task, caller).await?;
    Ok(SandboxGetCommandRouterAccessResponse {
        jwt: access.jwt,
        url: access.url,
        worker_ipv4_address: String::new(),
    })
}

/// As version 2: there are no others here.
pub(crate) async fn sandbox_get_from_name(
    ctx: &Ctx,
    request: SandboxGetFromNameRequest,
) -> Result<SandboxGetFromNameResponse, Status> {
    sandbox_get_from_name_v2(ctx, request).await
}

pub(crate) async fn sandbox_get_from_name_v2(
    ctx: &Ctx,
    request: SandboxGetFromNameRequest,
) -> Result<SandboxGetFromNameResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let (name, finished) = (&request.sandbox_name, request.include_terminated);
    let found = match ctx.apps.find(&environment, &request.app_name).await? {
        Some(app) => ctx.sandboxes.records.find_by_name(&app.app_id, name, finished).await?,
        None => None,
    };
    let record = found
        .ok_or_else(|| Error::not_found_in("running sandbox", name, ("app", &request.app_name)))?;
    Ok(SandboxGetFromNameResponse {
        metadata: Some(metadata(&record.app_id, record.ending().as_ref())),
        sandbox_id: record.sandbox_id,
    })
}

/// The task's id: known from the start, and kept for the logs of sandboxes that ended. Their result says
/// that nothing can be run in them any more.
pub(crate) async fn sandbox_get_task_id_v2(
    ctx: &Ctx,
    request: SandboxGetTaskIdRequest,
) -> Result<SandboxGetTaskIdResponse, Status> {
    let record = record(ctx, &request.sandbox_id).await?;
    let task_result = record.ending().as_ref().map(Ending::result);
    Ok(SandboxGetTaskIdResponse { task_id: Some(record.task_id), task_result })
}

pub(crate) async fn sandbox_get_tunnels_v2(
    ctx: &Ctx,
    request: SandboxGetTunnelsRequest,
) -> Result<SandboxGetTunnelsResponse, Status> {
    let record = record(ctx, &request.sandbox_id).await?;
    if let Some(ending) = record.ending() {
        return Ok(SandboxGetTunnelsResponse {
            result: Some(ending.result()),
            tunnels: Vec::new(),
        });
    }
    let id = SandboxId::parse(&record.sandbox_id).map_err(Error::from)?;
    let sandbox =
        ctx.sandboxes.find(&id).ok_or_else(|| Error::not_found("running sandbox", &id))?;
    let success = GenericResult { status: GenericStatus::Success.into(), ..Default::default() };
    Ok(SandboxGetTunnelsResponse {
        result: Some(success),
        tunnels: sandbox.running()?.tunnels.clone(),
    })
}

pub(crate) async fn task_get_info(
    ctx: &Ctx,
    request: TaskGetInfoRequest,
) -> Result<TaskGetInfoResponse, Status> {
    let id = TaskId::parse(&request.task_id).map_err(Error::from)?;
    let record = match ctx.sandboxes.records.get_by_task(&id).await {
        Err(error) if error.is_not_found() => return Ok(container_info(ctx, &id).await?),
        record => record?,
    };
    Ok(TaskGetInfoResponse { info: Some(task_info(&record)), app_id: record.app_id })
}

/// The same of a container of a function.
async fn container_info(ctx: &Ctx, id: &TaskId) -> Result<TaskGetInfoResponse, Error> {
    let record = ctx.functions.tasks.get(id).await?;
    let live = ctx.functions.find_task(id).and_then(|(_, task)| task.ready_at());
    let info = TaskInfo {
        id: record.task_id,
        enqueued_at: record.enqueued_at,
        started_at: record.started_at.or(live).unwrap_or_default(),
        finished_at: record.finished_at.unwrap_or_default(),
        result: record.status.map(|status| GenericResult {
            status,
            exception: record.reason.unwrap_or_default(),
            ..GenericResult::default()
        }),
        ..TaskInfo::default()
    };
    Ok(TaskGetInfoResponse { info: Some(info), app_id: record.app_id })
}
