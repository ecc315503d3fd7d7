//! Names and tags.

use modal_proto::client::{
    SandboxSetNameRequest, SandboxSetNameResponse, SandboxTagsGetRequest, SandboxTagsGetResponse,
    SandboxTagsSetRequest,
};
use tonic::Status;

use super::record;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::SandboxId;
use crate::sandbox::{Tags, checked_name};

pub(crate) async fn sandbox_set_name(
    ctx: &Ctx,
    request: SandboxSetNameRequest,
) -> Result<SandboxSetNameResponse, Status> {
    let name = checked_name(request.name)?;
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    ctx.sandboxes.records.get(&id).await?;
    let sandbox = ctx.sandboxes.find(&id).filter(|sandbox| sandbox.ending().is_none());
    let sandbox =
        sandbox.ok_or_else(|| Status::failed_precondition(format!("sandbox `{id}` has ended")))?;
    ctx.sandboxes.registry.name(&sandbox, &name)?;
    ctx.sandboxes.records.set_name(&id, &name).await?;
    Ok(SandboxSetNameResponse {})
}

pub(crate) async fn sandbox_tags_get_v2(
    ctx: &Ctx,
    request: SandboxTagsGetRequest,
) -> Result<SandboxTagsGetResponse, Status> {
    let record = record(ctx, &request.sandbox_id).await?;
    let tags = ctx.sandboxes.records.tags(&record.sandbox_id).await?;
    Ok(SandboxTagsGetResponse { tags: tags.to_wire() })
}

/// Replaces all tags.
pub(crate) async fn sandbox_tags_set_v2(
    ctx: &Ctx,
    request: SandboxTagsSetRequest,
) -> Result<(), Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    ctx.sandboxes.records.get(&id).await?;
    ctx.sandboxes.records.set_tags(&id, &Tags::from_wire(request.tags)?).await?;
    Ok(())
}
