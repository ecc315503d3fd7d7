//! RPCs of images.

use modal_proto::client::{
    ImageFromIdRequest, ImageFromIdResponse, ImageGetOrCreateRequest, ImageGetOrCreateResponse,
    ImageJoinStreamingRequest, ImageJoinStreamingResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::{BoxStream, not_served};

pub(crate) async fn image_from_id(
    _ctx: &Ctx,
    _request: ImageFromIdRequest,
) -> Result<ImageFromIdResponse, Status> {
    Err(not_served("ImageFromId"))
}

pub(crate) async fn image_get_or_create(
    _ctx: &Ctx,
    _request: ImageGetOrCreateRequest,
) -> Result<ImageGetOrCreateResponse, Status> {
    Err(not_served("ImageGetOrCreate"))
}

pub(crate) async fn image_join_streaming(
    _ctx: &Ctx,
    _request: ImageJoinStreamingRequest,
) -> Result<BoxStream<ImageJoinStreamingResponse>, Status> {
    Err(not_served("ImageJoinStreaming"))
}
