//! RPCs of environments.

use modal_proto::client::environment_get_roles_response::Principal;
use modal_proto::client::{
    EnvironmentCreateRequest, EnvironmentDeleteRequest, EnvironmentGetOrCreateRequest,
    EnvironmentGetOrCreateResponse, EnvironmentGetRolesRequest, EnvironmentGetRolesResponse,
    EnvironmentListItem, EnvironmentListResponse, EnvironmentMetadata, EnvironmentRole,
    EnvironmentRoleSetRequest, EnvironmentSettings, EnvironmentType, EnvironmentUpdateRequest,
    MemberRole, UserIdentity,
};
use tonic::Status;

use super::{app, workspace};
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::{AppId, SecretId, VolumeId};
use crate::state::creation::{Creation, Page};
use crate::state::environments::{Environment, FIRST, Settings};
use crate::state::workspace_settings::check_builder_version;

/// The roles there are, as the SDKs name them.
const ROLES: [(EnvironmentRole, &str); 3] = [
    (EnvironmentRole::Viewer, "viewer"),
    (EnvironmentRole::Contributor, "contributor"),
    (EnvironmentRole::NoAccess, "no-access"),
];

pub(crate) async fn environment_create(
    ctx: &Ctx,
    request: EnvironmentCreateRequest,
) -> Result<(), Status> {
    let default_role = default_role(&request)?;
    let settings = Settings {
        restricted: request.is_managed,
        public: request.environment_type() == EnvironmentType::Public,
        default_role,
        ..request.settings.map(settings_from).unwrap_or_default()
    };
    ctx.environments.create(&request.name, settings).await?;
    Ok(())
}

/// The role of members without one of their own; only a restricted environment has one.
fn default_role(request: &EnvironmentCreateRequest) -> Result<Option<i32>> {
    let said = match request.default_member_role_str.as_str() {
        "" => request.default_member_role,
        name => Some(role(name)?.into()),
    };
    if said.is_some() && !request.is_managed {
        let text = "Default member role can only be set for a Restricted environment.";
        return Err(Error::invalid(text));
    }
    Ok(said)
}

/// The role of this name; roles of a workspace's own making do not exist here.
fn role(name: &str) -> Result<EnvironmentRole> {
    let known = ROLES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role);
    known.ok_or_else(|| Error::invalid(format!("there is no environment role `{name}`")))
}

fn role_name(role: i32) -> &'static str {
    let is = |it: &&(EnvironmentRole, &'static str)| i32::from(it.0) == role;
    ROLES.iter().find(is).map_or("", |(_, name)| name)
}

pub(crate) async fn environment_get_or_create(
    ctx: &Ctx,
    request: EnvironmentGetOrCreateRequest,
    caller: &Caller,
) -> Result<EnvironmentGetOrCreateResponse, Status> {
    let name = match request.deployment_name.as_str() {
        "" => ctx.workspace.default_environment(),
        name => name.to_owned(),
    };
    let creation = Creation::from_request(request.object_creation_type, &name, "")?;
    let environment = ctx.environments.get_or_create(&creation).await?;
    let mut settings = environment.settings;
    settings.image_builder_version = caller.image_builder(settings.image_builder_version);
    Ok(EnvironmentGetOrCreateResponse {
        environment_id: environment.id,
        metadata: Some(EnvironmentMetadata {
            name: environment.name,
            environment_type: kind(&settings).into(),
            settings: Some(settings_to(settings)),
        }),
    })
}

pub(crate) async fn environment_list(ctx: &Ctx, (): ()) -> Result<EnvironmentListResponse, Status> {
    let environments = ctx.environments.list().await?;
    let item = |environment| item(ctx, environment);
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
        check_builder_version(&version)?;
        settings.image_builder_version = version;
    }
    settings.max_concurrent_tasks = request.max_concurrent_tasks.or(settings.max_concurrent_tasks);
    settings.max_concurrent_gpus = request.max_concurrent_gpus.or(settings.max_concurrent_gpus);
    if let Some(name) = request.name {
        environment.name = name;
    }
    ctx.environments.update(&current, &environment).await?;
    Ok(item(ctx, environment))
}

/// The one user owns the workspace and may do everything in each environment, whatever role is given to it.
pub(crate) async fn environment_get_roles(
    ctx: &Ctx,
    request: EnvironmentGetRolesRequest,
) -> Result<EnvironmentGetRolesResponse, Status> {
    let environment = ctx.environments.get(&request.environment_id).await?;
    let UserIdentity { user_id, username } = workspace::user();
    let given = environment.settings.user_role;
    let role = given.unwrap_or(EnvironmentRole::Contributor.into());
    let owner = Principal {
        user_id,
        user_name: username,
        role,
        role_str: role_name(role).to_owned(),
        choosable_roles: ROLES.map(|(role, _)| role.into()).into(),
        member_role: MemberRole::Owner.into(),
        has_role_assignment: Some(given.is_some()),
        ..Principal::default()
    };
    Ok(EnvironmentGetRolesResponse {
        name: environment.name,
        created_at: environment.created_at,
        principal_roles: vec![owner],
        default_member_role: environment.settings.default_role,
    })
}

/// Gives the one user a role, or with no role takes it away.
pub(crate) async fn environment_role_set(
    ctx: &Ctx,
    request: EnvironmentRoleSetRequest,
) -> Result<(), Status> {
    let mut environment = match request.environment_id.as_str() {
        "" => ctx.environments.resolve(&request.environment_name).await?,
        id => ctx.environments.get(id).await?,
    };
    let user = workspace::user().user_id;
    if request.user_id != user {
        let named = [&request.user_id, &request.service_user_id, &request.service_user_name];
        let name = named.into_iter().find(|it| !it.is_empty()).cloned().unwrap_or_default();
        return Err(Error::not_found("user", name).into());
    }
    let role = match request.role_str.as_str() {
        "" => Some(request.role).filter(|role| *role != 0),
        name => Some(role(name)?.into()),
    };
    environment.settings.user_role = role;
    let name = environment.name.clone();
    ctx.environments.update(&name, &environment).await?;
    Ok(())
}

/// Everything in the environment goes with it: sandboxes, secrets, volumes.
pub(crate) async fn environment_delete(
    ctx: &Ctx,
    request: EnvironmentDeleteRequest,
) -> Result<(), Status> {
    let environment = ctx.environments.resolve(&request.name).await?;
    if environment.name == FIRST || ctx.environments.is_default(&environment.name) {
        let text = format!("`{}` cannot be deleted", environment.name);
        return Err(Error::Precondition(text).into());
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

fn kind(settings: &Settings) -> EnvironmentType {
    if settings.public { EnvironmentType::Public } else { EnvironmentType::Unspecified }
}

fn item(ctx: &Ctx, environment: Environment) -> EnvironmentListItem {
    let Environment { id, name, settings, created_at } = environment;
    EnvironmentListItem {
        default: ctx.environments.is_default(&name),
        name,
        is_managed: settings.restricted,
        environment_type: kind(&settings).into(),
        default_member_role: settings.default_role,
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
        ..Settings::default()
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
