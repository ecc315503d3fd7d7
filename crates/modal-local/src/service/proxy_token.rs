//! RPCs of proxy tokens, which Modal's wire calls webhook tokens.

use modal_proto::client::{
    TokenCreateResponse, TokenDeleteRequest, UserIdentity, WebhookToken, WebhookTokenCreateRequest,
    WebhookTokenEnvironmentAddRequest, WebhookTokenEnvironmentListRequest,
    WebhookTokenEnvironmentListResponse, WebhookTokenEnvironmentRemoveRequest,
    WebhookTokenListForEnvironmentRequest, WebhookTokenListResponse, WebhookTokenUpdateRequest,
};
use tonic::Status;

use super::workspace::user;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::ProxyTokenId;
use crate::state::proxy_tokens::ProxyToken;

pub(super) async fn webhook_token_create(
    ctx: &Ctx,
    request: WebhookTokenCreateRequest,
) -> Result<TokenCreateResponse, Status> {
    let (id, secret) = ctx.proxy_tokens.create(&request.name, request.scoped).await?;
    Ok(TokenCreateResponse { token_id: id.to_string(), token_secret: secret.expose().to_owned() })
}

pub(super) async fn webhook_token_delete(
    ctx: &Ctx,
    request: TokenDeleteRequest,
) -> Result<(), Status> {
    Ok(ctx.proxy_tokens.delete(&id(&request.token_id)?).await?)
}

pub(super) async fn webhook_token_list(
    ctx: &Ctx,
    (): (),
) -> Result<WebhookTokenListResponse, Status> {
    Ok(list(ctx.proxy_tokens.list(None).await?))
}

pub(super) async fn webhook_token_list_for_environment(
    ctx: &Ctx,
    request: WebhookTokenListForEnvironmentRequest,
) -> Result<WebhookTokenListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    Ok(list(ctx.proxy_tokens.list(Some(&environment.id)).await?))
}

pub(super) async fn webhook_token_update(
    ctx: &Ctx,
    request: WebhookTokenUpdateRequest,
) -> Result<WebhookToken, Status> {
    let id = id(&request.token_id)?;
    if let Some(name) = &request.name {
        ctx.proxy_tokens.rename(&id, name).await?;
    }
    Ok(item(ctx.proxy_tokens.get(&id).await?))
}

pub(super) async fn webhook_token_environment_add(
    ctx: &Ctx,
    request: WebhookTokenEnvironmentAddRequest,
) -> Result<(), Status> {
    ctx.environments.name_of(&request.environment_id).await?;
    Ok(ctx.proxy_tokens.allow(&id(&request.token_id)?, &request.environment_id).await?)
}

pub(super) async fn webhook_token_environment_remove(
    ctx: &Ctx,
    request: WebhookTokenEnvironmentRemoveRequest,
) -> Result<(), Status> {
    Ok(ctx.proxy_tokens.revoke(&id(&request.token_id)?, &request.environment_id).await?)
}

pub(super) async fn webhook_token_environment_list(
    ctx: &Ctx,
    request: WebhookTokenEnvironmentListRequest,
) -> Result<WebhookTokenEnvironmentListResponse, Status> {
    let environment_ids = ctx.proxy_tokens.environments(&id(&request.token_id)?).await?;
    Ok(WebhookTokenEnvironmentListResponse { environment_ids })
}

fn id(text: &str) -> Result<ProxyTokenId, Error> {
    Ok(ProxyTokenId::parse(text)?)
}

fn list(tokens: Vec<ProxyToken>) -> WebhookTokenListResponse {
    WebhookTokenListResponse { tokens: tokens.into_iter().map(item).collect() }
}

fn item(token: ProxyToken) -> WebhookToken {
    let ProxyToken { token_id, name, scoped, created_at } = token;
    let created_by: Option<UserIdentity> = Some(user());
    WebhookToken { token_id, created_at, scoped, name, created_by }
}
