//! RPCs of images' names, and the deletion of images.

use modal_proto::client::{
    ImageDeleteRequest, ImageGetByTagRequest, ImageGetByTagResponse, ImageListTagsItem,
    ImageListTagsRequest, ImageListTagsResponse, ImageNameDeleteRequest, ImagePublishRequest,
    ImagePublishResponse, ImageTagRevisionsItem, ImageTagRevisionsRequest,
    ImageTagRevisionsResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::ImageId;
use crate::state::environments::Environment;
use crate::state::image_names::{ImageName, Revision};

/// Most items of a page.
const MAX_PAGE: u32 = 100;
/// Who publishes here: there is one user.
const PUBLISHER: &str = "local";

pub(crate) async fn image_publish(
    ctx: &Ctx,
    request: ImagePublishRequest,
) -> Result<ImagePublishResponse, Status> {
    if request.allow_public {
        return Err(Status::invalid_argument("the local server publishes to nobody else"));
    }
    let (environment, tag) = resolve(ctx, &request.tag, &request.environment_name).await?;
    let image = ImageId::parse(&request.image_id).map_err(Error::from)?;
    ctx.images.resolve(&image).await?;
    Ok(ctx.image_names.publish(&environment, &tag, &image).await?)
}

pub(crate) async fn image_get_by_tag(
    ctx: &Ctx,
    request: ImageGetByTagRequest,
) -> Result<ImageGetByTagResponse, Status> {
    let (environment, tag) = resolve(ctx, &request.tag, &request.environment_name).await?;
    Ok(ImageGetByTagResponse { image_id: ctx.image_names.find(&environment, &tag).await? })
}

/// Pages go on after the last name of the one before.
pub(crate) async fn image_list_tags(
    ctx: &Ctx,
    request: ImageListTagsRequest,
) -> Result<ImageListTagsResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let limit = page(request.max_objects);
    let image = Some(request.image_id.as_str()).filter(|id| !id.is_empty());
    let (prefix, after) = (&request.tag_prefix, &request.page_token);
    let names = ctx.image_names.list(&environment, prefix, image, after, limit).await?;
    let next = names.last().filter(|_| names.len() as i64 == limit).map(|it| it.tag.clone());
    let item = |name: Revision| ImageListTagsItem {
        tag: format!("{}/{}", environment.name, name.tag),
        image_id: name.image_id,
        revision_id: name.revision.to_string(),
        created_at: name.first_at,
        updated_at: name.created_at,
        last_published_by: PUBLISHER.to_owned(),
    };
    Ok(ImageListTagsResponse {
        items: names.into_iter().map(item).collect(),
        next_page_token: next.unwrap_or_default(),
        environment_name: environment.name.clone(),
    })
}

pub(crate) async fn image_tag_revisions(
    ctx: &Ctx,
    request: ImageTagRevisionsRequest,
) -> Result<ImageTagRevisionsResponse, Status> {
    let (environment, tag) = resolve(ctx, &request.tag, &request.environment_name).await?;
    let before = match request.page_token.as_str() {
        "" => i64::MAX,
        token => token.parse().map_err(|_| Status::invalid_argument("unknown `page_token`"))?,
    };
    let limit = page(request.max_objects);
    let revisions = ctx.image_names.history(&environment, &tag, before, limit).await?;
    let next = revisions.last().filter(|_| revisions.len() as i64 == limit);
    let next_page_token = next.map(|it| it.revision.to_string()).unwrap_or_default();
    let item = |it: Revision| ImageTagRevisionsItem {
        image_id: it.image_id,
        revision_id: it.revision.to_string(),
        created_at: it.created_at,
        published_by: PUBLISHER.to_owned(),
    };
    Ok(ImageTagRevisionsResponse {
        items: revisions.into_iter().map(item).collect(),
        next_page_token,
        tag: format!("{}/{tag}", environment.name),
        environment_name: environment.name,
    })
}

pub(crate) async fn image_name_delete(
    ctx: &Ctx,
    request: ImageNameDeleteRequest,
) -> Result<(), Status> {
    let (environment, tag) = resolve(ctx, &request.tag, "").await?;
    Ok(ctx.image_names.delete(&environment, &tag).await?)
}

/// Sandboxes that run the image keep its files; nothing can be started from it any more.
pub(crate) async fn image_delete(ctx: &Ctx, request: ImageDeleteRequest) -> Result<(), Status> {
    let image = ImageId::parse(&request.image_id).map_err(Error::from)?;
    Ok(ctx.images.delete(&image).await?)
}

/// The environment and the name that a client means: one in the name counts more.
async fn resolve(ctx: &Ctx, text: &str, environment: &str) -> Result<(Environment, String)> {
    let name = ImageName::parse(text)?;
    let environment = name.environment.as_deref().unwrap_or(environment);
    Ok((ctx.environments.resolve(environment).await?, name.tag))
}

fn page(asked: u32) -> i64 {
    let most = if asked == 0 { MAX_PAGE } else { asked.min(MAX_PAGE) };
    i64::from(most)
}
