//! RPCs of auths.

use modal_proto::client::{AuthTokenGetRequest, AuthTokenGetResponse};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn auth_token_get(
    _ctx: &Ctx,
    _request: AuthTokenGetRequest,
) -> Result<AuthTokenGetResponse, Status> {
    Err(not_served("AuthTokenGet"))
}
