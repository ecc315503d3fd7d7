//! Snapshots of a sandbox's file system, as images.
//!
//! What a sandbox has changed lies in a directory of this machine, in the form of an image's layer:
//! a copy of it on top of the sandbox's own image is the snapshot. Files of mounts are part of it;
//! volumes are not. Programs go on meanwhile: what is written during the copy may be in it or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSandbox;
use crate::clock;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::ids::{ImageId, SandboxId};
use crate::image::{SnapshotBase, SnapshotKind, SnapshotSource};

/// How long a snapshot stays unless its maker says otherwise. Source: the SDKs' documentation of
/// `snapshot_filesystem` ("30 days"), read 2026-11-26.
const DEFAULT_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// What the SDKs send for "never ends".
const NEVER: i64 = -1;

/// What a sandbox's root file system is made of, besides what runs.
pub(crate) struct RootRecord {
    pub(crate) image: Arc<SnapshotBase>,
    /// Layers of mounts above those of the image.
    pub(crate) overlaid: Vec<PathBuf>,
    /// The changes.
    pub(crate) upper: PathBuf,
    /// Where volumes are shown.
    pub(crate) mount_points: Vec<PathBuf>,
}

impl RootRecord {
    fn source(&self, is_final: bool) -> SnapshotSource {
        SnapshotSource {
            base: Arc::clone(&self.image),
            overlaid: self.overlaid.clone(),
            upper: self.upper.clone(),
            mount_points: self.mount_points.clone(),
            left_out: Vec::new(),
            is_final,
        }
    }
}

/// When a snapshot ends that is to live for `ttl_seconds`.
pub(crate) fn expiry(ttl_seconds: Option<i64>) -> Option<f64> {
    match ttl_seconds {
        Some(NEVER) => None,
        Some(seconds) => Some(clock::now() + seconds.max(0) as f64),
        None => Some(clock::now() + DEFAULT_LIFE.as_secs_f64()),
    }
}

/// The image that was made of a sandbox with this `key`, by a server that was killed before it answered
/// perhaps: the sandbox is gone then, and its snapshot is not.
pub(crate) async fn taken(
    ctx: &Ctx,
    sandbox: &SandboxId,
    kind: SnapshotKind,
    key: &str,
) -> Result<Option<ImageId>> {
    ctx.images.taken(kind, &named(sandbox, key)).await
}

/// The key of a sandbox's snapshot among all.
pub(super) fn named(sandbox: &SandboxId, key: &str) -> String {
    format!("{sandbox} {key}")
}

impl LiveSandbox {
    /// Takes a snapshot. Of calls with the same `key`, the first takes it and all get it.
    pub(crate) async fn snapshot(
        self: &Arc<Self>,
        ctx: &Ctx,
        key: &str,
        expires_at: Option<f64>,
    ) -> Result<ImageId> {
        if let Some(image) = taken(ctx, &self.id, SnapshotKind::Filesystem, key).await? {
            return Ok(image);
        }
        // Fails for a sandbox that has ended: its changes are gone.
        self.container()?;
        let _in_use = self.activity.begin();
        let _one_at_a_time = self.snapshotting.lock().await;
        let mut source = self.running()?.root.source(false);
        source.mount_points.extend(self.attachments.targets().await);
        ctx.images.snapshot(&named(&self.id, key), source, expires_at).await
    }
}

/// Takes the snapshot of a sandbox whose programs are gone, and records what came of it.
pub(super) async fn at_exit(ctx: &Ctx, sandbox: &LiveSandbox, root: &RootRecord) {
    // One that a client asked for may still be under way.
    let _one_at_a_time = sandbox.snapshotting.lock().await;
    let taken =
        ctx.images.snapshot(&named(&sandbox.id, "exit"), root.source(true), expiry(None)).await;
    if let Err(error) = &taken {
        tracing::warn!(%error, sandbox = %sandbox.id, "exit snapshot not taken");
    }
    if let Err(error) = ctx.sandboxes.exit_snapshots.settle(&sandbox.id, &taken).await {
        tracing::warn!(%error, sandbox = %sandbox.id, "exit snapshot not recorded");
    }
}
