//! RPCs of sandboxs.

use modal_proto::client::{
    SandboxCreateV2Request, SandboxCreateV2Response, SandboxGetCommandRouterAccessRequest,
    SandboxGetCommandRouterAccessResponse, SandboxGetFromNameRequest, SandboxGetFromNameResponse,
    SandboxGetTaskIdRequest, SandboxGetTaskIdResponse, SandboxGetTunnelsRequest,
    SandboxGetTunnelsResponse, SandboxListRequest, SandboxListResponse, SandboxSetNameRequest,
    SandboxSetNameResponse, SandboxTagsGetRequest, SandboxTagsGetResponse, SandboxTagsSetRequest,
    SandboxTerminateRequest, SandboxTerminateResponse, SandboxWaitRequest, SandboxWaitResponse,
    SandboxWaitUntilReadyRequest, SandboxWaitUntilReadyResponse, TaskGetInfoRequest,
    TaskGetInfoResponse,
};
use tonic::Status;

use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn sandbox_create_v2(
    _ctx: &Ctx,
    _request: SandboxCreateV2Request,
    _caller: &Caller,
) -> Result<SandboxCreateV2Response, Status> {
    Err(not_served("SandboxCreateV2"))
}

pub(crate) async fn sandbox_get_command_router_access(
    _ctx: &Ctx,
    _request: SandboxGetCommandRouterAccessRequest,
    _caller: &Caller,
) -> Result<SandboxGetCommandRouterAccessResponse, Status> {
    Err(not_served("SandboxGetCommandRouterAccess"))
}

pub(crate) async fn sandbox_get_from_name(
    _ctx: &Ctx,
    _request: SandboxGetFromNameRequest,
) -> Result<SandboxGetFromNameResponse, Status> {
    Err(not_served("SandboxGetFromName"))
}

pub(crate) async fn sandbox_get_from_name_v2(
    _ctx: &Ctx,
    _request: SandboxGetFromNameRequest,
) -> Result<SandboxGetFromNameResponse, Status> {
    Err(not_served("SandboxGetFromNameV2"))
}

pub(crate) async fn sandbox_get_task_id_v2(
    _ctx: &Ctx,
    _request: SandboxGetTaskIdRequest,
) -> Result<SandboxGetTaskIdResponse, Status> {
    Err(not_served("SandboxGetTaskIdV2"))
}

pub(crate) async fn sandbox_get_tunnels_v2(
    _ctx: &Ctx,
    _request: SandboxGetTunnelsRequest,
) -> Result<SandboxGetTunnelsResponse, Status> {
    Err(not_served("SandboxGetTunnelsV2"))
}

pub(crate) async fn sandbox_list_v2(
    _ctx: &Ctx,
    _request: SandboxListRequest,
) -> Result<SandboxListResponse, Status> {
    Err(not_served("SandboxListV2"))
}

pub(crate) async fn sandbox_set_name(
    _ctx: &Ctx,
    _request: SandboxSetNameRequest,
) -> Result<SandboxSetNameResponse, Status> {
    Err(not_served("SandboxSetName"))
}

pub(crate) async fn sandbox_tags_get_v2(
    _ctx: &Ctx,
    _request: SandboxTagsGetRequest,
) -> Result<SandboxTagsGetResponse, Status> {
    Err(not_served("SandboxTagsGetV2"))
}

pub(crate) async fn sandbox_tags_set_v2(
    _ctx: &Ctx,
    _request: SandboxTagsSetRequest,
) -> Result<(), Status> {
    Err(not_served("SandboxTagsSetV2"))
}

pub(crate) async fn sandbox_terminate_v2(
    _ctx: &Ctx,
    _request: SandboxTerminateRequest,
) -> Result<SandboxTerminateResponse, Status> {
    Err(not_served("SandboxTerminateV2"))
}

pub(crate) async fn sandbox_wait_until_ready(
    _ctx: &Ctx,
    _request: SandboxWaitUntilReadyRequest,
) -> Result<SandboxWaitUntilReadyResponse, Status> {
    Err(not_served("SandboxWaitUntilReady"))
}

pub(crate) async fn sandbox_wait_v2(
    _ctx: &Ctx,
    _request: SandboxWaitRequest,
) -> Result<SandboxWaitResponse, Status> {
    Err(not_served("SandboxWaitV2"))
}

pub(crate) async fn task_get_info(
    _ctx: &Ctx,
    _request: TaskGetInfoRequest,
) -> Result<TaskGetInfoResponse, Status> {
    Err(not_served("TaskGetInfo"))
}
