//! RPCs of volumes.

use modal_proto::client::{
    VolumeCommitRequest, VolumeCommitResponse, VolumeCopyFiles2Request, VolumeCopyFilesRequest,
    VolumeDeleteRequest, VolumeGetByIdRequest, VolumeGetByIdResponse, VolumeGetFile2Request,
    VolumeGetFile2Response, VolumeGetOrCreateRequest, VolumeGetOrCreateResponse,
    VolumeHeartbeatRequest, VolumeListFiles2Request, VolumeListFiles2Response,
    VolumeListFilesRequest, VolumeListFilesResponse, VolumeListRequest, VolumeListResponse,
    VolumePutFiles2Request, VolumePutFiles2Response, VolumePutFilesRequest, VolumeReloadRequest,
    VolumeRemoveFile2Request, VolumeRemoveFileRequest, VolumeRenameRequest,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::service::{BoxStream, not_served};

pub(crate) async fn volume_commit(
    _ctx: &Ctx,
    _request: VolumeCommitRequest,
) -> Result<VolumeCommitResponse, Status> {
    Err(not_served("VolumeCommit"))
}

pub(crate) async fn volume_copy_files(
    _ctx: &Ctx,
    _request: VolumeCopyFilesRequest,
) -> Result<(), Status> {
    Err(not_served("VolumeCopyFiles"))
}

pub(crate) async fn volume_copy_files2(
    _ctx: &Ctx,
    _request: VolumeCopyFiles2Request,
) -> Result<(), Status> {
    Err(not_served("VolumeCopyFiles2"))
}

pub(crate) async fn volume_delete(_ctx: &Ctx, _request: VolumeDeleteRequest) -> Result<(), Status> {
    Err(not_served("VolumeDelete"))
}

pub(crate) async fn volume_get_by_id(
    _ctx: &Ctx,
    _request: VolumeGetByIdRequest,
) -> Result<VolumeGetByIdResponse, Status> {
    Err(not_served("VolumeGetById"))
}

pub(crate) async fn volume_get_file2(
    _ctx: &Ctx,
    _request: VolumeGetFile2Request,
) -> Result<VolumeGetFile2Response, Status> {
    Err(not_served("VolumeGetFile2"))
}

pub(crate) async fn volume_get_or_create(
    _ctx: &Ctx,
    _request: VolumeGetOrCreateRequest,
) -> Result<VolumeGetOrCreateResponse, Status> {
    Err(not_served("VolumeGetOrCreate"))
}

pub(crate) async fn volume_heartbeat(
    _ctx: &Ctx,
    _request: VolumeHeartbeatRequest,
) -> Result<(), Status> {
    Err(not_served("VolumeHeartbeat"))
}

pub(crate) async fn volume_list(
    _ctx: &Ctx,
    _request: VolumeListRequest,
) -> Result<VolumeListResponse, Status> {
    Err(not_served("VolumeList"))
}

pub(crate) async fn volume_list_files(
    _ctx: &Ctx,
    _request: VolumeListFilesRequest,
) -> Result<BoxStream<VolumeListFilesResponse>, Status> {
    Err(not_served("VolumeListFiles"))
}

pub(crate) async fn volume_list_files2(
    _ctx: &Ctx,
    _request: VolumeListFiles2Request,
) -> Result<BoxStream<VolumeListFiles2Response>, Status> {
    Err(not_served("VolumeListFiles2"))
}

pub(crate) async fn volume_put_files(
    _ctx: &Ctx,
    _request: VolumePutFilesRequest,
) -> Result<(), Status> {
    Err(not_served("VolumePutFiles"))
}

pub(crate) async fn volume_put_files2(
    _ctx: &Ctx,
    _request: VolumePutFiles2Request,
) -> Result<VolumePutFiles2Response, Status> {
    Err(not_served("VolumePutFiles2"))
}

pub(crate) async fn volume_reload(_ctx: &Ctx, _request: VolumeReloadRequest) -> Result<(), Status> {
    Err(not_served("VolumeReload"))
}

pub(crate) async fn volume_remove_file(
    _ctx: &Ctx,
    _request: VolumeRemoveFileRequest,
) -> Result<(), Status> {
    Err(not_served("VolumeRemoveFile"))
}

pub(crate) async fn volume_remove_file2(
    _ctx: &Ctx,
    _request: VolumeRemoveFile2Request,
) -> Result<(), Status> {
    Err(not_served("VolumeRemoveFile2"))
}

pub(crate) async fn volume_rename(_ctx: &Ctx, _request: VolumeRenameRequest) -> Result<(), Status> {
    Err(not_served("VolumeRename"))
}
