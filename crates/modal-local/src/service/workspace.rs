//! The one workspace of this server, and its one token.

use modal_proto::client::token_info_get_response::Identity;
use modal_proto::client::{
    ClientHelloResponse, TokenInfoGetRequest, TokenInfoGetResponse, UserIdentity,
    WorkspaceNameLookupResponse,
};
use tonic::Status;

use crate::ctx::Ctx;

/// The workspace's name, and its user's.
pub(super) const NAME: &str = "local";
/// The workspace's id.
const WORKSPACE_ID: &str = "ac-local";

pub(crate) async fn client_hello(ctx: &Ctx, (): ()) -> Result<ClientHelloResponse, Status> {
    Ok(ClientHelloResponse {
        image_builder_version: ctx.config.image_builder_version.clone(),
        ..ClientHelloResponse::default()
    })
}

pub(crate) async fn token_info_get(
    ctx: &Ctx,
    _request: TokenInfoGetRequest,
) -> Result<TokenInfoGetResponse, Status> {
    let user = UserIdentity { user_id: "us-local".to_owned(), username: NAME.to_owned() };
    Ok(TokenInfoGetResponse {
        token_id: ctx.auth.token().id.clone(),
        workspace_id: WORKSPACE_ID.to_owned(),
        workspace_name: NAME.to_owned(),
        identity: Some(Identity::UserIdentity(user)),
        ..TokenInfoGetResponse::default()
    })
}

#[expect(deprecated, reason = "older clients read the field that is deprecated")]
pub(crate) async fn workspace_name_lookup(
    _ctx: &Ctx,
    (): (),
) -> Result<WorkspaceNameLookupResponse, Status> {
    Ok(WorkspaceNameLookupResponse { workspace_name: NAME.to_owned(), username: NAME.to_owned() })
}
