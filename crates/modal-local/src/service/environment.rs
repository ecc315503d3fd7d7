//! RPCs of environments.

use modal_proto::client::{
    EnvironmentCreateRequest, EnvironmentDeleteRequest, EnvironmentGetOrCreateRequest,
    EnvironmentGetOrCreateResponse, EnvironmentListItem, EnvironmentListResponse,
    EnvironmentUpdateRequest,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn environment_create(
    _ctx: &Ctx,
    _request: EnvironmentCreateRequest,
) -> Result<(), Status> {
    Err(not_served("EnvironmentCreate"))
}

pub(crate) async fn environment_delete(
    _ctx: &Ctx,
    _request: EnvironmentDeleteRequest,
) -> Result<(), Status> {
    Err(not_served("EnvironmentDelete"))
}

pub(crate) async fn environment_get_or_create(
    _ctx: &Ctx,
    _request: EnvironmentGetOrCreateRequest,
) -> Result<EnvironmentGetOrCreateResponse, Status> {
    Err(not_served("EnvironmentGetOrCreate"))
}

pub(crate) async fn environment_list(
    _ctx: &Ctx,
    _request: (),
) -> Result<EnvironmentListResponse, Status> {
    Err(not_served("EnvironmentList"))
}

pub(crate) async fn environment_update(
    _ctx: &Ctx,
    _request: EnvironmentUpdateRequest,
) -> Result<EnvironmentListItem, Status> {
    Err(not_served("EnvironmentUpdate"))
}
