//! Images mounted into a running sandbox, and snapshots of one of its directories.
//!
//! An image is shown on a directory as an overlay of its own: its layers, and above them a directory for what
//! programs change there. A snapshot of such a directory, or of any other, is an image that has its contents at the
//! top, so that it can be mounted elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use container_runtime::AttachSpec;

use super::live::LiveSandbox;
use super::snapshot;
use crate::blocking;
use crate::ctx::Ctx;
use crate::durable;
use crate::error::{Error, Result};
use crate::ids::{ImageId, random_suffix};
use crate::image::{DirectorySource, Lease, SnapshotKind};

/// The images mounted in one sandbox.
#[derive(Default)]
pub(crate) struct Attachments {
    /// Held while one is mounted, taken away or copied.
    mounted: tokio::sync::Mutex<BTreeMap<PathBuf, Attached>>,
}

struct Attached {
    layers: Vec<PathBuf>,
    /// Keeps the layers.
    _lease: Option<Lease>,
    /// Holds `upper`.
    changes: PathBuf,
}

impl Attachments {
    /// Where images are mounted.
    pub(super) async fn targets(&self) -> Vec<PathBuf> {
        self.mounted.lock().await.keys().cloned().collect()
    }

    /// Gives up what they keep: the sandbox has ended.
    pub(super) async fn clear(&self) {
        self.mounted.lock().await.clear();
    }
}

impl LiveSandbox {
    /// Mounts a built image, or an empty one, on a directory, which is made if it is missing. An image that was mounted
    /// there gives way.
    pub(crate) async fn mount_image(
        &self,
        ctx: &Ctx,
        target: PathBuf,
        image: Option<&ImageId>,
    ) -> Result<()> {
        let (container, running) = (self.container()?, self.running()?);
        let (layers, lease) = match image {
            Some(image) => {
                let root = ctx.images.resolve(image).await?;
                (root.layers, Some(root.lease))
            }
            None => {
                let images = ctx.images.clone();
                (vec![blocking::run(move || images.empty_layer()).await?], None)
            }
        };
        let changes = running.attached_dir.join(random_suffix());
        let made = changes.clone();
        blocking::run(move || {
            durable::create_dir(&made, 0o755)?;
            durable::create_dir(&made.join("upper"), 0o755)?;
            durable::create_dir(&made.join("work"), 0o700)
        })
        .await?;
        let mut mounted = self.attachments.mounted.lock().await;
        if mounted.remove(&target).is_some() {
            container.detach(&target).await.map_err(refused)?;
        }
        let spec = AttachSpec { layers: layers.clone(), changes: changes.clone(), target };
        container.attach(&spec).await.map_err(refused)?;
        mounted.insert(spec.target, Attached { layers, _lease: lease, changes });
        Ok(())
    }

    /// Takes a mounted image away; what the directory held before is seen again.
    pub(crate) async fn unmount_image(&self, target: &Path) -> Result<()> {
        let container = self.container()?;
        let mut mounted = self.attachments.mounted.lock().await;
        if mounted.remove(target).is_none() {
            let target = target.display();
            return Err(Error::invalid(format!("no image is mounted on `{target}`")));
        }
        container.detach(target).await.map_err(refused)
    }

    /// Makes an image of a directory. Of calls with the same `key`, the first makes it and all get it.
    pub(crate) async fn snapshot_directory(
        self: &Arc<Self>,
        ctx: &Ctx,
        key: &str,
        path: &Path,
        expires_at: Option<f64>,
    ) -> Result<ImageId> {
        if let Some(image) = snapshot::taken(ctx, &self.id, SnapshotKind::Directory, key).await? {
            return Ok(image);
        }
        self.container()?;
        let _in_use = self.activity.begin();
        let _one_at_a_time = self.snapshotting.lock().await;
        let root = &self.running()?.root;
        if let Some(volume) = root.mount_points.iter().find(|point| path.starts_with(point)) {
            let (path, volume) = (path.display(), volume.display());
            return Err(Error::invalid(format!(
                "`{path}` is part of the volume mounted on `{volume}`, which no snapshot holds"
            )));
        }
        let mounted = self.attachments.mounted.lock().await;
        // The deepest mount that holds the path.
        let holder = mounted.iter().rev().find(|(target, _)| path.starts_with(target));
        let (layers, upper, inside) = match holder {
            Some((target, it)) => {
                let inside = path.strip_prefix(target).unwrap_or(path).to_owned();
                (it.layers.clone(), it.changes.join("upper"), inside)
            }
            None => {
                let image = ctx.images.layers_of(&root.image);
                let layers = image.into_iter().chain(root.overlaid.iter().cloned()).collect();
                let inside = path.strip_prefix("/").unwrap_or(path).to_owned();
                (layers, root.upper.clone(), inside)
            }
        };
        let source = DirectorySource { base: Arc::clone(&root.image), layers, upper, inside };
        ctx.images.snapshot_directory(&snapshot::named(&self.id, key), source, expires_at).await
    }
}

fn refused(error: container_runtime::Error) -> Error {
    match &error {
        container_runtime::Error::InvalidSpec { .. } => Error::Invalid(error.to_string()),
        container_runtime::Error::System { action, source } => {
            Error::Precondition(format!("cannot {action}: {source}"))
        }
        _ => Error::Runtime { source: error.into() },
    }
}
