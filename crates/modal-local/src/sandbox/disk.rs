//! The directory of one sandbox on this machine: its changes, and output too long for memory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use container_runtime::Upper;

use crate::blocking;
use crate::error::{Error, Result};
use crate::ids::{SandboxId, random_suffix};
use crate::state_dir::StateDir;

/// Levels of directories that are deleted in place; those below are moved up first, which costs more.
const NESTED: usize = 16;

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

/// Deletes a directory whatever a program has put into it: however deep, wide or unreadable.
///
/// Nothing may write to it any more. Links are removed, never followed.
fn discard(root: &Path, trash: &Path) -> io::Result<()> {
    let mut pending = vec![move_into(root, trash)?];
    while let Some(dir) = pending.pop() {
        delete(&dir, NESTED, &mut |deep| {
            pending.push(move_into(deep, trash)?);
            Ok(())
        })?;
    }
    Ok(())
}

/// Deletes a directory and, so many levels down, what it holds. Deeper directories are handed to
/// `move_away`, so that neither paths nor open files pile up.
fn delete(
    dir: &Path,
    levels: usize,
    move_away: &mut impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // Most directories are empty: one call does it.
    if fs::remove_dir(dir).is_ok() {
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match (entry.file_type()?.is_dir(), levels.checked_sub(1)) {
            (false, _) => fs::remove_file(entry.path())?,
            (true, Some(levels)) => delete(&entry.path(), levels, move_away)?,
            (true, None) => move_away(&entry.path())?,
        }
    }
    fs::remove_dir(dir)
}

fn move_into(path: &Path, trash: &Path) -> io::Result<PathBuf> {
    // A directory can only be moved by who may write to it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let target = trash.join(random_suffix());
    fs::rename(path, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_program_left_is_deleted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, trash) = (dir.path().join("root"), dir.path().join("trash"));
        let outside = dir.path().join("outside");
        fs::create_dir(&trash).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(&outside, "stays").unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("a/dir-link")).unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        discard(&root, &trash).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
    }

    #[test]
    fn depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir(&trash).unwrap();
        // Built from the inside out: the path from the outside would be too long to write.
        let mut inner = dir.path().join("d0");
        fs::create_dir(&inner).unwrap();
        for level in 1..3_000 {
            let outer = dir.path().join(format!("d{level}"));
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("x")).unwrap();
            inner = outer;
        }
        discard(&inner, &trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }
}
