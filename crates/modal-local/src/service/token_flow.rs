//! RPCs of getting a token through a browser. They are called without one.

use std::time::Duration;

use modal_proto::client::{
    TokenFlowCreateRequest, TokenFlowCreateResponse, TokenFlowWaitRequest, TokenFlowWaitResponse,
};
use tonic::Status;

use super::workspace::NAME;
use crate::ctx::Ctx;
use crate::http::LOGIN;

/// No poll is held longer; the SDK asks for 40 seconds and then again.
const LONGEST_POLL: Duration = Duration::from_secs(60);

pub(super) async fn token_flow_create(
    ctx: &Ctx,
    _request: TokenFlowCreateRequest,
) -> Result<TokenFlowCreateResponse, Status> {
    let flow = ctx.logins.begin()?;
    Ok(TokenFlowCreateResponse {
        web_url: format!("{}{LOGIN}{}", ctx.url, flow.id),
        token_flow_id: flow.id,
        // The page asks for a code that the client is not told.
        code: String::new(),
        wait_secret: flow.wait_secret,
    })
}

pub(super) async fn token_flow_wait(
    ctx: &Ctx,
    request: TokenFlowWaitRequest,
) -> Result<TokenFlowWaitResponse, Status> {
    let limit = Duration::try_from_secs_f32(request.timeout).unwrap_or_default().min(LONGEST_POLL);
    if !ctx.logins.wait(&request.token_flow_id, &request.wait_secret, limit).await? {
        return Ok(TokenFlowWaitResponse { timeout: true, ..TokenFlowWaitResponse::default() });
    }
    let token = ctx.auth.token();
    Ok(TokenFlowWaitResponse {
        token_id: token.id.clone(),
        token_secret: token.secret.expose().to_owned(),
        timeout: false,
        workspace_username: NAME.to_owned(),
    })
}
