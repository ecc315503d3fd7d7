//! Making a sandbox.

use modal_proto::client::{SandboxCreateV2Request, SandboxCreateV2Response};
use tonic::Status;

use super::{metadata, router_access};
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::sandbox::{LiveSandbox, SandboxSpec};

pub(crate) async fn sandbox_create_v2(
    ctx: &Ctx,
    request: SandboxCreateV2Request,
    caller: &Caller,
) -> Result<SandboxCreateV2Response, Status> {
    let repeated = |sandbox: &LiveSandbox| SandboxCreateV2Response {
        sandbox_id: sandbox.id.to_string(),
        task_id: sandbox.task.to_string(),
        metadata: Some(metadata(sandbox.app.as_str(), None)),
        ..SandboxCreateV2Response::default()
    };
    let sandbox = ctx.sandboxes.create(ctx, SandboxSpec::parse(request)?, repeated).await?;
    Ok(SandboxCreateV2Response {
        sandbox_id: sandbox.id.to_string(),
        task_id: sandbox.task.to_string(),
        tunnels: sandbox.running()?.tunnels.clone(),
        metadata: Some(metadata(sandbox.app.as_str(), None)),
        command_router_access: Some(router_access(ctx, &sandbox.task, caller).await?),
        sandbox_token: String::new(),
    })
}
