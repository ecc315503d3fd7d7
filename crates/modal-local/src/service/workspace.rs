//! The one workspace of this server, and its one token.

use modal_proto::client::token_info_get_response::Identity;
use modal_proto::client::{
    ClientHelloResponse, CreationInfo, MemberRole, TokenInfoGetRequest, TokenInfoGetResponse,
    UserIdentity, WorkspaceDashboardUrlRequest, WorkspaceDashboardUrlResponse,
    WorkspaceMembersListItem, WorkspaceMembersListResponse, WorkspaceNameLookupResponse,
    WorkspaceSetDefaultEnvironmentRequest, WorkspaceSetImageBuilderVersionRequest,
    WorkspaceSetImageBuilderVersionResponse, WorkspaceSettingsResponse,
};
use tonic::Status;

use crate::clock;
use crate::ctx::Ctx;

/// The workspace's name, and its user's.
pub(crate) const NAME: &str = "local";
/// The workspace's id.
pub(crate) const WORKSPACE_ID: &str = "ac-local";
/// Its only user's id.
const USER_ID: &str = "us-local";

/// Whoever has the token.
pub(super) fn user() -> UserIdentity {
    UserIdentity { user_id: USER_ID.to_owned(), username: NAME.to_owned() }
}

/// Who made an object, and when: seconds since 1970.
pub(super) fn created(created_at: f64) -> CreationInfo {
    CreationInfo { created_at, created_by: NAME.to_owned() }
}

pub(crate) async fn client_hello(ctx: &Ctx, (): ()) -> Result<ClientHelloResponse, Status> {
    Ok(ClientHelloResponse {
        image_builder_version: ctx.workspace.image_builder_version(),
        ..ClientHelloResponse::default()
    })
}

pub(crate) async fn token_info_get(
    ctx: &Ctx,
    _request: TokenInfoGetRequest,
) -> Result<TokenInfoGetResponse, Status> {
    Ok(TokenInfoGetResponse {
        token_id: ctx.auth.token().id.clone(),
        workspace_id: WORKSPACE_ID.to_owned(),
        workspace_name: NAME.to_owned(),
        identity: Some(Identity::UserIdentity(user())),
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

/// The one user, who joined with the first environment.
pub(crate) async fn workspace_members_list(
    ctx: &Ctx,
    (): (),
) -> Result<WorkspaceMembersListResponse, Status> {
    let environments = ctx.environments.list().await?;
    let joined_at = environments.iter().map(|it| it.created_at).fold(f64::INFINITY, f64::min);
    let member = WorkspaceMembersListItem {
        member_id: USER_ID.to_owned(),
        user_id: USER_ID.to_owned(),
        member_displayname: NAME.to_owned(),
        member_role: MemberRole::Owner.into(),
        joined_at,
        last_active_at: clock::now(),
        ..WorkspaceMembersListItem::default()
    };
    Ok(WorkspaceMembersListResponse { members: vec![member] })
}

pub(crate) async fn workspace_settings(
    ctx: &Ctx,
    (): (),
) -> Result<WorkspaceSettingsResponse, Status> {
    Ok(WorkspaceSettingsResponse {
        default_environment_name: ctx.workspace.default_environment(),
        image_builder_version: ctx.workspace.image_builder_version(),
    })
}

/// The version of environments that are made from now on; those there are keep theirs.
pub(crate) async fn workspace_set_image_builder_version(
    ctx: &Ctx,
    request: WorkspaceSetImageBuilderVersionRequest,
) -> Result<WorkspaceSetImageBuilderVersionResponse, Status> {
    let image_builder_version = request.new_image_builder_version;
    ctx.workspace.set_image_builder_version(&image_builder_version).await?;
    Ok(WorkspaceSetImageBuilderVersionResponse { image_builder_version })
}

pub(crate) async fn workspace_set_default_environment(
    ctx: &Ctx,
    request: WorkspaceSetDefaultEnvironmentRequest,
) -> Result<(), Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    Ok(ctx.workspace.set_default_environment(&environment.name).await?)
}

/// This server's own address, as for apps: there are no pages about objects.
pub(crate) async fn workspace_dashboard_url_get(
    ctx: &Ctx,
    request: WorkspaceDashboardUrlRequest,
) -> Result<WorkspaceDashboardUrlResponse, Status> {
    ctx.environments.resolve(&request.environment_name).await?;
    Ok(WorkspaceDashboardUrlResponse { url: ctx.url.clone() })
}
