//! The container's file system and network, made in order; after this no path of the machine is reachable.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::super::message::{Ids, Plan};
use super::super::sys;
use super::device::{self, Devices};
use super::{Failure, Stage as _, layers};
use crate::spec::{GeneratedFile, Upper};

/// The container's address on its TUN device.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// Who serves the TUN device answers for this.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// What init keeps of the making.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) devices: Devices,
    pub(super) tun: Option<OwnedFd>,
}

/// Makes everything; on return the calling process's root is the container's.
pub(super) fn make(plan: &Plan, users: Option<BorrowedFd<'_>>) -> Result<Made, Failure> {
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", propagation).stage(|| "detach from the machine's mounts".to_owned())?;
    sys::loopback_up().stage(|| "bring the loopback interface up".to_owned())?;
    let tun = plan.tun.then(make_tun).transpose()?;
    let mounts = open_mounts(plan, users)?;
    // An ordinary user may mount a new `/proc` only while the machine's is in view.
    let proc = device::new_mount("proc", &[], no_programs())
        .stage(|| "make a file system for `/proc`".to_owned())?;
    let nodes = device::host_nodes(plan.ids).stage(|| "open the machine's `/dev`".to_owned())?;
    set_up_upper(&plan.upper)?;
    layers::assemble(plan, users)?;
    leave_old_root().stage(|| "leave the old root".to_owned())?;
    // From here on everything made belongs to root inside.
    sys::keep_capabilities(true).stage(|| "keep capabilities".to_owned())?;
    sys::set_file_ids(plan.ids.root(), plan.ids.root());
    let devices = furnish(plan, &proc, &nodes, mounts);
    sys::set_file_ids(0, 0);
    sys::keep_capabilities(false).stage(|| "reset capabilities".to_owned())?;
    Ok(Made { devices: devices?, tun })
}

fn make_tun() -> Result<OwnedFd, Failure> {
    let tun = sys::open_tun().stage(|| "open `/dev/net/tun`".to_owned())?;
    sys::configure_tun(ADDRESS, MASK, GATEWAY).stage(|| "configure `eth0`".to_owned())?;
    Ok(tun)
}

/// The root's own permissions come from the upper directory, which may have been made with a narrow umask.
fn set_up_upper(upper: &Upper) -> Result<(), Failure> {
    let Upper::Dir { upper, .. } = upper else { return Ok(()) };
    fs::set_permissions(upper, fs::Permissions::from_mode(0o755))
        .stage(|| format!("set permissions of `{}`", upper.display()))
}

struct OpenMount<'a> {
    tree: OwnedFd,
    is_directory: bool,
    target: &'a Path,
}

/// Opens what is bound in while the machine's paths still exist.
fn open_mounts<'a>(
    plan: &'a Plan,
    users: Option<BorrowedFd<'_>>,
) -> Result<Vec<OpenMount<'a>>, Failure> {
    let open = |mount: &'a crate::spec::Mount| {
        let shown = || format!("show `{}`", mount.source.display());
        let (is_directory, tree) = if mount.sub_path.as_os_str().is_empty() {
            let is_directory = fs::metadata(&mount.source).stage(shown)?.is_dir();
            (is_directory, layers::host_tree(&mount.source, mount.read_only, users).stage(shown)?)
        } else {
            let below = || format!("show `{}`", mount.source.join(&mount.sub_path).display());
            let directory = layers::open_below(&mount.source, &mount.sub_path).stage(below)?;
            (true, layers::opened_tree(&directory, mount.read_only, users).stage(below)?)
        };
        Ok(OpenMount { tree, is_directory, target: &mount.target })
    };
    plan.mounts.iter().map(open).collect()
}

fn leave_old_root() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// `/proc`, `/dev`, `/sys`, what is bound in, generated files, the host name, the masks.
fn furnish(
    plan: &Plan,
    proc: &OwnedFd,
    nodes: &[OwnedFd],
    mounts: Vec<OpenMount<'_>>,
) -> Result<Devices, Failure> {
    let mounted = device::own_directory("/proc").and_then(|at| device::attach(proc, at));
    mounted.stage(|| "mount `/proc`".to_owned())?;
    let devices = device::make_dev(plan.ids, nodes, plan.shm)?;
    hide_sys().stage(|| "hide `/sys`".to_owned())?;
    for mount in mounts {
        bind(&mount).stage(|| format!("bind on `{}`", mount.target.display()))?;
    }
    for (index, file) in plan.files.iter().enumerate() {
        let written = if plan.durable { show_file(index, file) } else { write_file(file) };
        written.stage(|| format!("write `{}`", file.path.display()))?;
    }
    rustix::system::sethostname(plan.hostname.as_bytes())
        .stage(|| "set the host name".to_owned())?;
    open_ports(plan.ids).stage(|| "open low ports to root inside".to_owned())?;
    device::mask_proc()?;
    Ok(devices)
}

fn no_programs() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// An empty `/sys`: even in a new network namespace a real one tells of the machine's devices.
fn hide_sys() -> io::Result<()> {
    let at = device::own_directory("/sys")?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let options = [("mode", "555"), ("size", "4k"), ("nr_inodes", "2")];
    device::attach(device::new_mount("tmpfs", &options, flags)?, at)
}

pub(super) fn make_directories(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn bind(mount: &OpenMount<'_>) -> io::Result<()> {
    if mount.is_directory {
        make_directories(mount.target)?;
    } else {
        if let Some(parent) = mount.target.parent() {
            make_directories(parent)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o644).open(mount.target)?;
    }
    let on = rustix::fs::open(mount.target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    device::attach(&mount.tree, on)
}

/// Writes a generated file into the root; a link in its place is replaced, not followed.
fn write_file(file: &GeneratedFile) -> io::Result<()> {
    if let Some(parent) = file.path.parent() {
        make_directories(parent)?;
    }
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => write_new(&file.path, file),
    }
}

fn write_new(path: &Path, file: &GeneratedFile) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut out = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
    out.write_all(&file.contents)?;
    out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))
}

/// Shows a generated file without writing its contents into an upper directory that becomes a layer.
fn show_file(index: usize, file: &GeneratedFile) -> io::Result<()> {
    let source = format!("/dev/.generated-{index}");
    write_new(Path::new(&source), file)?;
    let tree = device::detached(&source)?;
    // A link would be followed to a place that need not exist yet.
    let target: PathBuf = fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
    if fs::symlink_metadata(&target).is_ok_and(|found| found.is_symlink()) {
        fs::remove_file(&target)?;
    }
    bind(&OpenMount { tree, is_directory: false, target: &target })?;
    fs::remove_file(&source)
}

/// Root inside owns no capability over its network namespace: ports below 1024 and ping are opened to everyone instead.
fn open_ports(ids: Ids) -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    let groups = match ids {
        Ids::Range(_) => "0 2147483647",
        Ids::Caller => "0 0",
    };
    fs::write("/proc/sys/net/ipv4/ping_group_range", groups)
}
