//! RPCs of blobs.

use modal_proto::client::{BlobCreateRequest, BlobCreateResponse, BlobGetRequest, BlobGetResponse};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn blob_create(
    _ctx: &Ctx,
    _request: BlobCreateRequest,
) -> Result<BlobCreateResponse, Status> {
    Err(not_served("BlobCreate"))
}

pub(crate) async fn blob_get(
    _ctx: &Ctx,
    _request: BlobGetRequest,
) -> Result<BlobGetResponse, Status> {
    Err(not_served("BlobGet"))
}
