//! RPCs of images.

mod join;
mod names;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    GenericResult, ImageFromIdRequest, ImageFromIdResponse, ImageGetOrCreateRequest,
    ImageGetOrCreateResponse, ImageJoinStreamingRequest, ImageJoinStreamingResponse,
};
use tonic::Status;

pub(crate) use self::names::{
    image_delete, image_get_by_tag, image_list_tags, image_name_delete, image_publish,
    image_tag_revisions,
};
use crate::ctx::Ctx;
use crate::ids::ImageId;
use crate::image::Progress;
use crate::service::BoxStream;

pub(crate) async fn image_from_id(
    ctx: &Ctx,
    request: ImageFromIdRequest,
) -> Result<ImageFromIdResponse, Status> {
    let id = ImageId::parse(&request.image_id).map_err(crate::Error::from)?;
    let view = ctx.images.get(ctx, &id).await?;
    Ok(ImageFromIdResponse { image_id: id.to_string(), metadata: Some(view.metadata) })
}

/// Answers with a result only if the image is built: then no client joins.
pub(crate) async fn image_get_or_create(
    ctx: &Ctx,
    request: ImageGetOrCreateRequest,
) -> Result<ImageGetOrCreateResponse, Status> {
    let view = ctx.images.get_or_create(ctx, request).await?;
    let is_built = matches!(view.progress, Progress::Built(_));
    Ok(ImageGetOrCreateResponse {
        image_id: view.id.to_string(),
        result: is_built.then(|| result_of(&view.progress)).flatten(),
        metadata: Some(view.metadata),
    })
}

pub(crate) async fn image_join_streaming(
    ctx: &Ctx,
    request: ImageJoinStreamingRequest,
) -> Result<BoxStream<ImageJoinStreamingResponse>, Status> {
    join::join(ctx, request).await
}

/// How a build ended; `None` while it has not.
fn result_of(progress: &Progress) -> Option<GenericResult> {
    let result = |status: GenericStatus, exception: &str| GenericResult {
        status: status.into(),
        exception: exception.to_owned(),
        ..GenericResult::default()
    };
    match progress {
        Progress::Building => None,
        Progress::Built(_) => Some(result(GenericStatus::Success, "")),
        Progress::Failed(reason) => Some(result(GenericStatus::Failure, reason)),
    }
}
