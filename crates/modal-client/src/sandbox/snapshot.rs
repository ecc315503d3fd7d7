//! What a sandbox can hand out besides output: images of its files, and addresses for browsers.

use std::time::Duration;

use modal_proto::{client as api, task_command_router as router_api};
use secret_string::SecretString;

use super::{Sandbox, SandboxVersion};

use crate::{
    error::{Error, Operation, Result},
    ids::ImageId,
    image::BuiltImage,
    rpc::methods,
};

/// How long a snapshot may take.
const LIMIT: Duration = Duration::from_secs(55);
/// What stands for "kept for ever".
const NO_END: i64 = -1;

/// An address of a sandbox that a browser or another program may use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectToken {
    /// The address.
    pub url: String,
    /// The token, as `Authorization: Bearer …` or `_modal_connect_token=…` in the address.
    pub token: SecretString,
}

impl Sandbox {
    /// Makes an image of its file system as it is now, without volumes; other sandboxes start from it. `keep_for`
    /// says how long it is kept, for ever without one. One RPC.
    pub async fn snapshot_filesystem(&self, keep_for: Option<Duration>) -> Result<BuiltImage> {
        let operation = || self.operation("make a snapshot of");
        if self.version() == SandboxVersion::V1 {
            return self.snapshot_v1(operation()).await;
        }
        let query = router_api::TaskSnapshotFilesystemRequest {
            task_id: self.task().await?.to_string(),
            snapshot_id: uuid::Uuid::new_v4().to_string(),
            ttl_seconds: Some(ttl(keep_for)),
            ..Default::default()
        };
        let method = &methods::TASK_SNAPSHOT_FILESYSTEM;
        let asked = self.router.unary(method, &query, &operation(), Some(LIMIT)).await;
        let answer = asked.map_err(|failure| failure.into_error(method.name, operation()))?;
        image_of(answer.image_id, operation)
    }

    /// Makes an image of one directory, to be used as [`snapshot_filesystem`](Self::snapshot_filesystem). One RPC.
    pub async fn snapshot_directory(
        &self,
        path: impl Into<String>,
        keep_for: Option<Duration>,
    ) -> Result<BuiltImage> {
        let operation = || self.operation("make a snapshot of a directory of");
        let query = router_api::TaskSnapshotDirectoryRequest {
            task_id: self.task().await?.to_string(),
            path: path.into().into_bytes(),
            snapshot_id: uuid::Uuid::new_v4().to_string(),
            ttl_seconds: Some(ttl(keep_for)),
            ..Default::default()
        };
        let method = &methods::TASK_SNAPSHOT_DIRECTORY;
        let asked = self.router.unary(method, &query, &operation(), Some(LIMIT)).await;
        let answer = asked.map_err(|failure| failure.into_error(method.name, operation()))?;
        image_of(answer.image_id, operation)
    }

    /// Shows a built image, or a snapshot of a directory, on a directory, which is made if it is missing; programs may
    /// change what they see there. An image that was mounted there gives way. One RPC.
    pub async fn mount_image(&self, path: impl Into<String>, image: &BuiltImage) -> Result<()> {
        let operation = || self.operation("mount an image in");
        let query = router_api::TaskMountDirectoryRequest {
            task_id: self.task().await?.to_string(),
            path: path.into().into_bytes(),
            image_id: image.id.to_string(),
            ..Default::default()
        };
        let method = &methods::TASK_MOUNT_DIRECTORY;
        let asked = self.router.unary(method, &query, &operation(), None).await;
        asked.map_err(|failure| failure.into_error(method.name, operation()))
    }

    /// Takes a mounted image away: what the directory held before is seen again. One RPC.
    pub async fn unmount_image(&self, path: impl Into<String>) -> Result<()> {
        let operation = || self.operation("unmount an image in");
        let query = router_api::TaskUnmountDirectoryRequest {
            task_id: self.task().await?.to_string(),
            path: path.into().into_bytes(),
            ..Default::default()
        };
        let method = &methods::TASK_UNMOUNT_DIRECTORY;
        let asked = self.router.unary(method, &query, &operation(), None).await;
        asked.map_err(|failure| failure.into_error(method.name, operation()))
    }

    async fn snapshot_v1(&self, operation: Operation) -> Result<BuiltImage> {
        let query = api::SandboxSnapshotFsRequest {
            sandbox_id: self.id().to_string(),
            timeout: LIMIT.as_secs_f32(),
        };
        let method = &methods::SANDBOX_SNAPSHOT_FS;
        let answer = self.client().call(method, &query, operation.clone()).await?;
        image_of(answer.image_id, || operation.clone())
    }

    /// An address at which the server that listens on `port` in the sandbox is reached, and the token that it asks for.
    /// `about_user` is handed to that server with each request. One RPC.
    pub async fn connect_token(&self, port: u16, about_user: &str) -> Result<ConnectToken> {
        let query = api::SandboxCreateConnectTokenRequest {
            sandbox_id: self.id().to_string(),
            user_metadata: about_user.to_owned(),
            port: Some(port.into()),
        };
        let (v1, v2) =
            (&methods::SANDBOX_CREATE_CONNECT_TOKEN, &methods::SANDBOX_CREATE_CONNECT_TOKEN_V2);
        let method = self.version().choose(v1, v2);
        let options = self.options(method, "make a connect token for").await?;
        let answer = self.client().call_with(method, &query, options).await?;
        Ok(ConnectToken { url: answer.url, token: answer.token.into() })
    }
}

fn ttl(keep_for: Option<Duration>) -> i64 {
    keep_for.map_or(NO_END, |time| i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX))
}

fn image_of(id: String, operation: impl Fn() -> Operation) -> Result<BuiltImage> {
    let id = ImageId::try_from(id)
        .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
    Ok(BuiltImage { id, mounts: Vec::new() })
}
