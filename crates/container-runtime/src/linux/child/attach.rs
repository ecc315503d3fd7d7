//! File systems mounted in the running container, by init.
//!
//! Layers and changes come as detached mounts. They are put together as the root was, on a tmpfs of init's own that no
//! program inside can enter, and the overlay is moved from there to its place.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::super::message::Ids;
use super::super::sys;
use super::{device, layers, root};

/// Where the overlay is put together; `/dev` is init's own.
const STAGE: &str = "/dev/.attach";

/// What is mounted, by its target.
#[derive(Debug, Default)]
pub(super) struct Attached(HashMap<PathBuf, OwnedFd>);

impl Attached {
    /// Mounts an overlay of `trees` (changes first, then layers from the lowest) on `target`.
    pub(super) fn attach(
        &mut self,
        target: &Path,
        trees: Vec<OwnedFd>,
        users: Option<BorrowedFd<'_>>,
        ids: Ids,
    ) -> io::Result<()> {
        if self.0.contains_key(target) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let overlay = assemble(trees, users, ids)?;
        let on = as_root(ids, || place(target))?;
        device::attach(&overlay, on)?;
        self.0.insert(target.to_owned(), overlay);
        Ok(())
    }

    /// Takes it away. By its descriptor: a program may have put a link into its path.
    pub(super) fn detach(&mut self, target: &Path) -> io::Result<()> {
        let mount =
            self.0.remove(target).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        rustix::process::fchdir(&mount)?;
        let done = unmount(".", UnmountFlags::DETACH);
        std::env::set_current_dir("/")?;
        Ok(done?)
    }
}

/// The overlay as a detached mount.
fn assemble(trees: Vec<OwnedFd>, users: Option<BorrowedFd<'_>>, ids: Ids) -> io::Result<OwnedFd> {
    for (index, tree) in trees.iter().enumerate() {
        layers::restrict(tree, index > 0, users)?;
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let stage = device::new_mount("tmpfs", &[("mode", "700"), ("size", "64k")], flags)?;
    device::attach(&stage, device::own_directory(STAGE)?)?;
    rustix::process::fchdir(&stage)?;
    let made = layers::overlay(&trees, ids);
    // The overlay holds what it consists of; its stage goes in any case.
    std::env::set_current_dir("/")?;
    unmount(STAGE, UnmountFlags::DETACH)?;
    rustix::fs::rmdir(STAGE)?;
    made
}

/// The target, made if it is missing.
fn place(target: &Path) -> io::Result<OwnedFd> {
    root::make_directories(target)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(CWD, target, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?)
}

/// What is made belongs to root inside.
fn as_root<T>(ids: Ids, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    sys::keep_capabilities(true)?;
    sys::set_file_ids(ids.root(), ids.root());
    let made = make();
    sys::set_file_ids(0, 0);
    sys::keep_capabilities(false)?;
    made
}
