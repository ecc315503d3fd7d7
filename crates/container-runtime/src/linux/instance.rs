//! One running server: its name, its lock, its scratch directory, and the leftovers of those that were killed.
//!
//! An instance is called `goat-<boot>-<pid>-<start>-<n>-<pid namespace>`. Its lock file lists the control groups it
//! made; a lock that can be taken belongs to an instance that is gone, so its groups are emptied and removed and its
//! directory deleted. Mounts live in private namespaces and need no cleaning. A reboot is the same with nothing but
//! directories.
//!
//! An instance whose state directory was deleted has no lock file any more. Its groups tell by their name whose they
//! are: the next instance, over whatever directory, removes those whose process is gone ([`Owner`]).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::cgroup::{Groups, children, hierarchies, remove_group};
use super::remove_tree::remove_tree;
use crate::error::{Error, Result};

mod owner;

use self::owner::Owner;
const LOCK: &str = "lock";

/// This instance; its lock is held as long as the value lives.
#[derive(Debug)]
pub(crate) struct Instance {
    directory: PathBuf,
    lock_path: PathBuf,
    trash: PathBuf,
    groups: Groups,
    removed: AtomicBool,
    _lock: File,
}

impl Drop for Instance {
    /// Cleans up after a runtime that was dropped and not shut down; blocks until its processes are dead.
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed)
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, "an instance of the container runtime leaves something behind");
        }
    }
}

impl Instance {
    /// Cleans up after dead instances, then claims a name, a directory and control groups.
    pub(crate) fn claim(state_dir: &Path) -> Result<Self> {
        let instances = private_directory(&state_dir.join("instances"))?;
        let trash = private_directory(&state_dir.join("trash"))?;
        // Nobody may mistake a new instance, not yet locked, for a dead one.
        let gate = instances.join("gate");
        let guard = File::create(&gate).map_err(Error::host("create", &gate))?;
        guard.lock().map_err(Error::host("lock", &gate))?;
        remove_dead(&instances, &trash)?;
        let name = Owner::myself().instance_name();
        let lock_path = instances.join(&name).with_extension(LOCK);
        let mut lock = File::create(&lock_path).map_err(Error::host("create", &lock_path))?;
        lock.lock().map_err(Error::host("lock", &lock_path))?;
        let groups = Groups::set_up(&name);
        record(&mut lock, &groups.directories()).map_err(Error::host("write", &lock_path))?;
        let directory = private_directory(&instances.join(&name))?;
        private_directory(&directory.join("stage"))?;
        clean_up_in_background(trash.clone());
        let removed = AtomicBool::new(false);
        Ok(Self { directory, lock_path, trash, groups, removed, _lock: lock })
    }

    /// Scratch space that goes with the instance.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// An empty directory that every init mounts its own tmpfs on.
    pub(crate) fn stage(&self) -> PathBuf {
        self.directory.join("stage")
    }

    /// Its control groups.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Removes everything of it. All its containers must have ended.
    pub(crate) fn remove(&self) -> Result<()> {
        self.removed.store(true, Ordering::Relaxed);
        self.groups.remove().map_err(Error::system("remove the instance's control groups"))?;
        discard(&self.directory, &self.trash)?;
        empty(&self.trash).map_err(Error::host("empty", &self.trash))?;
        fs::remove_file(&self.lock_path).map_err(Error::host("remove", &self.lock_path))
    }
}

fn private_directory(path: &Path) -> Result<PathBuf> {
    let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    make.map_err(Error::host("create directory", path))?;
    fs::canonicalize(path).map_err(Error::host("resolve", path))
}

/// One control group a line.
fn record(lock: &mut File, groups: &[PathBuf]) -> io::Result<()> {
    for group in groups {
        lock.write_all(group.as_os_str().as_bytes())?;
        lock.write_all(b"\n")?;
    }
    lock.sync_data()
}

fn remove_dead(instances: &Path, trash: &Path) -> Result<()> {
    for entry in fs::read_dir(instances).map_err(Error::host("list", instances))? {
        let path = entry.map_err(Error::host("list", instances))?.path();
        if path.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::host("open", &path)(error)),
        };
        match lock.try_lock() {
            Ok(()) => remove_one(&path, trash)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(Error::host("lock", &path)(error)),
        }
    }
    Ok(())
}

fn remove_one(lock: &Path, trash: &Path) -> Result<()> {
    let groups = fs::read(lock).map_err(Error::host("read", lock))?;
    for group in groups.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let group = PathBuf::from(std::ffi::OsString::from_vec(group.to_vec()));
        // A line cut off by a crash must not name a group of somebody else.
        let ours = group.file_name() == lock.file_stem();
        if ours {
            remove_group(&group).map_err(Error::host("remove control group", &group))?;
        }
    }
    discard(&lock.with_extension(""), trash)?;
    fs::remove_file(lock).map_err(Error::host("remove", lock))
}

/// Moves a directory out of the way; deleting it may take long.
fn discard(directory: &Path, trash: &Path) -> Result<()> {
    let name = directory.file_name().unwrap_or_default();
    match fs::rename(directory, trash.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::host("move to the trash", directory)),
    }
}

fn empty(trash: &Path) -> io::Result<()> {
    for entry in fs::read_dir(trash)? {
        match remove_tree(&entry?.path()) {
            // Another instance empties the same trash.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn clean_up_in_background(trash: PathBuf) {
    std::thread::spawn(move || {
        if let Err(error) = empty(&trash) {
            tracing::warn!(path = %trash.display(), %error, "cannot empty the trash");
        }
        remove_orphans(&hierarchies());
    });
}

/// Removes the groups, anywhere in these hierarchies, of instances whose process is gone.
fn remove_orphans(hierarchies: &[PathBuf]) {
    for group in hierarchies.iter().flat_map(|top| find_groups(top, &|owner| owner.is_gone())) {
        match remove_group(&group) {
            Ok(()) => tracing::info!(group = %group.display(), "removed what a dead instance left"),
            // It may be another user's.
            Err(error) => tracing::debug!(group = %group.display(), %error, "a dead instance's"),
        }
    }
}

/// Groups with the name of an instance; nothing of an instance lies below another's.
fn find_groups(top: &Path, wanted: &dyn Fn(&Owner) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(directory) = pending.pop() {
        for child in children(&directory) {
            match child.file_name().and_then(|name| name.to_str()).and_then(Owner::of) {
                Some(owner) if wanted(&owner) => found.push(child),
                Some(_) => {}
                None => pending.push(child),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_instance_is_cleaned_up_and_a_live_one_is_not() {
        let state = tempfile::tempdir().unwrap();
        let live = Instance::claim(state.path()).unwrap();
        let dead = state.path().join("instances/goat-0-1-2-3");
        fs::create_dir_all(dead.join("upper/deep")).unwrap();
        fs::write(dead.with_extension(LOCK), "/nonexistent/goat-0-1-2-3\n/etc\n").unwrap();
        let next = Instance::claim(state.path()).unwrap();
        assert!(!dead.exists() && !dead.with_extension(LOCK).exists());
        assert!(live.stage().exists() && next.stage().exists());
        assert_ne!(live.directory(), next.directory());
        live.remove().unwrap();
        next.remove().unwrap();
        let left: Vec<_> = fs::read_dir(state.path().join("instances")).unwrap().collect();
        assert_eq!(left.len(), 1, "only the gate stays: {left:?}");
    }

    #[test]
    fn groups_without_a_state_directory_go_with_their_process() {
        let top = tempfile::tempdir().unwrap();
        let mut process = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let of = |owner: &Owner| top.path().join("some/scope").join(owner.instance_name());
        let (own, its) = (Owner::myself(), Owner::of_process(process.id()).unwrap());
        let elsewhere = top.path().join(format!("goat-0-{}-1-0-1", process.id()));
        for group in [&of(&own), &of(&its), &elsewhere] {
            fs::create_dir_all(group).unwrap();
        }
        let names = |directory: &Path| fs::read_dir(directory).unwrap().count();
        remove_orphans(&[top.path().to_owned()]);
        assert_eq!(names(&top.path().join("some/scope")), 2, "both processes live");
        process.kill().unwrap();
        process.wait().unwrap();
        remove_orphans(&[top.path().to_owned()]);
        assert_eq!(names(&top.path().join("some/scope")), 1, "the dead one's is gone");
        assert!(elsewhere.exists(), "whose processes are not in view, nobody can say");
    }
}
