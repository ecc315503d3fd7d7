//! RPCs of dicts. Keys and values are opaque here: the SDK has serialized them.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use modal_proto::client::dict_list_response::DictInfo;
use modal_proto::client::{
    DictClearRequest, DictContainsRequest, DictContainsResponse, DictContentsRequest,
    DictDeleteRequest, DictEntry, DictGetByIdRequest, DictGetByIdResponse, DictGetOrCreateRequest,
    DictGetOrCreateResponse, DictGetRequest, DictGetResponse, DictHeartbeatRequest, DictLenRequest,
    DictLenResponse, DictListRequest, DictListResponse, DictMetadata, DictPopRequest,
    DictPopResponse, DictUpdateRequest, DictUpdateResponse,
};
use tonic::Status;

use super::BoxStream;
use super::workspace::created;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::DictId;
use crate::state::collections::Collection;
use crate::state::collections::dicts::Entry;
use crate::state::creation::{Creation, Page};

pub(super) async fn dict_get_or_create(
    ctx: &Ctx,
    request: DictGetOrCreateRequest,
) -> Result<DictGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation =
        Creation::from_request(request.object_creation_type, &request.deployment_name, "")?;
    let answer = |dict: &Collection| DictGetOrCreateResponse {
        dict_id: dict.collection_id.clone(),
        metadata: Some(metadata(dict.clone())),
    };
    let entries = entries(request.data);
    let dict = ctx.dict_objects.get_or_create(&environment, &creation, &entries, answer).await?;
    Ok(answer(&dict))
}

pub(super) async fn dict_get_by_id(
    ctx: &Ctx,
    request: DictGetByIdRequest,
) -> Result<DictGetByIdResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    let record = ctx.dict_objects.get(dict.as_str()).await?;
    Ok(DictGetByIdResponse { dict_id: dict.to_string(), metadata: Some(metadata(record)) })
}

pub(super) async fn dict_list(
    ctx: &Ctx,
    request: DictListRequest,
) -> Result<DictListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let page = Page::from_request(request.pagination);
    let item = |dict: Collection| DictInfo {
        name: dict.name.clone().unwrap_or_default(),
        created_at: dict.created_at,
        dict_id: dict.collection_id.clone(),
        metadata: Some(metadata(dict)),
    };
    let dicts = ctx.dict_objects.list(&environment, page).await?.into_iter().map(item).collect();
    Ok(DictListResponse { dicts, environment_name: environment.name })
}

pub(super) async fn dict_delete(ctx: &Ctx, request: DictDeleteRequest) -> Result<(), Status> {
    Ok(ctx.dict_objects.delete(id(&request.dict_id)?.as_str()).await?)
}

pub(super) async fn dict_heartbeat(ctx: &Ctx, request: DictHeartbeatRequest) -> Result<(), Status> {
    Ok(ctx.dict_objects.heartbeat(id(&request.dict_id)?.as_str()).await?)
}

pub(super) async fn dict_update(
    ctx: &Ctx,
    request: DictUpdateRequest,
) -> Result<DictUpdateResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    let written = ctx.dicts.update(&dict, &entries(request.updates), request.if_not_exists).await?;
    Ok(DictUpdateResponse { created: written })
}

pub(super) async fn dict_get(
    ctx: &Ctx,
    request: DictGetRequest,
) -> Result<DictGetResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    let value = ctx.dicts.get(&dict, &request.key).await?;
    Ok(DictGetResponse { found: value.is_some(), value })
}

pub(super) async fn dict_pop(
    ctx: &Ctx,
    request: DictPopRequest,
) -> Result<DictPopResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    let value = ctx.dicts.pop(&dict, &request.key).await?;
    Ok(DictPopResponse { found: value.is_some(), value })
}

pub(super) async fn dict_contains(
    ctx: &Ctx,
    request: DictContainsRequest,
) -> Result<DictContainsResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    Ok(DictContainsResponse { found: ctx.dicts.contains(&dict, &request.key).await? })
}

pub(super) async fn dict_len(
    ctx: &Ctx,
    request: DictLenRequest,
) -> Result<DictLenResponse, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    Ok(DictLenResponse { len: ctx.dicts.len(&dict).await? })
}

pub(super) async fn dict_clear(ctx: &Ctx, request: DictClearRequest) -> Result<(), Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    Ok(ctx.dicts.clear(&dict).await?)
}

/// The keys are those of the beginning; values are read as they are sent, so that a slow reader
/// holds neither memory nor the database. What is removed meanwhile is left out.
pub(super) async fn dict_contents(
    ctx: &Ctx,
    request: DictContentsRequest,
) -> Result<BoxStream<DictEntry>, Status> {
    let dict = existing(ctx, &request.dict_id).await?;
    let keys = ctx.dicts.keys(&dict).await?;
    let (ctx, with_keys, with_values) = (ctx.clone(), request.keys, request.values);
    let entry = move |key: Vec<u8>| {
        let (ctx, dict) = (ctx.clone(), dict.clone());
        async move {
            let value = match with_values {
                true => match ctx.dicts.get(&dict, &key).await? {
                    Some(value) => value,
                    None => return Ok(None),
                },
                false => Vec::new(),
            };
            Ok(Some(DictEntry { key: if with_keys { key } else { Vec::new() }, value }))
        }
    };
    let entries = stream::iter(keys).then(entry);
    Ok(entries.try_filter_map(|entry| async move { Ok(entry) }).boxed())
}

fn entries(entries: Vec<DictEntry>) -> Vec<Entry> {
    entries.into_iter().map(|it| Entry { key: it.key, value: it.value }).collect()
}

fn id(text: &str) -> Result<DictId> {
    DictId::parse(text).map_err(Error::from)
}

async fn existing(ctx: &Ctx, text: &str) -> Result<DictId> {
    let id = id(text)?;
    ctx.dict_objects.get(id.as_str()).await.map(|_| id)
}

fn metadata(dict: Collection) -> DictMetadata {
    DictMetadata {
        name: dict.name.unwrap_or_default(),
        creation_info: Some(created(dict.created_at)),
    }
}
