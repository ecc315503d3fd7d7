//! Bases: what `FROM` an image of a registry becomes on a machine that pulls nothing.
//!
//! A base is the lowest layer, made once and kept by a hash of what went into it: a Debian tree from
//! the machine's mirror. Without root, apt or a mirror, this machine's own programs stand in for it,
//! and the log says so.

mod command;
mod debian;
mod host;
mod mirror;
pub(crate) mod pythons;
mod tools;

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use self::mirror::Mirror;
use super::config::ImageConfig;
use super::layer::{LayerId, LayerStore};
use super::log::BuildLog;
use super::reference::Suite;
use super::settings::PackageSettings;
use crate::error::Error;

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// The machine lacks a program, and it cannot be fetched.
    #[error(
        "a Debian base needs `{program}`; on Debian or Ubuntu: `apt-get install mmdebstrap util-linux`"
    )]
    Missing {
        /// Which.
        program: &'static str,
    },
    #[error("{what} could not be started")]
    Start {
        /// What was to run.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    #[error("{what} failed ({status}); its last output:\n{output}")]
    Failed {
        /// What ran.
        what: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last lines.
        output: String,
    },
    #[error("apt on this machine is set up with no Debian mirror (`/etc/apt/sources.list`)")]
    NoMirror,
    #[error("making a Debian tree takes root")]
    NotRoot,
    #[error("this server is told to use the machine's own programs")]
    NotWanted,
    #[error("this machine's own programs cannot be used")]
    Host(#[source] container_runtime::Error),
    #[error("the work was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Server(#[from] Error),
}

/// What bases are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BasePolicy {
    /// A Debian tree from the machine's mirror; its own programs where that fails.
    #[default]
    Debian,
    /// The machine's own programs, without looking for a mirror.
    Host,
}

/// A base in place: its layer, and what it says about programs.
pub(crate) struct PreparedBase {
    pub(crate) layer: LayerId,
    pub(crate) config: ImageConfig,
}

/// Makes and finds bases.
pub(crate) struct Bases {
    store: LayerStore,
    tools: PathBuf,
    /// One base is made at a time; whoever waits finds it made.
    making: Mutex<()>,
}

impl Bases {
    pub(crate) fn new(store: LayerStore, root: &Path) -> Self {
        Self { store, tools: root.join("tools"), making: Mutex::new(()) }
    }

    /// The base of a Debian release, made if it is not there yet; where it cannot be made, this
    /// machine's programs if their Python is the same. The log says which.
    pub(crate) async fn debian(
        &self,
        suite: Suite,
        policy: BasePolicy,
        settings: &PackageSettings,
        log: &BuildLog,
    ) -> Result<PreparedBase, BaseError> {
        let _making = self.making.lock().await;
        let refused = match policy {
            BasePolicy::Debian => match self.made_debian(suite, settings, log).await {
                Ok(layer) => return Ok(prepared(layer, suite.python())),
                Err(error) => error,
            },
            BasePolicy::Host => BaseError::NotWanted,
        };
        if host::python().as_deref() != Some(suite.python()) {
            return Err(refused);
        }
        log.info(format!(
            "no base of {suite} can be made here: {}; this machine's own programs stand in for it, \
             and packages cannot be installed with apt",
            crate::image::chain(&refused)
        ));
        let layer = host::layer_id();
        if !self.store.has(&layer) {
            let (id, store) = (layer.clone(), self.store.clone());
            let made = tokio::task::spawn_blocking(move || host::make(&id, &store)).await;
            made.map_err(BaseError::Interrupted)??;
        }
        Ok(prepared(layer, suite.python()))
    }

    async fn made_debian(
        &self,
        suite: Suite,
        settings: &PackageSettings,
        log: &BuildLog,
    ) -> Result<LayerId, BaseError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BaseError::NotRoot);
        }
        let mirror = machine_mirror().ok_or(BaseError::NoMirror)?;
        let layer = debian::layer_id(suite, &mirror);
        if !self.store.has(&layer) {
            let (store, tools) = (&self.store, &self.tools);
            debian::make(suite, &layer, &mirror, settings, store, tools, log).await?;
        }
        Ok(layer)
    }

    /// Nothing at all: an empty layer.
    pub(crate) fn scratch(&self) -> Result<PreparedBase, BaseError> {
        Ok(PreparedBase { layer: self.empty()?, config: ImageConfig::default() })
    }

    /// The layer that is empty.
    pub(crate) fn empty(&self) -> Result<LayerId, Error> {
        let layer = LayerId::of(&super::digest::Hasher::new("scratch"));
        if !self.store.has(&layer) {
            let scratch = self.store.scratch()?;
            let empty = scratch.path().join("empty");
            crate::durable::create_dir(&empty, 0o755)?;
            self.store.commit(&layer, &empty)?;
        }
        Ok(layer)
    }
}

fn prepared(layer: LayerId, python: &str) -> PreparedBase {
    let config = ImageConfig { python: Some(python.to_owned()), ..ImageConfig::default() };
    PreparedBase { layer, config }
}

/// What apt's files on this machine say.
fn machine_mirror() -> Option<Mirror> {
    let apt = Path::new("/etc/apt");
    let mut paths = vec![apt.join("sources.list")];
    let parts = std::fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    paths.extend(parts.map(|entry| entry.path()));
    paths.sort();
    let files: Vec<String> =
        paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    Mirror::from_sources(&files)
}
