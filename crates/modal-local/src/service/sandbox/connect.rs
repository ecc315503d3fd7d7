//! Tokens for HTTP into a sandbox.

use modal_proto::client::{SandboxCreateConnectTokenRequest, SandboxCreateConnectTokenResponse};
use tonic::Status;

use crate::connect::Claim;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::SandboxId;

/// Where requests go if the client names no port: the SDKs' own default.
const DEFAULT_PORT: u32 = 8080;

pub(crate) async fn sandbox_create_connect_token(
    ctx: &Ctx,
    request: SandboxCreateConnectTokenRequest,
) -> Result<SandboxCreateConnectTokenResponse, Status> {
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    ctx.sandboxes.records.get(&id).await?;
    let sandbox = ctx.sandboxes.find(&id).filter(|sandbox| sandbox.ending().is_none());
    if sandbox.is_none() {
        return Err(Status::failed_precondition(format!("sandbox `{id}` has ended")));
    }
    let port = request.port.unwrap_or(DEFAULT_PORT);
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| Status::invalid_argument("a port is a number from 1 to 65535"))?;
    let claim = Claim { sandbox: id.to_string(), port, user_data: request.user_metadata };
    let (url, token) = ctx.connect.credentials(ctx, &claim).await?;
    Ok(SandboxCreateConnectTokenResponse { url, token })
}

pub(crate) async fn sandbox_create_connect_token_v2(
    ctx: &Ctx,
    request: SandboxCreateConnectTokenRequest,
) -> Result<SandboxCreateConnectTokenResponse, Status> {
    sandbox_create_connect_token(ctx, request).await
}
