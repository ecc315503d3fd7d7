//! Images of a sandbox's file system.

use std::time::Duration;

use modal_proto::client::generic_result::GenericStatus;
use modal_proto::client::sandbox_get_exit_snapshot_response::{
    Error as Failure, ErrorCode, Outcome, Pending, Success,
};
use modal_proto::client::{
    GenericResult, SandboxGetExitSnapshotRequest, SandboxGetExitSnapshotResponse,
    SandboxSnapshotFsAsyncGetRequest, SandboxSnapshotFsAsyncRequest,
    SandboxSnapshotFsAsyncResponse, SandboxSnapshotFsRequest, SandboxSnapshotFsResponse,
};
use tonic::Status;

use super::record;
use crate::caller::Caller;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::{ImageId, SandboxId, random_suffix};
use crate::image::SnapshotKind;
use crate::sandbox::ExitSnapshot;
use crate::sandbox::snapshot::{expiry, taken};

/// No poll is held longer; the SDKs ask for 10 seconds and then again.
const LONGEST_POLL: Duration = Duration::from_secs(60);

pub(crate) async fn sandbox_snapshot_fs(
    ctx: &Ctx,
    request: SandboxSnapshotFsRequest,
    caller: &Caller,
) -> Result<SandboxSnapshotFsResponse, Status> {
    let image = take(ctx, &request.sandbox_id, caller).await?;
    answer(ctx, &image).await
}

/// Answers when the snapshot is taken: that takes no longer than the copy of what was changed.
pub(crate) async fn sandbox_snapshot_fs_async(
    ctx: &Ctx,
    request: SandboxSnapshotFsAsyncRequest,
    caller: &Caller,
) -> Result<SandboxSnapshotFsAsyncResponse, Status> {
    let image_id = take(ctx, &request.sandbox_id, caller).await?.to_string();
    Ok(SandboxSnapshotFsAsyncResponse { image_id })
}

pub(crate) async fn sandbox_snapshot_fs_async_get(
    ctx: &Ctx,
    request: SandboxSnapshotFsAsyncGetRequest,
) -> Result<SandboxSnapshotFsResponse, Status> {
    let image = ImageId::parse(&request.image_id).map_err(Error::from)?;
    answer(ctx, &image).await
}

/// All attempts of one call get the same snapshot.
async fn take(ctx: &Ctx, sandbox_id: &str, caller: &Caller) -> Result<ImageId, Status> {
    record(ctx, sandbox_id).await?;
    let id = SandboxId::parse(sandbox_id).map_err(Error::from)?;
    let key = caller.idempotency_key.clone().unwrap_or_else(random_suffix);
    match ctx.sandboxes.find(&id) {
        Some(sandbox) => Ok(sandbox.snapshot(ctx, &key, expiry(None)).await?),
        None => taken(ctx, &id, SnapshotKind::Filesystem, &key)
            .await?
            .ok_or_else(|| Status::failed_precondition(format!("sandbox `{id}` has ended"))),
    }
}

async fn answer(ctx: &Ctx, image: &ImageId) -> Result<SandboxSnapshotFsResponse, Status> {
    let view = ctx.images.get(ctx, image).await?;
    Ok(SandboxSnapshotFsResponse {
        image_id: image.to_string(),
        result: Some(GenericResult {
            status: GenericStatus::Success.into(),
            ..GenericResult::default()
        }),
        image_metadata: Some(view.metadata),
    })
}

/// A long poll for the image that a sandbox leaves when it ends.
pub(crate) async fn sandbox_get_exit_snapshot(
    ctx: &Ctx,
    request: SandboxGetExitSnapshotRequest,
) -> Result<SandboxGetExitSnapshotResponse, Status> {
    record(ctx, &request.sandbox_id).await?;
    let id = SandboxId::parse(&request.sandbox_id).map_err(Error::from)?;
    if let Some(sandbox) = ctx.sandboxes.find(&id) {
        let limit = Duration::try_from_secs_f32(request.timeout).unwrap_or_default();
        // The snapshot is settled before the sandbox's end is told.
        let _ = sandbox.ended_within(limit.min(LONGEST_POLL)).await;
    }
    let outcome = match ctx.sandboxes.exit_snapshots.get(&id).await? {
        Some(ExitSnapshot::Pending) => Outcome::Pending(Pending {}),
        Some(ExitSnapshot::Taken(image_id)) => Outcome::Success(Success { image_id }),
        Some(ExitSnapshot::Failed(message)) => {
            Outcome::Error(Failure { error_code: ErrorCode::Internal.into(), message })
        }
        None => {
            return Err(Status::invalid_argument(format!(
                "sandbox `{id}` was made without the option `enable_exit_snapshot`"
            )));
        }
    };
    Ok(SandboxGetExitSnapshotResponse { outcome: Some(outcome) })
}

pub(crate) async fn sandbox_get_exit_snapshot_v2(
    ctx: &Ctx,
    request: SandboxGetExitSnapshotRequest,
) -> Result<SandboxGetExitSnapshotResponse, Status> {
    sandbox_get_exit_snapshot(ctx, request).await
}
