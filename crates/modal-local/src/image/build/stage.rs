//! One stage of a build: the layers so far and what they mean.

use std::path::PathBuf;

use crate::error::Result;
use crate::image::config::{Arguments, ImageConfig};
use crate::image::layer::{LayerId, LayerStore};
use crate::image::log::BuildLog;
use crate::image::record::Built;
use crate::image::squash;

/// The state after some instructions.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// `FROM … AS alias`.
    pub(super) alias: Option<String>,
    /// Lowest first.
    pub(super) layers: Vec<LayerId>,
    /// Names all that led here, layers that changed nothing included.
    pub(super) tip: LayerId,
    pub(super) config: ImageConfig,
    pub(super) arguments: Arguments,
    /// `CMD` was given since `FROM`: an entry point leaves it, and makes an inherited one void.
    pub(super) has_own_cmd: bool,
    /// The base was made to be what the further steps would make of it.
    pub(super) is_prepared: bool,
}

impl Stage {
    pub(super) fn new(layer: LayerId, config: ImageConfig) -> Self {
        Self {
            alias: None,
            layers: vec![layer.clone()],
            tip: layer,
            config,
            arguments: Arguments::default(),
            has_own_cmd: false,
            is_prepared: false,
        }
    }

    pub(super) fn of(built: Built) -> Self {
        Self { layers: built.layers, ..Self::new(built.tip, built.config) }
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.alias.as_deref().is_some_and(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// Makes everything above the base one layer.
    pub(super) async fn squash(&mut self, store: &LayerStore, log: &BuildLog) -> Result<()> {
        let Some((base, above)) = self.layers.split_first() else { return Ok(()) };
        let id = base.child("squash", |hasher| {
            hasher.parts(above.iter().map(LayerId::as_str));
        });
        if !store.has(&id) {
            log.info(format!("making {} layers one", above.len()));
            let directories: Vec<PathBuf> = above.iter().map(|layer| store.path(layer)).collect();
            merge(store, directories, &id).await?;
        }
        self.layers = vec![base.clone(), id];
        Ok(())
    }
}

async fn merge(store: &LayerStore, directories: Vec<PathBuf>, id: &LayerId) -> Result<()> {
    let (store, id) = (store.clone(), id.clone());
    crate::blocking::run(move || {
        let scratch = store.scratch()?;
        let target = scratch.path().join("merged");
        let directories: Vec<_> = directories.iter().map(PathBuf::as_path).collect();
        squash::merge(&directories, &target)?;
        store.commit(&id, &target)
    })
    .await
}
