//! RPCs of apps.

use std::time::Duration;

use modal_proto::client::{
    AppClientDisconnectRequest, AppCreateRequest, AppCreateResponse, AppDisconnectReason,
    AppGetByDeploymentNameRequest, AppGetByDeploymentNameResponse, AppGetLifecycleRequest,
    AppGetLifecycleResponse, AppGetOrCreateRequest, AppGetOrCreateResponse, AppHandleMetadata,
    AppHeartbeatRequest, AppLifecycle, AppListRequest, AppListResponse, AppState, AppStopRequest,
    app_list_response,
};
use tonic::Status;

use super::workspace;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::AppId;
use crate::state::apps::AppRecord;
use crate::state::creation::Creation;

/// How often it is looked whether a detached app has anything left to do.
const DONE_CHECK: Duration = Duration::from_millis(500);

/// For how long `AppList` shows stopped apps.
const STOPPED_SHOWN: f64 = 86_400.0;

pub(crate) async fn app_get_or_create(
    ctx: &Ctx,
    request: AppGetOrCreateRequest,
) -> Result<AppGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation = Creation::from_request(request.object_creation_type, &request.app_name, "")?;
    let app = ctx.apps.get_or_create(&environment, &creation).await?;
    let metadata = describe(ctx, &app).await?;
    Ok(AppGetOrCreateResponse { app_id: app.app_id, handle_metadata: Some(metadata) })
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
    let answer = |app: &AppId| AppCreateResponse {
        app_id: app.to_string(),
        app_page_url: ctx.url.clone(),
        ..AppCreateResponse::default()
    };
    let app = ctx.apps.create(&environment, &request.description, state, answer).await?;
    let app = id(&app.app_id)?;
    let tags = request.tags.into_iter().collect();
    ctx.functions.deployments.set_tags(&app, &tags).await?;
    Ok(answer(&app))
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
    let lifecycle = match app.as_ref().or(previous.as_ref()) {
        Some(app) => Some(lifecycle(ctx, app).await?),
        None => None,
    };
    let id = |app: Option<AppRecord>| app.map(|app| app.app_id).unwrap_or_default();
    Ok(AppGetByDeploymentNameResponse {
        app_id: id(app),
        previous_app_id: id(previous),
        environment_name: environment.name,
        lifecycle,
    })
}

/// How far an app is, by its id.
pub(crate) async fn lifecycle_of(ctx: &Ctx, app: &AppId) -> Result<AppLifecycle> {
    lifecycle(ctx, &ctx.apps.get(app).await?).await
}

pub(crate) async fn app_get_lifecycle(
    ctx: &Ctx,
    request: AppGetLifecycleRequest,
) -> Result<AppGetLifecycleResponse, Status> {
    let app = ctx.apps.get(&id(&request.app_id)?).await?;
    Ok(AppGetLifecycleResponse { lifecycle: Some(lifecycle(ctx, &app).await?) })
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
        let own = id(&app.app_id)?;
        let tasks = ctx.sandboxes.running_in(&own) + ctx.functions.running_in(&own);
        apps.push(app_list_response::AppListItem {
            app_id: app.app_id.clone(),
            description: app.description.clone(),
            state: app.state() as i32,
            created_at: app.created_at,
            stopped_at: app.stopped_at.unwrap_or_default(),
            n_running_tasks: i32::try_from(tasks).unwrap_or(i32::MAX),
            name: app.name.clone().unwrap_or_default(),
            metadata: Some(describe(ctx, &app).await?),
        });
    }
    Ok(AppListResponse { apps })
}

pub(crate) async fn app_heartbeat(ctx: &Ctx, request: AppHeartbeatRequest) -> Result<(), Status> {
    ctx.apps.heartbeat(&id(&request.app_id)?).await?;
    Ok(())
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
    match app.state() {
        AppState::Ephemeral | AppState::Initializing => stop(ctx, &id).await?,
        AppState::Detached if request.reason() == AppDisconnectReason::EntrypointCompleted => {
            stop_when_done(ctx, id).await?;
        }
        _ => {}
    }
    Ok(())
}

/// A detached app whose client has done all it came for goes on until its last input has ended. One whose client went
/// away for another reason is stopped by whoever wants it stopped.
async fn stop_when_done(ctx: &Ctx, id: AppId) -> Result<()> {
    let is_busy =
        |ctx: &Ctx, id: &AppId| ctx.functions.is_busy_in(id) || ctx.sandboxes.running_in(id) > 0;
    if !is_busy(ctx, &id) {
        return stop(ctx, &id).await;
    }
    let ctx = ctx.clone();
    tokio::spawn(async move {
        while is_busy(&ctx, &id) {
            tokio::time::sleep(DONE_CHECK).await;
        }
        if let Err(error) = stop(&ctx, &id).await {
            tracing::warn!(%error, app = %id, "a detached app that is done was not stopped");
        }
    });
    Ok(())
}

/// Ends an app, its sandboxes and its functions.
pub(crate) async fn stop(ctx: &Ctx, id: &AppId) -> Result<()> {
    if ctx.apps.mark_stopped(id).await? {
        tokio::join!(ctx.sandboxes.terminate_app(id), ctx.functions.stop_app(ctx, id));
        ctx.logs.flush().await;
    }
    Ok(())
}

pub(super) fn id(text: &str) -> Result<AppId> {
    AppId::parse(text).map_err(Error::from)
}

/// What clients are told of an app.
pub(super) async fn describe(ctx: &Ctx, app: &AppRecord) -> Result<AppHandleMetadata> {
    let current = ctx.functions.deployments.current(&id(&app.app_id)?).await?;
    let functions = current.map(|current| current.layout.functions).unwrap_or_default();
    Ok(AppHandleMetadata {
        description: app.description.clone(),
        app_id: app.app_id.clone(),
        environment_name: ctx.environments.name_of(&app.environment_id).await?,
        lifecycle: Some(lifecycle(ctx, app).await?),
        functions: functions.into_iter().collect(),
        ..AppHandleMetadata::default()
    })
}

async fn lifecycle(ctx: &Ctx, app: &AppRecord) -> Result<AppLifecycle> {
    let current = ctx.functions.deployments.current(&id(&app.app_id)?).await?;
    // An app of sandboxes was never published and is there all the same.
    let version = match current {
        Some(current) => i32::try_from(current.version).unwrap_or(i32::MAX),
        None => i32::from(app.deployed_at.is_some()),
    };
    Ok(AppLifecycle {
        app_state: app.state() as i32,
        created_at: app.created_at,
        deployed_at: app.deployed_at.unwrap_or_default(),
        version,
        stopped_at: app.stopped_at.unwrap_or_default(),
        created_by: workspace::NAME.to_owned(),
        deployed_by: by_user(app.deployed_at),
        stopped_by: by_user(app.stopped_at),
    })
}

/// Who did what happened at a time, if it happened: there is one user.
fn by_user(at: Option<f64>) -> String {
    at.map(|_| workspace::NAME.to_owned()).unwrap_or_default()
}
