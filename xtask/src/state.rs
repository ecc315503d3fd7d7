//! The state directory of this machine.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use eval_types::RunId;
use object_store::local::LocalFileSystem;
use results_store::{Index, RunFiles};

use crate::{exit::UsageError, target::Surroundings};

/// `GOAT_STATE_DIR`, else `goat` below `XDG_STATE_HOME`, else `~/.local/state/goat`. The local server
/// keeps its own files there too.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

impl State {
    pub(crate) fn new(around: &impl Surroundings) -> Result<Self, UsageError> {
        let named = around.variable("GOAT_STATE_DIR").map(PathBuf::from);
        let xdg = || around.variable("XDG_STATE_HOME").map(|xdg| Path::new(&xdg).join("goat"));
        let home = || around.home().map(|home| home.join(".local/state/goat"));
        let root = named.or_else(xdg).or_else(home);
        let root = root.ok_or_else(|| {
            UsageError("there is no home directory: set GOAT_STATE_DIR to a directory".to_owned())
        })?;
        let root = std::path::absolute(&root).unwrap_or(root);
        Ok(Self { root })
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the index of runs.
    pub(crate) async fn index(&self) -> anyhow::Result<Index> {
        let directory = self.private("results")?;
        Ok(Index::open(&directory.join("index.sqlite")).await?)
    }

    /// Opens the index of runs; none where no run was ever made here.
    pub(crate) async fn existing_index(&self) -> anyhow::Result<Option<Index>> {
        match self.root.join("results/index.sqlite").exists() {
            true => self.index().await.map(Some),
            false => Ok(None),
        }
    }

    /// Files of runs, this machine's copy.
    pub(crate) fn files(&self) -> anyhow::Result<RunFiles> {
        let directory = self.private("results")?.join("files");
        std::fs::create_dir_all(&directory)?;
        let store = LocalFileSystem::new_with_prefix(&directory)?;
        Ok(RunFiles::new(Arc::new(store)))
    }

    /// Where this machine's copy of a run's files lies, if it does.
    pub(crate) fn files_of(&self, run: &str) -> Option<PathBuf> {
        // The name becomes a path: only that of a run does.
        run.parse::<RunId>().ok().map(|run| self.root.join("results/files").join(run.as_str()))
    }

    /// The journal of a run.
    pub(crate) fn journal(&self, run: &RunId) -> anyhow::Result<PathBuf> {
        Ok(self.private("journals")?.join(format!("{run}.jsonl")))
    }

    /// Marks a run as going on, until the value is dropped or the process dies. None where another
    /// process has marked it.
    pub(crate) fn lock_run(&self, run: &RunId) -> anyhow::Result<Option<File>> {
        let path = self.private("locks")?.join(format!("{run}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Forgets the mark of a run that ended.
    pub(crate) fn forget_lock(&self, run: &RunId) {
        let _gone = std::fs::remove_file(self.root.join("locks").join(format!("{run}.lock")));
    }

    fn private(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).with_context(|| format!("can't make `{}`", path.display()))?;
        Ok(path)
    }
}
