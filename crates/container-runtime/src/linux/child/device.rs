//! The container's own `/dev` and the masks over `/proc`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{chown, symlink};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::super::message::Ids;
use super::super::sys;
use super::{Failure, Stage as _};

/// Nodes of `/dev`: name, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// Files of `/proc` that say or do what concerns the machine.
const HIDDEN: [&str; 12] = [
    "kcore",
    "keys",
    "key-users",
    "sysrq-trigger",
    "timer_list",
    "kmsg",
    "sched_debug",
    "slabinfo",
    "vmallocinfo",
    "interrupts",
    "kpagecount",
    "latency_stats",
];
const READ_ONLY: [&str; 7] = ["sys", "irq", "bus", "fs", "acpi", "scsi", "driver"];
/// The group that owns terminals in Debian.
const TTY_GROUP: u32 = 5;

/// A directory below `/`, made if missing; a link in its place is an error.
pub(super) fn own_directory(name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdir(name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(name, flags, Mode::empty())?)
}

/// A new file system as a detached mount.
pub(super) fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Puts a detached mount on an open file or directory.
pub(super) fn attach(mount: impl AsFd, on: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", on, "", flags)?)
}

/// A detached copy of the mount that shows `path`.
pub(super) fn detached(path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

/// What init keeps of `/dev`, so that it needs no path a program could have changed.
#[derive(Debug)]
pub(super) struct Devices {
    pub(super) null: OwnedFd,
    pub(super) terminals: OwnedFd,
}

/// Makes `/dev`. `host` are the machine's nodes, taken before the root changed, where nodes cannot be made.
pub(super) fn make_dev(ids: Ids, host: &[OwnedFd], shm: u64) -> Result<Devices, Failure> {
    let at = own_directory("/dev").stage(|| "make `/dev`".to_owned())?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "755"), ("size", "1m"), ("nr_inodes", "4096")];
    let dev = new_mount("tmpfs", &options, flags).and_then(|mount| attach(mount, at));
    dev.stage(|| "mount a tmpfs on `/dev`".to_owned())?;
    make_nodes(ids, host).stage(|| "make the nodes of `/dev`".to_owned())?;
    for (target, name) in LINKS {
        symlink(target, format!("/dev/{name}")).stage(|| format!("link `/dev/{name}`"))?;
    }
    make_shm(shm).stage(|| "mount `/dev/shm`".to_owned())?;
    let terminals = make_terminals(ids).stage(|| "mount `/dev/pts`".to_owned())?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())
        .stage(|| "open `/dev/null`".to_owned())?;
    Ok(Devices { null, terminals })
}

/// The machine's nodes as detached mounts, for an ordinary user, who cannot make nodes.
pub(super) fn host_nodes(ids: Ids) -> io::Result<Vec<OwnedFd>> {
    match ids {
        Ids::Range(_) => Ok(Vec::new()),
        Ids::Caller => NODES.iter().map(|(name, ..)| detached(&format!("/dev/{name}"))).collect(),
    }
}

fn make_nodes(ids: Ids, host: &[OwnedFd]) -> io::Result<()> {
    for (index, (name, major, minor)) in NODES.iter().enumerate() {
        let path = format!("/dev/{name}");
        let (kind, device) = match ids {
            Ids::Range(_) => (FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
            Ids::Caller => (FileType::RegularFile, 0),
        };
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o666), device)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o666))?;
        if let Some(node) = host.get(index) {
            let on = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            attach(node, on)?;
        }
    }
    Ok(())
}

fn make_shm(bytes: u64) -> io::Result<()> {
    let at = own_directory("/dev/shm")?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let size = bytes.to_string();
    let options = [("mode", "1777"), ("size", size.as_str()), ("nr_inodes", "65536")];
    attach(new_mount("tmpfs", &options, flags)?, at)
}

fn make_terminals(ids: Ids) -> io::Result<OwnedFd> {
    let at = own_directory("/dev/pts")?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let group = (ids.root() + TTY_GROUP).to_string();
    let mut options = vec![("ptmxmode", "666"), ("mode", "620"), ("max", "256")];
    if let Ids::Range(_) = ids {
        options.push(("gid", &group));
    }
    attach(new_mount("devpts", &options, flags)?, at)?;
    chown("/dev/pts/ptmx", Some(ids.root()), Some(ids.root()))?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/pts", flags, Mode::empty())?)
}

/// A new terminal: its master and its other end.
pub(super) fn open_terminal(terminals: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let user = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, user))
}

/// Hides what `/proc` tells about the machine and makes its switches read-only.
pub(super) fn mask_proc() -> Result<(), Failure> {
    for name in HIDDEN {
        let path = format!("/proc/{name}");
        cover(&path).stage(|| format!("mask `{path}`"))?;
    }
    for name in READ_ONLY {
        let path = format!("/proc/{name}");
        make_read_only(&path).stage(|| format!("make `{path}` read-only"))?;
    }
    Ok(())
}

fn cover(path: &str) -> io::Result<()> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(on) => attach(detached("/dev/null")?, on),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_read_only(path: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let on = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(on) => on,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let copy = detached(path)?;
    let flags = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    sys::mount_setattr(&copy, flags, None)?;
    attach(copy, on)
}
