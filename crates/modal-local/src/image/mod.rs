//! Images: recipes, builds and their layers.
//!
//! ```text
//! definition ─ recipe ─▶ build ─ step ─▶ container-runtime      one container a step
//!     │                    │ ├─ base ─▶ mmdebstrap              FROM an image of a registry
//!     ▼                    ▼ └─ layer ─▶ images/layers/<hash>   each step's changes, found again
//!  image id             log, record
//! ```
//!
//! The same definition has the same id, and an image is built once however many ask for it. A build
//! that a kill cut short is begun anew by whoever asks next, and finds the layers that were finished;
//! a failed one, too. Nothing is pulled from registries: see [`reference`] for what stands in.

mod base;
mod begin;
mod build;
mod config;
mod context;
pub(crate) mod copy;
mod copy_tree;
mod definition;
mod digest;
mod gpu;
mod in_use;
mod layer;
mod log;
mod recipe;
mod record;
mod reference;
mod settings;
mod snapshot;
mod squash;
mod step;
mod users;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use modal_proto::client::ImageMetadata;
use tokio::sync::{OnceCell, Semaphore, watch};

pub use self::base::BasePolicy;
use self::base::pythons::MachinePython;
pub(crate) use self::base::pythons::{PythonFile, of_debian as python_of_debian};
use self::base::{Bases, pythons};
use self::in_use::InUse;
pub(crate) use self::in_use::Lease;
use self::layer::{LayerId, LayerStore};
pub(crate) use self::log::{BuildLog, Entry};
pub(crate) use self::record::Progress;
use self::record::{Built, ImageRecord, ImageRecords};
pub(crate) use self::reference::Suite;
pub(crate) use self::settings::{CERTIFICATE_VARIABLES, INSIDE, SYSTEM_CERTIFICATES};
use self::settings::{Machine, PackageSettings};
pub(crate) use self::snapshot::{DirectorySource, SnapshotBase, SnapshotKind, SnapshotSource};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::ids::ImageId;
use crate::state::State;

/// Builds beyond this many wait for their turn.
const PARALLEL_BUILDS: usize = 4;

/// An image as a container needs it.
pub(crate) struct ImageRoot {
    /// Directories, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// To be kept for as long as the container lives: it keeps the directories.
    pub(crate) lease: Lease,
    /// What a snapshot of the container goes on.
    pub(crate) base: Arc<SnapshotBase>,
    /// What it says of its Python.
    pub(crate) python: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: Option<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
}

/// How far an image is, and what is known of it besides.
#[derive(Debug, Clone)]
pub(crate) struct ImageView {
    pub(crate) id: ImageId,
    pub(crate) progress: Progress,
    pub(crate) metadata: ImageMetadata,
}

/// The images that this server knows. Clones share them.
#[derive(Clone)]
pub(crate) struct Images {
    shared: Arc<Shared>,
}

struct Shared {
    store: LayerStore,
    bases: Bases,
    records: ImageRecords,
    logs: PathBuf,
    trash: PathBuf,
    settings: OnceCell<PackageSettings>,
    pythons: OnceLock<Vec<MachinePython>>,
    live: Mutex<HashMap<ImageId, Arc<Live>>>,
    /// Held between looking at an image and beginning its build.
    starting: tokio::sync::Mutex<()>,
    layer_locks: Mutex<HashMap<LayerId, Weak<tokio::sync::Mutex<()>>>>,
    in_use: InUse,
    turns: Semaphore,
}

/// A build under way.
pub(crate) struct Live {
    pub(crate) log: BuildLog,
    /// Becomes true once the result is recorded.
    pub(crate) ended: watch::Sender<bool>,
}

impl Images {
    /// Opens the images of the state directory; what an earlier server had under way is cleared.
    pub(crate) async fn open(state: &State) -> Result<Self> {
        let (root, trash) = (state.dir.images(), state.dir.trash());
        let logs = root.join("logs");
        crate::durable::create_dir(&logs, 0o700)?;
        let store = LayerStore::open(&root, &trash)?;
        let shared = Shared {
            bases: Bases::new(store.clone(), &root),
            store,
            records: ImageRecords::new(state.db.clone()),
            logs,
            trash,
            settings: OnceCell::new(),
            pythons: OnceLock::new(),
            live: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            layer_locks: Mutex::default(),
            in_use: InUse::default(),
            turns: Semaphore::new(PARALLEL_BUILDS),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// An image by its id. One whose build was cut short is begun anew.
    pub(crate) async fn get(&self, ctx: &Ctx, id: &ImageId) -> Result<ImageView> {
        let record = self.record(id).await?;
        if record.progress == Progress::Building && self.live(id).is_none() {
            return self.ensure(ctx, id, &record.definition_hash, &record.definition, None).await;
        }
        Ok(self.view(record))
    }

    /// What a new container of this image needs.
    pub(crate) async fn resolve(&self, id: &ImageId) -> Result<ImageRoot> {
        self.root(self.record(id).await?)
    }

    /// What a container of a function needs: a function goes on with its image after that was deleted
    /// or has expired, until its app is stopped.
    pub(crate) async fn resolve_deployed(&self, id: &ImageId) -> Result<ImageRoot> {
        self.root(self.record_even_deleted(id).await?)
    }

    fn root(&self, record: ImageRecord) -> Result<ImageRoot> {
        let id = &record.id;
        let built = match record.progress {
            Progress::Built(built) => built,
            Progress::Building => {
                return Err(Error::Precondition(format!("image {id} is still being built")));
            }
            Progress::Failed(_) => {
                return Err(Error::Precondition(format!("image {id} could not be built")));
            }
        };
        // In this order: a layer that is there after the lease stays.
        let lease = self.shared.in_use.lease(&built.layers);
        if !self.is_complete(&built) {
            return Err(Error::Precondition(format!(
                "the layers of image {id} were removed; build it again"
            )));
        }
        let layers = built.layers.iter().map(|layer| self.shared.store.path(layer)).collect();
        let config = built.config.clone();
        let builder_version = record.definition.builder_version;
        Ok(ImageRoot {
            layers,
            lease,
            base: Arc::new(SnapshotBase { built: *built, builder_version }),
            python: config.python,
            env: config.env,
            workdir: config.workdir,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
        })
    }

    /// A layer without anything in it.
    pub(crate) fn empty_layer(&self) -> Result<PathBuf> {
        let layer = self.bases().empty()?;
        Ok(self.store().path(&layer))
    }

    /// Whether a registered substitution is part of a built image.
    pub(crate) async fn is_substituted(&self, id: &ImageId) -> Result<bool> {
        let Progress::Built(built) = self.record(id).await?.progress else { return Ok(false) };
        Ok(built.substitutions.iter().any(|note| note.contains(build::STANDS_IN)))
    }

    /// The images that one is built on, lowest first, and itself.
    pub(crate) async fn chain_of(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        let mut chain = Vec::new();
        let mut next = Some(id.clone());
        while let Some(id) = next {
            let record = self.record(&id).await?;
            let below =
                record.definition.bases.get("base").or(record.definition.bases.values().next());
            next = below.map(|id| ImageId::parse(id)).transpose()?;
            chain.push(id);
        }
        chain.reverse();
        Ok(chain)
    }

    /// The build of this image that is under way.
    pub(crate) fn live(&self, id: &ImageId) -> Option<Arc<Live>> {
        self.builds().get(id).cloned()
    }

    /// How many builds are under way: the server does not end itself while there is one.
    pub(crate) fn building(&self) -> usize {
        self.builds().len()
    }

    /// The log of a build that ended.
    pub(crate) async fn stored_log(&self, id: &ImageId) -> Result<Vec<Entry>> {
        let path = self.log_path(id);
        crate::blocking::run(move || log::read(&path)).await
    }

    /// What stands in for what in built images, by sentence.
    pub(crate) async fn substitutions(&self) -> Result<BTreeSet<String>> {
        let built = self.shared.records.all_built().await?;
        Ok(built.into_iter().flat_map(|built| built.substitutions).collect())
    }

    /// Deletes an image: from now on nothing new can use it. Its layers stay as long as something
    /// needs them.
    pub(crate) async fn delete(&self, id: &ImageId) -> Result<()> {
        if self.live(id).is_some() {
            return Err(Error::Precondition(format!("image {id} is being built")));
        }
        if self.shared.records.delete(id).await? {
            Ok(())
        } else {
            Err(Error::Missing(format!("No Image with ID '{id}' found")))
        }
    }

    /// Deletes the snapshots whose time is over, and forgets deleted images but for those that are
    /// `kept`; answers how many. Their layers go with the next collection of layers.
    pub(crate) async fn forget_deleted(&self, kept: &BTreeSet<String>) -> Result<u64> {
        self.shared.records.delete_expired().await?;
        let _nothing_begins = self.shared.starting.lock().await;
        // A build may be about to begin on one that was there when it was asked for.
        if self.building() > 0 { Ok(0) } else { self.shared.records.forget_deleted(kept).await }
    }

    /// Hashes of contents that builds to be begun anew need: their clients may be gone.
    pub(crate) async fn context_of_builds(&self) -> Result<Vec<String>> {
        let building = self.shared.records.building().await?;
        let files = building.into_iter().flat_map(|definition| definition.context_files);
        Ok(files.map(|(_, hash)| hash).collect())
    }

    /// Discards the layers that no image consists of and nobody needs, unless a build is under way;
    /// answers how many. They are only a cache of steps.
    pub(crate) async fn collect_garbage(&self) -> Result<usize> {
        let _nothing_begins = self.shared.starting.lock().await;
        if self.building() > 0 {
            return Ok(0);
        }
        let built = self.shared.records.all_built().await?;
        let needed: BTreeSet<LayerId> = built
            .into_iter()
            .flat_map(|built| built.layers.into_iter().chain([built.tip]))
            .collect();
        let Shared { store, trash, in_use, .. } = &*self.shared;
        let mut discarded = 0;
        for layer in store.all()?.into_iter().filter(|layer| !needed.contains(layer)) {
            let gone = in_use.unless_leased(&layer, || store.discard(&layer, trash))?;
            discarded += usize::from(gone);
        }
        Ok(discarded)
    }

    /// Waits until no build of the image is under way.
    pub(crate) async fn wait(&self, ctx: &Ctx, id: &ImageId) -> Result<Progress> {
        // What was there when somebody began to build on it is, also if it was deleted meanwhile.
        let progress = self.record_even_deleted(id).await?.progress;
        if progress == Progress::Building {
            self.get(ctx, id).await?;
        }
        // Nobody builds it, or no longer: it may have ended since it was looked at.
        let Some(live) = self.live(id) else {
            return Ok(self.record_even_deleted(id).await?.progress);
        };
        // An error means that the build's task is gone, and the record says how it ended.
        let _ = live.ended.subscribe().wait_for(|ended| *ended).await;
        Ok(self.record_even_deleted(id).await?.progress)
    }

    async fn record(&self, id: &ImageId) -> Result<ImageRecord> {
        self.shared.records.get(id).await?.ok_or_else(|| unknown_image(id.as_str()))
    }

    async fn record_even_deleted(&self, id: &ImageId) -> Result<ImageRecord> {
        let record = self.shared.records.get_even_deleted(id).await?;
        record.ok_or_else(|| unknown_image(id.as_str()))
    }

    fn view(&self, record: ImageRecord) -> ImageView {
        let config = match &record.progress {
            Progress::Built(built) => Some(&built.config),
            _ => None,
        };
        let metadata = ImageMetadata {
            image_builder_version: Some(record.definition.builder_version),
            python_version_info: config.and_then(|config| config.python.clone()),
            workdir: config.and_then(|config| config.workdir.clone()),
            ..ImageMetadata::default()
        };
        ImageView { id: record.id, progress: record.progress, metadata }
    }

    fn is_complete(&self, built: &Built) -> bool {
        built.layers.iter().all(|layer| self.shared.store.has(layer))
    }

    fn builds(&self) -> MutexGuard<'_, HashMap<ImageId, Arc<Live>>> {
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self, id: &ImageId) -> PathBuf {
        self.shared.logs.join(format!("{id}.jsonl"))
    }

    /// The Pythons that are installed on this machine; looked for once.
    pub(crate) fn pythons(&self) -> &[MachinePython] {
        self.shared.pythons.get_or_init(|| pythons::installed(pythons::home().as_deref()))
    }

    fn store(&self) -> &LayerStore {
        &self.shared.store
    }

    fn bases(&self) -> &Bases {
        &self.shared.bases
    }

    async fn settings(&self) -> &PackageSettings {
        let gather = || async { PackageSettings::of(&Machine::this().await) };
        self.shared.settings.get_or_init(gather).await
    }

    /// Held by whoever makes a layer, so that two builds do not make the same one.
    fn layer_lock(&self, id: &LayerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.shared.layer_locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// The words that SDKs look for.
fn unknown_image(id: &str) -> Error {
    Error::Missing(format!("Could not find image with ID {id}"))
}

/// An error with its causes, as one text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
