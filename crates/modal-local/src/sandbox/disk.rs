//! The directory of one sandbox on this machine: its changes, and output too long for memory.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use container_runtime::Upper;

use crate::blocking;
use crate::error::{Error, Result};
use crate::ids::SandboxId;
use crate::removal::discard;
use crate::state_dir::StateDir;

/// A sandbox's directory. It holds nothing that must outlive the sandbox.
pub(crate) struct Scratch {
    root: PathBuf,
    trash: PathBuf,
}

impl Scratch {
    pub(super) async fn create(dir: &StateDir, id: &SandboxId) -> Result<Self> {
        Self::create_for(dir, id.as_str()).await
    }

    /// The directory of a container of this name, a sandbox or not.
    pub(crate) async fn create_for(dir: &StateDir, name: &str) -> Result<Self> {
        let scratch = Self { root: dir.sandboxes().join(name), trash: dir.trash() };
        // What most never need is made by who needs it: every directory costs, and costs again when it goes.
        // A private umask makes them narrower, and the container's init widens the upper one itself.
        let parts = [
            (scratch.root.clone(), 0o700),
            (scratch.upper_dir(), 0o755),
            (scratch.work_dir(), 0o700),
        ];
        blocking::run(move || parts.iter().try_for_each(|(part, mode)| make(part, *mode))).await?;
        Ok(scratch)
    }

    /// Where the container's changes go.
    pub(crate) fn upper(&self) -> Upper {
        Upper::Dir { upper: self.upper_dir(), work: self.work_dir() }
    }

    /// Where output goes that is too long for memory: files without names.
    pub(crate) fn spill_dir(&self) -> PathBuf {
        self.root.clone()
    }

    /// Where mounts are laid out that do not fit the image as they are.
    pub(crate) fn mounts_dir(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// What a container is shown beside its image: a socket, its arguments.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn upper_dir(&self) -> PathBuf {
        self.root.join("upper")
    }

    /// Where changes to images go that are mounted while the sandbox runs. There once one is mounted.
    pub(super) fn attached_dir(&self) -> PathBuf {
        self.root.join("attached")
    }

    fn work_dir(&self) -> PathBuf {
        self.root.join("work")
    }
}

impl Drop for Scratch {
    /// Moves the directory away at once, and deletes it in the background.
    fn drop(&mut self) {
        let (root, trash) = (self.root.clone(), self.trash.clone());
        let delete = move || match discard(&root, &trash) {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, dir = %root.display(), "directory not deleted"),
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }
}

/// Deletes the directories of sandboxes of an earlier server.
pub(super) fn discard_leftovers(dir: &StateDir) -> Result<()> {
    let sandboxes = dir.sandboxes();
    let entries = fs::read_dir(&sandboxes).map_err(Error::file("read", &sandboxes))?;
    for entry in entries {
        let path = entry.map_err(Error::file("read", &sandboxes))?.path();
        discard(&path, &dir.trash()).map_err(Error::file("delete", &path))?;
    }
    Ok(())
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(dir).map_err(Error::file("create", dir))
}
