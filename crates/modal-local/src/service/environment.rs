//! RPCs of environments.

use modal_proto::client::environment_get_roles_response::Principal;
use modal_proto::client::{
    EnvironmentCreateRequest, EnvironmentDeleteRequest, EnvironmentGetOrCreateRequest,
    EnvironmentGetOrCreateResponse, EnvironmentGetRolesRequest, EnvironmentGetRolesResponse,
    EnvironmentListItem, EnvironmentListResponse, EnvironmentMetadata, EnvironmentRole,
    EnvironmentSettings, EnvironmentUpdateRequest, MemberRole, UserIdentity,
};
use tonic::Status;

use super::{app, workspace};
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, SecretId, VolumeId};
use crate::state::creation::{Creation, Page};
use crate::state::environments::{DEFAULT, Environment, Settings};

pub(crate) async fn environment_create(
    ctx: &Ctx,
    request: EnvironmentCreateRequest,
) -> Result<(), Status> {
    let settings = request.settings.map(settings_from).unwrap_or_default();
    ctx.environments.create(&request.name, settings).await?;
    Ok(())
}

pub(crate) async fn environment_get_or_create(
    ctx: &Ctx,
    request: EnvironmentGetOrCreateRequest,
    caller: &Caller,
) -> Result<EnvironmentGetOrCreateResponse, Status> {
    let name = request.deployment_name.as_str();
    let name = if name.is_empty() { DEFAULT } else { name };
    let creation = Creation::from_request(request.object_creation_type, name, "")?;
    let environment = ctx.environments.get_or_create(&creation).await?;
    let mut settings = environment.settings;
    settings.image_builder_version = caller.image_builder(settings.image_builder_version);
    Ok(EnvironmentGetOrCreateResponse {
        environment_id: environment.id,
        metadata: Some(EnvironmentMetadata {
            name: environment.name,
            settings: Some(settings_to(settings)),
            ..EnvironmentMetadata::default()
        }),
    })
}

pub(crate) async fn environment_list(ctx: &Ctx, (): ()) -> Result<EnvironmentListResponse, Status> {
    let environments = ctx.environments.list().await?;
    Ok(EnvironmentListResponse { items: environments.into_iter().map(item).collect() })
}

pub(crate) async fn environment_update(
    ctx: &Ctx,
    request: EnvironmentUpdateRequest,
) -> Result<EnvironmentListItem, Status> {
    let mut environment = ctx.environments.resolve(&request.current_name).await?;
    let current = environment.name.clone();
    let settings = &mut environment.settings;
    if let Some(suffix) = request.web_suffix {
        settings.webhook_suffix = suffix;
    }
    if let Some(version) = request.image_builder_version {
        settings.image_builder_version = version;
    }
    settings.max_concurrent_tasks = request.max_concurrent_tasks.or(settings.max_concurrent_tasks);
    settings.max_concurrent_gpus = request.max_concurrent_gpus.or(settings.max_concurrent_gpus);
    if let Some(name) = request.name {
        environment.name = name;
    }
    ctx.environments.update(&current, &environment).await?;
    Ok(item(environment))
}

/// The one user may do everything in each: nobody was ever given less, so there is no role but the workspace's.
pub(crate) async fn environment_get_roles(
    ctx: &Ctx,
    request: EnvironmentGetRolesRequest,
) -> Result<EnvironmentGetRolesResponse, Status> {
    let environments = ctx.environments.list().await?;
    let found = environments.into_iter().find(|it| it.id == request.environment_id);
    let environment =
        found.ok_or_else(|| Error::not_found("environment", &request.environment_id))?;
    let UserIdentity { user_id, username } = workspace::user();
    let owner = Principal {
        user_id,
        user_name: username,
        role: EnvironmentRole::Contributor.into(),
        role_str: "contributor".to_owned(),
        member_role: MemberRole::Owner.into(),
        ..Principal::default()
    };
    Ok(EnvironmentGetRolesResponse {
        name: environment.name,
        created_at: environment.created_at,
        principal_roles: vec![owner],
        ..EnvironmentGetRolesResponse::default()
    })
}

/// Everything in the environment goes with it: sandboxes, secrets, volumes.
pub(crate) async fn environment_delete(
    ctx: &Ctx,
    request: EnvironmentDeleteRequest,
) -> Result<(), Status> {
    let environment = ctx.environments.resolve(&request.name).await?;
    if environment.name == DEFAULT {
        return Err(Error::Precondition(format!("`{DEFAULT}` cannot be deleted")).into());
    }
    for app in ctx.apps.list(&environment).await? {
        app::stop(ctx, &AppId::parse(&app.app_id).map_err(Error::from)?).await?;
    }
    delete_contents(ctx, &environment).await?;
    ctx.environments.delete(&environment.id).await?;
    Ok(())
}

/// Removes what has files, page by page.
async fn delete_contents(ctx: &Ctx, environment: &Environment) -> Result<()> {
    let page = Page::from_request(None);
    loop {
        let secrets = ctx.secrets.list(environment, page).await?;
        let mut volumes = ctx.volumes.list(environment, page).await?;
        volumes.extend(ctx.volumes.network_file_systems(environment).await?);
        if secrets.is_empty() && volumes.is_empty() {
            return Ok(());
        }
        for secret in secrets {
            ctx.secrets.delete(&SecretId::parse(&secret.secret_id)?).await?;
        }
        for volume in volumes {
            ctx.volumes.delete(&VolumeId::parse(&volume.volume_id)?).await?;
        }
    }
}

fn item(environment: Environment) -> EnvironmentListItem {
    let Environment { id, name, settings, created_at } = environment;
    EnvironmentListItem {
        default: name == DEFAULT,
        name,
        webhook_suffix: settings.webhook_suffix,
        created_at,
        environment_id: id,
        max_concurrent_tasks: settings.max_concurrent_tasks,
        max_concurrent_gpus: settings.max_concurrent_gpus,
        image_builder_version: Some(settings.image_builder_version),
        ..EnvironmentListItem::default()
    }
}

fn settings_from(settings: EnvironmentSettings) -> Settings {
    Settings {
        image_builder_version: settings.image_builder_version,
        webhook_suffix: settings.webhook_suffix,
        max_concurrent_tasks: settings.max_concurrent_tasks,
        max_concurrent_gpus: settings.max_concurrent_gpus,
    }
}

fn settings_to(settings: Settings) -> EnvironmentSettings {
    EnvironmentSettings {
        image_builder_version: settings.image_builder_version,
        webhook_suffix: settings.webhook_suffix,
        max_concurrent_tasks: settings.max_concurrent_tasks,
        max_concurrent_gpus: settings.max_concurrent_gpus,
        ..EnvironmentSettings::default()
    }
}
