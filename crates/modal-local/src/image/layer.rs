//! Layers: directories named by what made them, complete or absent.
//!
//! A layer's name is the hash of its parent's name and of everything its step depends on, so a name
//! that exists is a result that need not be computed again. It is built elsewhere on the same file
//! system and moved here in one step; a server that is killed leaves no half of one.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::digest::Hasher;
use crate::durable;
use crate::error::{Error, Result};

/// The hash that names a layer, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LayerId(String);

impl LayerId {
    /// The layer that a hash names.
    pub(crate) fn of(hasher: &Hasher) -> Self {
        Self(hasher.finish_hex())
    }

    /// The layer that a step makes on top of this one: `hash` adds what else it depends on.
    pub(crate) fn child(&self, kind: &str, hash: impl FnOnce(&mut Hasher)) -> Self {
        let mut hasher = Hasher::new(kind);
        hasher.part(&self.0);
        hash(&mut hasher);
        Self::of(&hasher)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..12])
    }
}

/// The layers of one state directory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LayerStore {
    layers: PathBuf,
    scratch: PathBuf,
}

impl LayerStore {
    /// Opens the store below `root`; what an earlier server had under way is thrown away.
    pub(crate) fn open(root: &Path, trash: &Path) -> Result<Self> {
        let store = Self { layers: root.join("layers"), scratch: root.join("scratch") };
        discard(&store.scratch, trash)?;
        durable::create_dir(&store.layers, 0o700)?;
        durable::create_dir(&store.scratch, 0o700)?;
        Ok(store)
    }

    /// The directory of a finished layer.
    pub(crate) fn path(&self, id: &LayerId) -> PathBuf {
        self.layers.join(id.as_str())
    }

    pub(crate) fn has(&self, id: &LayerId) -> bool {
        self.path(id).is_dir()
    }

    /// Whether the layer changes nothing; such a one need not be mounted.
    pub(crate) fn is_empty(&self, id: &LayerId) -> Result<bool> {
        let path = self.path(id);
        let mut entries = fs::read_dir(&path).map_err(Error::file("read", &path))?;
        Ok(entries.next().is_none())
    }

    /// A new directory for work under way, removed when dropped.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("build-")
            .tempdir_in(&self.scratch)
            .map_err(Error::file("make a directory in", &self.scratch))
    }

    /// Makes `directory` the layer `id`. If that exists meanwhile, it is the same and stays.
    pub(crate) fn commit(&self, id: &LayerId, directory: &Path) -> Result<()> {
        let path = self.path(id);
        match fs::rename(directory, &path) {
            Ok(()) => durable::sync_parent(&path),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(Error::file("make the layer", &path)(error)),
        }
    }

    /// Every finished layer.
    pub(crate) fn all(&self) -> Result<Vec<LayerId>> {
        let entries = fs::read_dir(&self.layers).map_err(Error::file("read", &self.layers))?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file("read", &self.layers))?;
            ids.extend(entry.file_name().into_string().ok().map(LayerId));
        }
        ids.sort();
        Ok(ids)
    }

    /// Moves a layer that no image needs into `trash`.
    pub(crate) fn discard(&self, id: &LayerId, trash: &Path) -> Result<()> {
        discard(&self.path(id), trash)
    }
}

/// Moves a directory into `trash`; one that is not there is fine.
fn discard(path: &Path, trash: &Path) -> Result<()> {
    let grave = trash.join(format!("image-{}", crate::ids::random_suffix()));
    match fs::rename(path, grave) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("discard", path)(error))
        }
        _ => Ok(()),
    }
}

/// Takes out of a finished upper directory what the container runtime made there: mount points and
/// generated files, and the directories that hold nothing else and were there before.
///
/// Programs wrote to that directory: no link in it is followed.
pub(crate) fn remove_traces(upper: &Path, lower: &[PathBuf], paths: &[&str]) -> Result<()> {
    for path in paths {
        let relative = Path::new(path.trim_start_matches('/'));
        remove_one(upper, relative).map_err(Error::file("remove", upper.join(relative)))?;
        for parent in relative.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            let was_there = lower.iter().any(|layer| layer.join(parent).is_dir());
            let made_for_mount = !was_there && !is_link(upper, parent);
            let is_ours = was_there || made_for_mount;
            if !(is_ours && matches!(remove_directory(upper, parent), Ok(true))) {
                break;
            }
        }
    }
    Ok(())
}

fn is_link(upper: &Path, path: &Path) -> bool {
    upper.join(path).is_symlink()
}

/// Removes a file or an empty directory, if it is there.
fn remove_one(upper: &Path, relative: &Path) -> io::Result<()> {
    let Some((parent, name)) = open_parent(upper, relative)? else { return Ok(()) };
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        // The kernel's two ways to say that it is a directory.
        Err(Errno::ISDIR | Errno::PERM) => remove_directory(upper, relative).map(drop),
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a directory if it is there and empty; whether it was.
fn remove_directory(upper: &Path, relative: &Path) -> io::Result<bool> {
    let Some((parent, name)) = open_parent(upper, relative)? else { return Ok(false) };
    match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The directory that `relative` lies in, reached without following a link; `None` if it is not there.
fn open_parent<'p>(
    upper: &Path,
    relative: &'p Path,
) -> io::Result<Option<(OwnedFd, &'p std::ffi::OsStr)>> {
    let Some(name) = relative.file_name() else { return Ok(None) };
    let parent = relative.parent().filter(|it| !it.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, upper, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = parent.unwrap_or(Path::new("."));
    match rustix::fs::openat2(&root, parent, flags, Mode::empty(), resolve) {
        Ok(parent) => Ok(Some((parent, name))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> LayerStore {
        LayerStore::open(&dir.join("images"), dir).unwrap()
    }

    #[test]
    fn a_layer_is_there_completely_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let id = LayerId::of(&Hasher::new("test"));
        let scratch = store.scratch().unwrap();
        let upper = scratch.path().join("upper");
        fs::create_dir(&upper).unwrap();
        fs::write(upper.join("a"), "1").unwrap();
        assert!(!store.has(&id));
        store.commit(&id, &upper).unwrap();
        assert!(store.has(&id) && !store.is_empty(&id).unwrap());
        assert_eq!(store.all().unwrap(), std::slice::from_ref(&id));
        fs::create_dir(&upper).unwrap();
        store.commit(&id, &upper).unwrap();
        assert!(!store.is_empty(&id).unwrap(), "the first stays");
    }

    #[test]
    fn work_under_way_does_not_outlive_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let kept = store(dir.path()).scratch().unwrap().keep();
        assert!(kept.exists());
        store(dir.path());
        assert!(!kept.exists());
    }

    #[test]
    fn traces_of_the_runtime_go_and_the_step_s_own_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in ["upper/etc", "upper/run/settings", "upper/data", "lower/etc", "lower/run"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("etc/mine"), "").unwrap();
        remove_traces(&upper, &[lower], &["/etc/hosts", "/run/settings"]).unwrap();
        let left: Vec<_> = walkdir::WalkDir::new(&upper)
            .min_depth(1)
            .sort_by_file_name()
            .into_iter()
            .map(|entry| entry.unwrap().path().strip_prefix(&upper).unwrap().to_owned())
            .collect();
        assert_eq!(left, ["data", "etc", "etc/mine"].map(PathBuf::from));
    }

    #[test]
    fn traces_are_not_looked_for_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("hosts"), "the machine's").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("etc")).unwrap();
        std::os::unix::fs::symlink("../outside", upper.join("data")).unwrap();
        remove_traces(&upper, &[], &["/etc/hosts", "/data/hosts"]).unwrap();
        assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "the machine's");
        assert!(upper.join("etc").is_symlink());
    }
}
