//! RPCs of workspaces.

use modal_proto::client::{
    ClientHelloResponse, TokenInfoGetRequest, TokenInfoGetResponse, WorkspaceNameLookupResponse,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::not_served;

pub(crate) async fn client_hello(_ctx: &Ctx, _request: ()) -> Result<ClientHelloResponse, Status> {
    Err(not_served("ClientHello"))
}

pub(crate) async fn token_info_get(
    _ctx: &Ctx,
    _request: TokenInfoGetRequest,
) -> Result<TokenInfoGetResponse, Status> {
    Err(not_served("TokenInfoGet"))
}

pub(crate) async fn workspace_name_lookup(
    _ctx: &Ctx,
    _request: (),
) -> Result<WorkspaceNameLookupResponse, Status> {
    Err(not_served("WorkspaceNameLookup"))
}
