//! JWTs for clients: what some of them send beside the token.

use modal_proto::client::{AuthTokenGetRequest, AuthTokenGetResponse};
use tonic::Status;

use crate::ctx::Ctx;

pub(crate) async fn auth_token_get(
    ctx: &Ctx,
    _request: AuthTokenGetRequest,
) -> Result<AuthTokenGetResponse, Status> {
    Ok(AuthTokenGetResponse { token: ctx.auth.issue_auth_token() })
}
