//! Making a sidecar by the control plane, as clients do for sandboxes of version 2.

use modal_proto::client::{SandboxContainerCreateV2Request, SandboxContainerCreateV2Response};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::SandboxId;
use crate::sandbox::{SandboxSpec, checked_name, secret_sources};

pub(crate) async fn sandbox_container_create_v2(
    ctx: &Ctx,
    request: SandboxContainerCreateV2Request,
) -> Result<SandboxContainerCreateV2Response, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    let sandbox =
        ctx.sandboxes.find(&id).ok_or_else(|| Error::not_found("running sandbox", &id))?;
    let definition = request.definition.unwrap_or_default();
    let ids = definition.secret_ids.clone();
    let sources = secret_sources(request.secret_sources, ids, request.ephemeral_secrets);
    let spec = SandboxSpec::parse_sidecar(&sandbox.app, definition, sources)?;
    let name = checked_name(request.container_name)?;
    let made = sandbox.create_sidecar(ctx, name, spec).await?;
    Ok(SandboxContainerCreateV2Response {
        container_id: made.container_id(),
        container_name: made.container_name().to_owned(),
    })
}
