//! RPCs of apps.

use modal_proto::client::{
    AppClientDisconnectRequest, AppCreateRequest, AppCreateResponse, AppGetByDeploymentNameRequest,
    AppGetByDeploymentNameResponse, AppGetOrCreateRequest, AppGetOrCreateResponse,
    AppHeartbeatRequest, AppListRequest, AppListResponse, AppStopRequest,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn app_client_disconnect(
    _ctx: &Ctx,
    _request: AppClientDisconnectRequest,
) -> Result<(), Status> {
    Err(not_served("AppClientDisconnect"))
}

pub(crate) async fn app_create(
    _ctx: &Ctx,
    _request: AppCreateRequest,
) -> Result<AppCreateResponse, Status> {
    Err(not_served("AppCreate"))
}

pub(crate) async fn app_get_by_deployment_name(
    _ctx: &Ctx,
    _request: AppGetByDeploymentNameRequest,
) -> Result<AppGetByDeploymentNameResponse, Status> {
    Err(not_served("AppGetByDeploymentName"))
}

pub(crate) async fn app_get_or_create(
    _ctx: &Ctx,
    _request: AppGetOrCreateRequest,
) -> Result<AppGetOrCreateResponse, Status> {
    Err(not_served("AppGetOrCreate"))
}

pub(crate) async fn app_heartbeat(_ctx: &Ctx, _request: AppHeartbeatRequest) -> Result<(), Status> {
    Err(not_served("AppHeartbeat"))
}

pub(crate) async fn app_list(
    _ctx: &Ctx,
    _request: AppListRequest,
) -> Result<AppListResponse, Status> {
    Err(not_served("AppList"))
}

pub(crate) async fn app_stop(_ctx: &Ctx, _request: AppStopRequest) -> Result<(), Status> {
    Err(not_served("AppStop"))
}
