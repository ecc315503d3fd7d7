//! RPCs of mounts.

use modal_proto::client::{
    MountBatchedCheckExistenceRequest, MountBatchedCheckExistenceResponse, MountGetOrCreateRequest,
    MountGetOrCreateResponse, MountPutFileRequest, MountPutFileResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn mount_batched_check_existence(
    _ctx: &Ctx,
    _request: MountBatchedCheckExistenceRequest,
) -> Result<MountBatchedCheckExistenceResponse, Status> {
    Err(not_served("MountBatchedCheckExistence"))
}

pub(crate) async fn mount_get_or_create(
    _ctx: &Ctx,
    _request: MountGetOrCreateRequest,
) -> Result<MountGetOrCreateResponse, Status> {
    Err(not_served("MountGetOrCreate"))
}

pub(crate) async fn mount_put_file(
    _ctx: &Ctx,
    _request: MountPutFileRequest,
) -> Result<MountPutFileResponse, Status> {
    Err(not_served("MountPutFile"))
}
