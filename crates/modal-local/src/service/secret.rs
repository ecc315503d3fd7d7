//! RPCs of secrets. Values come in here and never go out: answers have key names only.

use std::collections::BTreeMap;

use modal_proto::client::{
    SecretDeleteRequest, SecretGetInfoRequest, SecretGetInfoResponse, SecretGetOrCreateRequest,
    SecretGetOrCreateResponse, SecretListItem, SecretListRequest, SecretListResponse,
    SecretMetadata, SecretUpdateRequest,
};
use secret_string::SecretString;
use tonic::Status;

use super::workspace::created;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::SecretId;
use crate::state::creation::{Creation, Page};
use crate::state::secrets::SecretRecord;

pub(crate) async fn secret_get_or_create(
    ctx: &Ctx,
    request: SecretGetOrCreateRequest,
) -> Result<SecretGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation = Creation::from_request(
        request.object_creation_type,
        &request.deployment_name,
        &request.app_id,
    )?;
    let variables =
        request.env_dict.into_iter().map(|(key, value)| (key, SecretString::from(value))).collect();
    let answer = |record: &SecretRecord| SecretGetOrCreateResponse {
        secret_id: record.secret_id.clone(),
        metadata: Some(metadata(record.clone(), environment.name.clone())),
    };
    let required = &request.required_keys;
    let record =
        ctx.secrets.get_or_create(&environment, &creation, variables, required, answer).await?;
    Ok(answer(&record))
}

pub(crate) async fn secret_get_info(
    ctx: &Ctx,
    request: SecretGetInfoRequest,
) -> Result<SecretGetInfoResponse, Status> {
    let record = ctx.secrets.get(&id(&request.secret_id)?).await?;
    let environment = ctx.environments.name_of(&record.environment_id).await?;
    Ok(SecretGetInfoResponse { metadata: Some(metadata(record, environment)) })
}

pub(crate) async fn secret_list(
    ctx: &Ctx,
    request: SecretListRequest,
) -> Result<SecretListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let page = Page::from_request(request.pagination);
    let records = ctx.secrets.list(&environment, page).await?;
    let item = |record: SecretRecord| SecretListItem {
        label: record.name.clone().unwrap_or_default(),
        created_at: record.created_at,
        last_used_at: record.last_used_at.unwrap_or_default(),
        environment_name: environment.name.clone(),
        secret_id: record.secret_id.clone(),
        metadata: Some(metadata(record, environment.name.clone())),
    };
    let items = records.into_iter().map(item).collect();
    Ok(SecretListResponse { items, environment_name: environment.name.clone() })
}

pub(crate) async fn secret_update(ctx: &Ctx, request: SecretUpdateRequest) -> Result<(), Status> {
    let changes: BTreeMap<String, Option<SecretString>> = request
        .updates
        .into_iter()
        .map(|update| (update.key, update.value.map(SecretString::from)))
        .collect();
    ctx.secrets.update(&id(&request.secret_id)?, changes).await?;
    Ok(())
}

pub(crate) async fn secret_delete(ctx: &Ctx, request: SecretDeleteRequest) -> Result<(), Status> {
    ctx.secrets.delete(&id(&request.secret_id)?).await?;
    Ok(())
}

fn id(text: &str) -> Result<SecretId> {
    SecretId::parse(text).map_err(Error::from)
}

fn metadata(record: SecretRecord, environment_name: String) -> SecretMetadata {
    SecretMetadata {
        keys: record.keys(),
        name: record.name.unwrap_or_default(),
        creation_info: Some(created(record.created_at)),
        environment_name,
        last_used_at: record.last_used_at.unwrap_or_default(),
        ..SecretMetadata::default()
    }
}
