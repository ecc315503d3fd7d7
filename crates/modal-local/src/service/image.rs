//! RPCs of images.

mod join;
mod names;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::{
    GenericResult, ImageBuildChainGetRequest, ImageBuildChainGetResponse, ImageBuildStep,
    ImageFromIdRequest, ImageFromIdResponse, ImageGetOrCreateRequest, ImageGetOrCreateResponse,
    ImageJoinStreamingRequest, ImageJoinStreamingResponse,
};
use tonic::Status;

pub(crate) use self::names::{
    image_delete, image_get_by_tag, image_list_tags, image_name_delete, image_publish,
    image_tag_revisions,
};
use crate::clock;
use crate::ctx::Ctx;
use crate::ids::ImageId;
use crate::image::Progress;
use crate::logs::Logs;
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

/// Where the logs are of the builds that led to an image. One whose log is gone, or that nothing was said about, is
/// left out.
pub(crate) async fn image_build_chain_get(
    ctx: &Ctx,
    request: ImageBuildChainGetRequest,
) -> Result<ImageBuildChainGetResponse, Status> {
    let id = ImageId::parse(&request.image_id).map_err(crate::Error::from)?;
    ctx.logs.flush().await;
    let mut build_steps = Vec::new();
    for image in ctx.images.chain_of(&id).await? {
        let builder_task_id = Logs::builder_of(&image);
        let Some((builder_app_id, first, last)) = ctx.logs.extent(&builder_task_id).await? else {
            continue;
        };
        build_steps.push(ImageBuildStep {
            image_id: image.to_string(),
            started_at: Some(clock::timestamp(first)),
            // Ranges of logs end before their second time.
            finished_at: Some(clock::timestamp(last + 1.0)),
            builder_app_id,
            builder_task_id,
        });
    }
    Ok(ImageBuildChainGetResponse { build_steps })
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
