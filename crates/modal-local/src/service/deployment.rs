//! RPCs of deployments: publish an app, see its versions, go back to one.

use std::collections::BTreeMap;

use modal_proto::client::app_get_info_response::FunctionInfoSummary;
use modal_proto::client::{
    AppDeploymentHistory, AppDeploymentHistoryRequest, AppDeploymentHistoryResponse,
    AppGetInfoRequest, AppGetInfoResponse, AppGetLayoutRequest, AppGetLayoutResponse,
    AppGetTagsRequest, AppGetTagsResponse, AppPromoteRequest, AppPromoteResponse,
    AppPublishRequest, AppPublishResponse, AppRollbackRequest, AppRollbackResponse,
    AppRolloverRequest, AppRolloverResponse, AppSetTagsRequest, AppState, DeploymentType,
};
use prost::Message;
use tonic::Status;

use super::app::{describe, id};
use crate::caller::Caller;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::definition::{self, is_web};
use crate::function::deployment::{Deployment, Layout, new_deployment};
use crate::function::handle;
use crate::ids::{AppId, DefinitionId, FunctionId};

/// Puts what a client has defined into use: as a run, or as a deployment that stays.
///
/// `deployed_at` is 0 where nothing changed: no container needs to be replaced then.
pub(super) async fn app_publish(
    ctx: &Ctx,
    request: AppPublishRequest,
    caller: &Caller,
) -> Result<AppPublishResponse, Status> {
    let app = id(&request.app_id)?;
    let layout = layout(ctx, &app, &request).await?;
    let current = ctx.functions.deployments.current(&app).await?;
    let was_deployed = ctx.apps.get(&app).await?.state() == AppState::Deployed;
    let is_deployment = request.app_state() == AppState::Deployed;
    let unchanged =
        !request.staged && current.as_ref().is_some_and(|current| current.layout == layout);
    // Old clients say it here, new ones with every call.
    let said = request.client_version;
    let deployment = Deployment {
        client_version: if said.is_empty() { caller.version.clone() } else { said },
        tag: request.deployment_tag,
        commit: request.commit_info,
        kind: if request.staged { DeploymentType::Staged } else { DeploymentType::Standard },
        ..new_deployment(layout)
    };
    let tags: BTreeMap<String, String> = request.tags.into_iter().collect();
    match state(request.app_state)? {
        AppState::Deployed => {
            ctx.apps.deploy(&app, &request.name, deployment.deployed_at).await?;
            if !request.staged {
                ctx.functions.deployments.set_tags(&app, &tags).await?;
            }
        }
        // `modal serve` publishes again and leaves the state as it is.
        AppState::Unspecified => drop(ctx.apps.get_running(&app).await?),
        state => {
            ctx.apps.publish(&app, state).await?;
            if !tags.is_empty() {
                ctx.functions.deployments.set_tags(&app, &tags).await?;
            }
        }
    }
    if unchanged && was_deployed && is_deployment {
        return Ok(AppPublishResponse { url: ctx.url.clone(), ..AppPublishResponse::default() });
    }
    let answer = AppPublishResponse {
        url: ctx.url.clone(),
        deployed_at: deployment.deployed_at,
        ..AppPublishResponse::default()
    };
    Ok(put_into_use(ctx, &app, &deployment, ("app_publish", answer), false).await?)
}

fn state(number: i32) -> Result<AppState> {
    use AppState::{Deployed, Detached, Ephemeral, Unspecified};
    match AppState::try_from(number) {
        Ok(state @ (Unspecified | Ephemeral | Detached | Deployed)) => Ok(state),
        Ok(other) => {
            let name = other.as_str_name();
            Err(Error::invalid(format!("an app cannot be published as {name}")))
        }
        Err(_) => Err(Error::invalid(format!("unknown app state {number}"))),
    }
}

/// What the request names, with a definition for each function.
async fn layout(ctx: &Ctx, app: &AppId, request: &AppPublishRequest) -> Result<Layout> {
    let mut layout = Layout {
        functions: request.function_ids.clone().into_iter().collect(),
        classes: request.class_ids.clone().into_iter().collect(),
        definitions: BTreeMap::new(),
    };
    for (name, text) in &layout.functions {
        let function = FunctionId::parse(text)?;
        if ctx.functions.records.get(&function).await?.app != *app {
            return Err(Error::invalid(format!("function `{name}` is not of app `{app}`")));
        }
        let stated = request.definition_ids.get(text).filter(|id| !id.is_empty());
        let definition = match stated {
            Some(id) => Some(DefinitionId::parse(id)?),
            None => ctx.functions.records.newest_definition(&function).await?,
        };
        let definition = definition.ok_or_else(|| {
            Error::Precondition(format!("function `{name}` has no definition yet"))
        })?;
        layout.definitions.insert(text.clone(), definition.to_string());
    }
    Ok(layout)
}

/// `answered` is the RPC and its answer: the whole is done once, whatever is killed meanwhile.
async fn put_into_use<M: Message>(
    ctx: &Ctx,
    app: &AppId,
    deployment: &Deployment,
    answered: (&'static str, M),
    replaced: bool,
) -> Result<M> {
    let (rpc, answer) = answered;
    ctx.functions.deployments.put_into_use(app, deployment, (rpc, &answer)).await?;
    ctx.functions.published(ctx, app, replaced).await?;
    Ok(answer)
}

/// Goes back to the functions of an earlier version; that is a version of its own.
pub(super) async fn app_rollback(
    ctx: &Ctx,
    request: AppRollbackRequest,
) -> Result<AppRollbackResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let earlier = ctx.functions.deployments.resolve(&app, request.version).await?;
    let deployment = Deployment {
        deployed_at: clock::unique_now(),
        rollback_version: earlier.version,
        kind: DeploymentType::Rollback,
        ..earlier
    };
    let answer = AppRollbackResponse {
        url: ctx.url.clone(),
        deployed_at: deployment.deployed_at,
        ..AppRollbackResponse::default()
    };
    Ok(put_into_use(ctx, &app, &deployment, ("app_rollback", answer), false).await?)
}

/// Replaces all containers by new ones of the same definitions.
pub(super) async fn app_rollover(
    ctx: &Ctx,
    request: AppRolloverRequest,
) -> Result<AppRolloverResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let current = ctx.functions.deployments.current(&app).await?;
    let current =
        current.ok_or_else(|| Error::Precondition(format!("app `{app}` is not deployed")))?;
    let deployment = Deployment {
        deployed_at: clock::unique_now(),
        rollback_version: 0,
        kind: DeploymentType::Rollover,
        ..current
    };
    let answer = AppRolloverResponse {
        url: ctx.url.clone(),
        deployed_at: deployment.deployed_at,
        ..AppRolloverResponse::default()
    };
    Ok(put_into_use(ctx, &app, &deployment, ("app_rollover", answer), true).await?)
}

/// Puts a staged version into use; that is a version of its own, which refers back to the staged one.
pub(super) async fn app_promote(
    ctx: &Ctx,
    request: AppPromoteRequest,
) -> Result<AppPromoteResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get_running(&app).await?;
    let version = u32::try_from(request.version).unwrap_or_default();
    let staged = ctx.functions.deployments.promotable(&app, version).await?;
    let deployment = Deployment {
        deployed_at: clock::unique_now(),
        rollback_version: version,
        kind: DeploymentType::Promotion,
        ..staged
    };
    let answer = AppPromoteResponse {
        url: ctx.url.clone(),
        deployed_at: deployment.deployed_at,
        ..AppPromoteResponse::default()
    };
    Ok(put_into_use(ctx, &app, &deployment, ("app_promote", answer), false).await?)
}

pub(super) async fn app_deployment_history(
    ctx: &Ctx,
    request: AppDeploymentHistoryRequest,
) -> Result<AppDeploymentHistoryResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get(&app).await?;
    let history = ctx.functions.deployments.history(&app).await?;
    let in_force = history.iter().find(|it| it.kind != DeploymentType::Staged);
    let production_app_version = in_force.map_or(0, |it| it.version);
    let entry = |deployment: Deployment| AppDeploymentHistory {
        app_id: app.to_string(),
        version: deployment.version,
        client_version: deployment.client_version,
        deployed_at: deployment.deployed_at,
        deployed_by: super::workspace::NAME.to_owned(),
        tag: deployment.tag,
        rollback_version: deployment.rollback_version,
        rollback_allowed: deployment.kind != DeploymentType::Staged,
        deployment_type: deployment.kind.into(),
        commit_info: deployment.commit,
        ..AppDeploymentHistory::default()
    };
    Ok(AppDeploymentHistoryResponse {
        app_deployment_histories: history.into_iter().map(entry).collect(),
        production_app_version,
    })
}

pub(super) async fn app_get_layout(
    ctx: &Ctx,
    request: AppGetLayoutRequest,
) -> Result<AppGetLayoutResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get(&app).await?;
    let current = ctx.functions.deployments.current(&app).await?;
    let layout = current.map(|current| current.layout).unwrap_or_default();
    Ok(AppGetLayoutResponse { app_layout: Some(handle::app_layout(ctx, &layout).await?) })
}

pub(super) async fn app_get_info(
    ctx: &Ctx,
    request: AppGetInfoRequest,
) -> Result<AppGetInfoResponse, Status> {
    let app = id(&request.app_id)?;
    let mut info = describe(ctx, &ctx.apps.get(&app).await?).await?;
    let current = ctx.functions.deployments.current(&app).await?;
    let layout = current.map(|current| current.layout).unwrap_or_default();
    let mut summaries = std::collections::HashMap::new();
    for (function, definition) in &layout.definitions {
        let definition = DefinitionId::parse(definition).map_err(Error::from)?;
        let data = ctx.functions.records.definition(&definition).await?;
        let gpu = definition::first(&data)?.resources.as_ref().and_then(|it| it.gpu_config.clone());
        let webhook = data.webhook_config.as_ref();
        let server = data.http_config.as_ref().filter(|_| data.is_server);
        if server.is_some() {
            let its = info.functions.extract_if(|_, id| id == function);
            info.servers.extend(its.collect::<Vec<_>>());
        }
        let summary = FunctionInfoSummary {
            gpu_config: gpu.filter(|gpu| gpu.count > 0).into_iter().collect(),
            schedule: data.schedule,
            web_function: is_web(webhook),
            requires_proxy_auth: webhook
                .filter(|it| is_web(Some(it)))
                .map(|it| it.requires_proxy_auth)
                .or(server.map(|it| !it.unauthenticated)),
            is_sessioned: data.is_sessioned,
        };
        summaries.insert(function.clone(), summary);
    }
    Ok(AppGetInfoResponse { info: Some(info), function_info_summaries: summaries })
}

pub(super) async fn app_get_tags(
    ctx: &Ctx,
    request: AppGetTagsRequest,
) -> Result<AppGetTagsResponse, Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get(&app).await?;
    let tags = ctx.functions.deployments.tags(&app).await?;
    Ok(AppGetTagsResponse { tags: tags.into_iter().collect() })
}

pub(super) async fn app_set_tags(ctx: &Ctx, request: AppSetTagsRequest) -> Result<(), Status> {
    let app = id(&request.app_id)?;
    ctx.apps.get(&app).await?;
    let tags = request.tags.into_iter().collect();
    ctx.functions.deployments.set_tags(&app, &tags).await?;
    Ok(())
}
