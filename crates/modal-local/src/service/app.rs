//! RPCs of apps.

use modal_proto::client::{
    AppClientDisconnectRequest, AppCreateRequest, AppCreateResponse, AppGetByDeploymentNameRequest,
    AppGetByDeploymentNameResponse, AppGetLifecycleRequest, AppGetLifecycleResponse,
    AppGetOrCreateRequest, AppGetOrCreateResponse, AppHandleMetadata, AppHeartbeatRequest,
    AppLifecycle, AppListRequest, AppListResponse, AppPublishRequest, AppPublishResponse, AppState,
    AppStopRequest, app_list_response,
};
use tonic::Status;

use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::AppId;
use crate::state::apps::AppRecord;
use crate::state::creation::Creation;

/// For how long `AppList` shows stopped apps.
const STOPPED_SHOWN: f64 = 86_400.0;

pub(crate) async fn app_get_or_create(
    ctx: &Ctx,
    request: AppGetOrCreateRequest,
) -> Result<AppGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation = Creation::from_request(request.object_creation_type, &request.app_name, "")?;
    let app = ctx.apps.get_or_create(&environment, &creation).await?;
    Ok(AppGetOrCreateResponse {
        app_id: app.app_id.clone(),
        handle_metadata: Some(metadata(&app, environment.name)),
    })
}

pub(crate) async fn app_create(
    ctx: &Ctx,
    request: AppCreateRequest,
) -> Result<AppCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let state = match request.app_state() {
        AppState::Unspecified => AppState::Ephemeral,
        state @ (AppState::Ephemeral | AppState::Detached | AppState::Initializing) => state,
        other => {
            let name = other.as_str_name();
            return Err(Error::invalid(format!("an app cannot be created as {name}")).into());
        }
    };
    let app = ctx.apps.create(&environment, &request.description, state).await?;
    Ok(AppCreateResponse { app_id: app.app_id, ..AppCreateResponse::default() })
}

pub(crate) async fn app_get_by_deployment_name(
    ctx: &Ctx,
    request: AppGetByDeploymentNameRequest,
) -> Result<AppGetByDeploymentNameResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let running = ctx.apps.find(&environment, &request.name).await?;
    let (app, previous) = match running {
        Some(app) => (Some(app), None),
        None => (None, ctx.apps.find_stopped(&environment, &request.name).await?),
    };
    let lifecycle = app.as_ref().or(previous.as_ref()).map(lifecycle);
    let id = |app: Option<AppRecord>| app.map(|app| app.app_id).unwrap_or_default();
    Ok(AppGetByDeploymentNameResponse {
        app_id: id(app),
        previous_app_id: id(previous),
        environment_name: environment.name,
        lifecycle,
    })
}

pub(crate) async fn app_get_lifecycle(
    ctx: &Ctx,
    request: AppGetLifecycleRequest,
) -> Result<AppGetLifecycleResponse, Status> {
    let app = ctx.apps.get(&id(&request.app_id)?).await?;
    Ok(AppGetLifecycleResponse { lifecycle: Some(lifecycle(&app)) })
}

pub(crate) async fn app_list(
    ctx: &Ctx,
    request: AppListRequest,
) -> Result<AppListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let shown_from = clock::now() - STOPPED_SHOWN;
    let mut apps = Vec::new();
    for app in ctx.apps.list(&environment).await? {
        if app.stopped_at.is_some_and(|stopped| stopped < shown_from) {
            continue;
        }
        let tasks = ctx.sandboxes.running_in(&id(&app.app_id)?);
        apps.push(app_list_response::AppListItem {
            app_id: app.app_id.clone(),
            description: app.description.clone(),
            state: app.state() as i32,
            created_at: app.created_at,
            stopped_at: app.stopped_at.unwrap_or_default(),
            n_running_tasks: i32::try_from(tasks).unwrap_or(i32::MAX),
            name: app.name.clone().unwrap_or_default(),
            metadata: Some(metadata(&app, environment.name.clone())),
        });
    }
    Ok(AppListResponse { apps })
}

pub(crate) async fn app_heartbeat(ctx: &Ctx, request: AppHeartbeatRequest) -> Result<(), Status> {
    ctx.apps.heartbeat(&id(&request.app_id)?).await?;
    Ok(())
}

/// A run has all its objects: the client says so once, before its code goes on. What would need a
/// program of ours to be called later is refused.
pub(crate) async fn app_publish(
    ctx: &Ctx,
    request: AppPublishRequest,
) -> Result<AppPublishResponse, Status> {
    let id = id(&request.app_id)?;
    if !request.function_ids.is_empty() || !request.class_ids.is_empty() {
        return Err(Error::invalid("apps of the local server have no functions and classes").into());
    }
    let state = match request.app_state() {
        state @ (AppState::Ephemeral | AppState::Detached) => state,
        other => {
            let name = other.as_str_name();
            let text = format!("the local server publishes no app as {name}: look it up instead");
            return Err(Error::invalid(text).into());
        }
    };
    ctx.apps.publish(&id, state).await?;
    Ok(AppPublishResponse { deployed_at: clock::now(), ..AppPublishResponse::default() })
}

pub(crate) async fn app_stop(ctx: &Ctx, request: AppStopRequest) -> Result<(), Status> {
    let id = id(&request.app_id)?;
    ctx.apps.get(&id).await?;
    stop(ctx, &id).await?;
    Ok(())
}

/// Stops apps that live by their client; others go on without it.
pub(crate) async fn app_client_disconnect(
    ctx: &Ctx,
    request: AppClientDisconnectRequest,
) -> Result<(), Status> {
    let id = id(&request.app_id)?;
    let app = ctx.apps.get(&id).await?;
    if matches!(app.state(), AppState::Ephemeral | AppState::Initializing) {
        stop(ctx, &id).await?;
    }
    Ok(())
}

/// Ends an app and its sandboxes.
pub(crate) async fn stop(ctx: &Ctx, id: &AppId) -> Result<()> {
    if ctx.apps.mark_stopped(id).await? {
        ctx.sandboxes.terminate_app(id).await;
        ctx.logs.flush().await;
    }
    Ok(())
}

fn id(text: &str) -> Result<AppId> {
    AppId::parse(text).map_err(Error::from)
}

fn metadata(app: &AppRecord, environment_name: String) -> AppHandleMetadata {
    AppHandleMetadata {
        description: app.description.clone(),
        app_id: app.app_id.clone(),
        environment_name,
        lifecycle: Some(lifecycle(app)),
        ..AppHandleMetadata::default()
    }
}

fn lifecycle(app: &AppRecord) -> AppLifecycle {
    AppLifecycle {
        app_state: app.state() as i32,
        created_at: app.created_at,
        deployed_at: app.deployed_at.unwrap_or_default(),
        version: i32::from(app.deployed_at.is_some()),
        stopped_at: app.stopped_at.unwrap_or_default(),
        ..AppLifecycle::default()
    }
}
