//! Images that no recipe makes: the file system of a sandbox as it is at one moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::MAX_LAYERS;
use super::definition::Definition;
use super::digest::Hasher;
use super::layer::{LayerId, LayerStore, remove_traces};
use super::record::Built;
use super::{Images, copy_tree, squash, step};
use crate::blocking;
use crate::error::{Error, Result};
use crate::ids::ImageId;

/// The image below a snapshot, as it was when its container was made: it may be deleted meanwhile.
pub(crate) struct SnapshotBase {
    pub(super) built: Built,
    pub(super) builder_version: String,
}

impl SnapshotBase {
    /// The builder version that the image was asked for with.
    pub(crate) fn builder_version(&self) -> &str {
        &self.builder_version
    }
}

/// What a snapshot is made of.
pub(crate) struct SnapshotSource {
    /// The image that the sandbox runs.
    pub(crate) base: Arc<SnapshotBase>,
    /// Layers above those of the image, lowest first.
    pub(crate) overlaid: Vec<PathBuf>,
    /// The sandbox's changes.
    pub(crate) upper: PathBuf,
    /// Directories that are not part of it: of them only the empty place was made.
    pub(crate) mount_points: Vec<PathBuf>,
    /// Nothing writes to `upper` any more, nor is it needed afterwards.
    pub(crate) is_final: bool,
}

impl Images {
    /// Makes an image of a sandbox's file system; the same `key` is the same image.
    pub(crate) async fn snapshot(
        &self,
        key: &str,
        source: SnapshotSource,
        expires_at: Option<f64>,
    ) -> Result<ImageId> {
        let mut hasher = Hasher::new("snapshot");
        hasher.part(key);
        let (hash, layer) = (hasher.finish_hex(), LayerId::of(&hasher));
        if let Some(taken) = self.shared.records.newest(&hash).await? {
            return Ok(taken.id);
        }
        let SnapshotBase { built, builder_version } = &*source.base;
        let (mut built, builder_version) = (built.clone(), builder_version.clone());
        // The sandbox may end, and give up its own, while this goes on.
        let _lease = self.shared.in_use.lease(&built.layers);
        if !self.is_complete(&built) {
            return Err(Error::Precondition(
                "the layers of the sandbox's image were removed".into(),
            ));
        }
        let store = self.store().clone();
        let below = built.layers.clone();
        let made = layer.clone();
        let (scratch, directory, replaces) =
            blocking::run(move || make(&store, &below, &source)).await?;
        // No collection of garbage between the layer and the record that names it.
        let _nothing_begins = self.shared.starting.lock().await;
        let store = self.store().clone();
        blocking::run(move || {
            store.commit(&layer, &directory)?;
            drop(scratch);
            Ok(())
        })
        .await?;
        built.layers.truncate(replaces);
        built.layers.push(made.clone());
        let built = Built { tip: made, ..built };
        let definition = Definition { builder_version, ..Definition::default() };
        let id = ImageId::random();
        self.shared.records.insert_built(&id, &hash, &definition, &built, expires_at).await?;
        Ok(id)
    }
}

/// Puts a layer together in a directory of its own. Answers how many of the layers below stay.
fn make(
    store: &LayerStore,
    below: &[LayerId],
    source: &SnapshotSource,
) -> Result<(tempfile::TempDir, PathBuf, usize)> {
    let scratch = store.scratch()?;
    let changes = scratch.path().join("changes");
    if source.is_final {
        std::fs::rename(&source.upper, &changes).map_err(Error::file("move", &source.upper))?;
    } else {
        copy_tree::copy_tree(&source.upper, &changes)?;
    }
    let image: Vec<PathBuf> = below.iter().map(|layer| store.path(layer)).collect();
    let lower: Vec<PathBuf> = image.iter().chain(&source.overlaid).cloned().collect();
    let mount_points = source.mount_points.iter().filter_map(|path| path.to_str());
    let traces: Vec<&str> = step::TRACES.into_iter().chain(mount_points).collect();
    remove_traces(&changes, &lower, &traces)?;
    let keeps = if below.len() >= MAX_LAYERS { 1 } else { below.len() };
    let above: Vec<&Path> = image[keeps..]
        .iter()
        .chain(&source.overlaid)
        .map(PathBuf::as_path)
        .chain([changes.as_path()])
        .collect();
    if above.len() == 1 {
        return Ok((scratch, changes, keeps));
    }
    let merged = scratch.path().join("merged");
    squash::merge(&above, &merged)?;
    Ok((scratch, merged, keeps))
}
