//! RPCs of secrets.

use modal_proto::client::{
    SecretDeleteRequest, SecretGetInfoRequest, SecretGetInfoResponse, SecretGetOrCreateRequest,
    SecretGetOrCreateResponse, SecretListRequest, SecretListResponse, SecretUpdateRequest,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn secret_delete(_ctx: &Ctx, _request: SecretDeleteRequest) -> Result<(), Status> {
    Err(not_served("SecretDelete"))
}

pub(crate) async fn secret_get_info(
    _ctx: &Ctx,
    _request: SecretGetInfoRequest,
) -> Result<SecretGetInfoResponse, Status> {
    Err(not_served("SecretGetInfo"))
}

pub(crate) async fn secret_get_or_create(
    _ctx: &Ctx,
    _request: SecretGetOrCreateRequest,
) -> Result<SecretGetOrCreateResponse, Status> {
    Err(not_served("SecretGetOrCreate"))
}

pub(crate) async fn secret_list(
    _ctx: &Ctx,
    _request: SecretListRequest,
) -> Result<SecretListResponse, Status> {
    Err(not_served("SecretList"))
}

pub(crate) async fn secret_update(_ctx: &Ctx, _request: SecretUpdateRequest) -> Result<(), Status> {
    Err(not_served("SecretUpdate"))
}
