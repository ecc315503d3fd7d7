//! A disk of its own for a machine's state, which a test fills.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use it::Machine;
use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount,
        unmount,
    },
    thread::UnshareFlags,
};

/// More than a deployment needs; only what is used takes memory.
const ROOM: u64 = 12 << 30;

/// A machine whose state directory is a file system in memory. This thread and what it starts see it, and it goes with
/// them; image layers that were there before lie where they lay.
pub(crate) struct SmallDisk<'m> {
    machine: &'m Machine,
}

impl<'m> SmallDisk<'m> {
    /// Makes it. The machine's server must not have started yet.
    pub(crate) fn of(machine: &'m Machine) -> Self {
        #[expect(
            deprecated,
            reason = "the other form is unsafe, for a flag that is not used here"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNS)
            .expect("this test mounts a file system: run it as root");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let (state, planted) = (machine.state(), machine.path().join("planted"));
        fs::create_dir_all(layers(&state)).unwrap();
        fs::rename(layers(&state), &planted).unwrap();
        mount("tmpfs", &state, "tmpfs", MountFlags::empty(), &*size(ROOM)).unwrap();
        fs::create_dir_all(layers(&state)).unwrap();
        let disk = Self { machine };
        for layer in fs::read_dir(planted).unwrap().map(Result::unwrap) {
            symlink(layer.path(), layers(&state).join(layer.file_name())).unwrap();
        }
        disk
    }

    /// From now on no more than that can be written.
    pub(crate) fn leave(&self, bytes: u64) {
        let space = rustix::fs::statvfs(self.machine.state()).unwrap();
        self.resize((space.f_blocks - space.f_bfree) * space.f_frsize + bytes);
    }

    pub(crate) fn make_room(&self) {
        self.resize(ROOM);
    }

    fn resize(&self, bytes: u64) {
        mount_remount(self.machine.state(), MountFlags::empty(), &*size(bytes)).unwrap();
    }

    /// What a build has begun and not removed.
    pub(crate) fn half_built(&self) -> Vec<PathBuf> {
        let begun = fs::read_dir(self.machine.state().join("images/scratch")).unwrap();
        begun.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Before the machine does it: then its directory is another one.
        let _ = self.machine.run(&["local", "stop"]);
        let _ = unmount(self.machine.state(), UnmountFlags::DETACH);
    }
}

fn layers(state: &Path) -> PathBuf {
    state.join("images/layers")
}

fn size(bytes: u64) -> CString {
    CString::new(format!("size={bytes}")).unwrap()
}
