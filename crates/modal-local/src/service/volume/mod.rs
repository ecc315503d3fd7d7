//! RPCs of volumes. Versions 1 and 2 differ in how files come in; both are plain directories here.

mod files;
mod transfer;

use modal_proto::client::{
    VolumeCommitRequest, VolumeCommitResponse, VolumeDeleteRequest, VolumeGetByIdRequest,
    VolumeGetByIdResponse, VolumeGetOrCreateRequest, VolumeGetOrCreateResponse,
    VolumeHeartbeatRequest, VolumeListItem, VolumeListRequest, VolumeListResponse, VolumeMetadata,
    VolumeReloadRequest, VolumeRenameRequest,
};
use tonic::Status;

pub(super) use self::files::{
    file_entry, volume_copy_files, volume_copy_files2, volume_list_files, volume_list_files2,
    volume_remove_file, volume_remove_file2,
};
pub(super) use self::transfer::{
    volume_get_file, volume_get_file2, volume_put_files, volume_put_files2,
};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::VolumeId;
use crate::service::workspace::created;
use crate::state::creation::{Creation, Page};
use crate::state::volumes::{Kind, VolumeRecord};

pub(super) async fn volume_get_or_create(
    ctx: &Ctx,
    request: VolumeGetOrCreateRequest,
) -> Result<VolumeGetOrCreateResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let creation = Creation::from_request(
        request.object_creation_type,
        &request.deployment_name,
        &request.app_id,
    )?;
    let answer = |record: &VolumeRecord| VolumeGetOrCreateResponse {
        volume_id: record.volume_id.clone(),
        version: record.version,
        metadata: Some(metadata(record.clone())),
    };
    let (volumes, kind) = (&ctx.volumes, Kind::Volume(request.version()));
    let record = volumes.get_or_create(&environment, &creation, kind, answer).await?;
    if record.is_network_file_system() {
        return Err(wrong_kind("sv"));
    }
    Ok(answer(&record))
}

pub(super) async fn volume_get_by_id(
    ctx: &Ctx,
    request: VolumeGetByIdRequest,
) -> Result<VolumeGetByIdResponse, Status> {
    let record = ctx.volumes.get(&id(&request.volume_id)?).await?;
    Ok(VolumeGetByIdResponse {
        volume_id: record.volume_id.clone(),
        metadata: Some(metadata(record)),
    })
}

pub(super) async fn volume_list(
    ctx: &Ctx,
    request: VolumeListRequest,
) -> Result<VolumeListResponse, Status> {
    let environment = ctx.environments.resolve(&request.environment_name).await?;
    let records = ctx.volumes.list(&environment, Page::from_request(request.pagination)).await?;
    let item = |record: VolumeRecord| VolumeListItem {
        label: record.name.clone().unwrap_or_default(),
        volume_id: record.volume_id.clone(),
        created_at: record.created_at,
        metadata: Some(metadata(record)),
    };
    let items = records.into_iter().map(item).collect();
    Ok(VolumeListResponse { items, environment_name: environment.name })
}

pub(super) async fn volume_rename(ctx: &Ctx, request: VolumeRenameRequest) -> Result<(), Status> {
    ctx.volumes.rename(&id(&request.volume_id)?, &request.name).await?;
    Ok(())
}

pub(super) async fn volume_delete(ctx: &Ctx, request: VolumeDeleteRequest) -> Result<(), Status> {
    ctx.volumes.delete(&id(&request.volume_id)?).await?;
    Ok(())
}

pub(super) async fn volume_heartbeat(
    ctx: &Ctx,
    request: VolumeHeartbeatRequest,
) -> Result<(), Status> {
    ctx.volumes.heartbeat(&id(&request.volume_id)?).await?;
    Ok(())
}

/// Nothing to do: what is written to a volume here is in it, for everybody, at once.
pub(super) async fn volume_commit(
    ctx: &Ctx,
    request: VolumeCommitRequest,
) -> Result<VolumeCommitResponse, Status> {
    ctx.volumes.get(&id(&request.volume_id)?).await?;
    Ok(VolumeCommitResponse { skip_reload: true })
}

/// Nothing to do, as for a commit.
pub(super) async fn volume_reload(ctx: &Ctx, request: VolumeReloadRequest) -> Result<(), Status> {
    ctx.volumes.get(&id(&request.volume_id)?).await?;
    Ok(())
}

/// There is something else of that name; the Python SDK knows these words.
pub(in crate::service) fn wrong_kind(prefix: &str) -> Status {
    Status::not_found(format!("App has wrong entity {prefix}"))
}

fn id(text: &str) -> Result<VolumeId> {
    VolumeId::parse(text).map_err(Error::from)
}

pub(crate) fn metadata(record: VolumeRecord) -> VolumeMetadata {
    VolumeMetadata {
        version: record.version,
        name: record.name.unwrap_or_default(),
        creation_info: Some(created(record.created_at)),
    }
}
