//! Images that no recipe makes: the file system of a sandbox as it is at one moment.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::build::MAX_LAYERS;
use super::config::ImageConfig;
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

/// What is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotKind {
    /// All that the sandbox sees, but for volumes.
    Filesystem,
    /// One directory, as the root.
    Directory,
}

impl SnapshotKind {
    /// Names the snapshot that is made with `key`.
    fn hasher(self, key: &str) -> Hasher {
        let mut hasher = Hasher::new(match self {
            Self::Filesystem => "snapshot",
            Self::Directory => "snapshot of a directory",
        });
        hasher.part(key);
        hasher
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
    /// Directories of which nothing is part of it, whatever was written there.
    pub(crate) left_out: Vec<PathBuf>,
    /// Nothing writes to `upper` any more, nor is it needed afterwards.
    pub(crate) is_final: bool,
}

/// What a snapshot of one directory is made of.
pub(crate) struct DirectorySource {
    /// The image that the sandbox runs.
    pub(crate) base: Arc<SnapshotBase>,
    /// The layers that the directory lies in, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// The changes above them.
    pub(crate) upper: PathBuf,
    /// The directory, relative to them.
    pub(crate) inside: PathBuf,
}

impl Images {
    /// Where the layers of a sandbox's image lie, lowest first.
    pub(crate) fn layers_of(&self, base: &SnapshotBase) -> Vec<PathBuf> {
        base.built.layers.iter().map(|layer| self.store().path(layer)).collect()
    }

    /// The image that was made with this `key`, by an earlier server too.
    pub(crate) async fn taken(&self, kind: SnapshotKind, key: &str) -> Result<Option<ImageId>> {
        let taken = self.shared.records.newest(&kind.hasher(key).finish_hex()).await?;
        Ok(taken.map(|taken| taken.id))
    }

    /// Makes an image whose root is a directory of a sandbox; the same `key` is the same image.
    pub(crate) async fn snapshot_directory(
        &self,
        key: &str,
        source: DirectorySource,
        expires_at: Option<f64>,
    ) -> Result<ImageId> {
        let hasher = SnapshotKind::Directory.hasher(key);
        let (hash, layer) = (hasher.finish_hex(), LayerId::of(&hasher));
        if let Some(taken) = self.shared.records.newest(&hash).await? {
            return Ok(taken.id);
        }
        let builder_version = source.base.builder_version.clone();
        // The sandbox may end, and give up its own, while this goes on.
        let _lease = self.shared.in_use.lease(&source.base.built.layers);
        let store = self.store().clone();
        let (scratch, directory) = blocking::run(move || cut_out(&store, &source)).await?;
        let _nothing_begins = self.shared.starting.lock().await;
        let (store, made) = (self.store().clone(), layer.clone());
        blocking::run(move || {
            store.commit(&layer, &directory)?;
            drop(scratch);
            Ok(())
        })
        .await?;
        let built = Built {
            layers: vec![made.clone()],
            tip: made,
            config: ImageConfig::default(),
            substitutions: Vec::new(),
        };
        let definition = Definition { builder_version, ..Definition::default() };
        let id = ImageId::random();
        self.shared.records.insert_built(&id, &hash, &definition, &built, expires_at).await?;
        Ok(id)
    }

    /// Makes an image of a sandbox's file system; the same `key` is the same image.
    pub(crate) async fn snapshot(
        &self,
        key: &str,
        source: SnapshotSource,
        expires_at: Option<f64>,
    ) -> Result<ImageId> {
        let hasher = SnapshotKind::Filesystem.hasher(key);
        let (hash, layer) = (hasher.finish_hex(), LayerId::of(&hasher));
        if let Some(taken) = self.shared.records.newest(&hash).await? {
            return Ok(taken.id);
        }
        let SnapshotBase { built, builder_version } = &*source.base;
        let (built, builder_version) = (built.clone(), builder_version.clone());
        // The sandbox may end, and give up its own, while this goes on.
        let _lease = self.shared.in_use.lease(&built.layers);
        if !self.is_complete(&built) {
            return Err(Error::Precondition(
                "the layers of the sandbox's image were removed".into(),
            ));
        }
        let store = self.store().clone();
        let below = built.layers.clone();
        let made = blocking::run(move || make(&store, &below, &source)).await?;
        // No collection of garbage between the layer and the record that names it.
        let _nothing_begins = self.shared.starting.lock().await;
        let built = self.commit(made, built, layer).await?;
        let definition = Definition { builder_version, ..Definition::default() };
        let id = ImageId::random();
        self.shared.records.insert_built(&id, &hash, &definition, &built, expires_at).await?;
        Ok(id)
    }
}

/// A layer that is put together and not yet in its place.
struct Made {
    scratch: tempfile::TempDir,
    directory: PathBuf,
    /// How many of the layers below stay.
    keeps: usize,
}

impl Images {
    /// What a running container has changed, as a layer on `below`. Part of a build, during which no garbage is
    /// collected.
    pub(super) async fn layer_of(
        &self,
        source: SnapshotSource,
        below: Built,
        layer: LayerId,
    ) -> Result<Built> {
        let (store, layers) = (self.store().clone(), below.layers.clone());
        let made = blocking::run(move || make(&store, &layers, &source)).await?;
        self.commit(made, below, layer).await
    }

    async fn commit(&self, made: Made, mut built: Built, layer: LayerId) -> Result<Built> {
        let (store, id) = (self.store().clone(), layer.clone());
        let Made { scratch, directory, keeps } = made;
        blocking::run(move || {
            store.commit(&id, &directory)?;
            drop(scratch);
            Ok(())
        })
        .await?;
        built.layers.truncate(keeps);
        built.layers.push(layer.clone());
        Ok(Built { tip: layer, ..built })
    }
}

/// Puts a layer together in a directory of its own.
fn make(store: &LayerStore, below: &[LayerId], source: &SnapshotSource) -> Result<Made> {
    let scratch = store.scratch()?;
    let changes = scratch.path().join("changes");
    if source.is_final {
        std::fs::rename(&source.upper, &changes).map_err(Error::file("move", &source.upper))?;
    } else {
        copy_tree::copy_tree(&source.upper, &changes)?;
    }
    for directory in &source.left_out {
        let inside = changes.join(directory.strip_prefix("/").unwrap_or(directory));
        if std::fs::symlink_metadata(&inside).is_ok_and(|found| found.is_dir()) {
            std::fs::remove_dir_all(&inside).map_err(Error::file("remove", &inside))?;
        }
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
        return Ok(Made { scratch, directory: changes, keeps });
    }
    let merged = scratch.path().join("merged");
    squash::merge(&above, &merged)?;
    Ok(Made { scratch, directory: merged, keeps })
}

/// Copies one directory, as the layers and the changes show it.
fn cut_out(store: &LayerStore, source: &DirectorySource) -> Result<(tempfile::TempDir, PathBuf)> {
    let scratch = store.scratch()?;
    let (changes, merged) = (scratch.path().join("changes"), scratch.path().join("merged"));
    copy_tree::copy_tree(&source.upper, &changes)?;
    let layers: Vec<&Path> =
        source.layers.iter().map(PathBuf::as_path).chain([changes.as_path()]).collect();
    let inside = source.inside.to_string_lossy().into_owned();
    squash::merge_root(&layers, &merged, &[inside])?;
    let directory = resolve(&merged, &source.inside).map_err(|error| {
        let path = Path::new("/").join(&source.inside);
        Error::Precondition(format!("`{}` is no directory of the sandbox: {error}", path.display()))
    })?;
    Ok((scratch, directory))
}

/// Where a directory lies once the links on the way to it are followed inside `root`.
fn resolve(root: &Path, inside: &Path) -> std::io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags, Mode::empty())?;
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let found = openat2(&top, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}
