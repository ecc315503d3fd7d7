//! Images mounted in a sandbox, and images made of its directories.

use std::path::PathBuf;
use std::sync::Arc;

use modal_proto::task_command_router::{
    TaskMountDirectoryRequest, TaskSnapshotDirectoryRequest, TaskSnapshotDirectoryResponse,
    TaskUnmountDirectoryRequest,
};
use tonic::Status;

use crate::ctx::Ctx;
use crate::error::Error;
use crate::ids::ImageId;
use crate::sandbox::snapshot::expiry;
use crate::sandbox::{LiveSandbox, directory, mount_target};

pub(super) async fn mount(
    ctx: &Ctx,
    sandbox: Arc<LiveSandbox>,
    request: TaskMountDirectoryRequest,
) -> Result<(), Status> {
    refuse_key(request.customer_supplied_encryption_key.as_deref())?;
    let target = mount_target(text(&request.path)?)?;
    // The SDKs send no id for an image from scratch.
    let image = match request.image_id.as_str() {
        "" => None,
        id => Some(ImageId::parse(id).map_err(Error::from)?),
    };
    let _in_use = sandbox.activity.begin();
    Ok(sandbox.mount_image(ctx, target, image.as_ref()).await?)
}

pub(super) async fn unmount(
    sandbox: Arc<LiveSandbox>,
    request: TaskUnmountDirectoryRequest,
) -> Result<(), Status> {
    let target = mount_target(text(&request.path)?)?;
    let _in_use = sandbox.activity.begin();
    Ok(sandbox.unmount_image(&target).await?)
}

/// Goes on when the client goes away: it asks again for the same snapshot.
pub(super) async fn snapshot(
    ctx: Ctx,
    sandbox: Arc<LiveSandbox>,
    request: TaskSnapshotDirectoryRequest,
) -> Result<TaskSnapshotDirectoryResponse, Status> {
    refuse_key(request.customer_supplied_encryption_key.as_deref())?;
    let path: PathBuf = directory(text(&request.path)?)?;
    let expires_at = expiry(request.ttl_seconds);
    let taking = tokio::spawn(async move {
        sandbox.snapshot_directory(&ctx, &request.snapshot_id, &path, expires_at).await
    });
    let taken = taking.await.map_err(|_| Status::internal("the snapshot was not finished"))?;
    Ok(TaskSnapshotDirectoryResponse { image_id: taken?.to_string() })
}

fn text(path: &[u8]) -> Result<&str, Status> {
    std::str::from_utf8(path).map_err(|_| Status::invalid_argument("a path must be UTF-8"))
}

/// What Modal offers beyond: named instead of left out.
fn refuse_key(key: Option<&[u8]>) -> Result<(), Status> {
    if key.is_some_and(|key| !key.is_empty()) {
        return Err(Status::invalid_argument(
            "the local server encrypts no snapshots with a client's key",
        ));
    }
    Ok(())
}
