//! The overlay root: layers and upper as detached, id-mapped mounts, put together on a private tmpfs.
//!
//! Layers hold ids as seen inside (0 to 65535); an id-mapped mount shows them in the container's range, so one layer
//! serves every container. The upper directory of a build is id-mapped too, and for that the mounting thread's file ids
//! must be ids of the range: overlayfs makes its work directory as the mounter, and ids that the mapping does not know
//! would leave the overlay silently read-only.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::super::message::{Ids, Plan};
use super::super::sys;
use super::{Failure, Stage as _};
use crate::spec::Upper;

/// What overlayfs may not do: keep state that makes a layer unusable elsewhere.
const OPTIONS: &str = "index=off,xino=off,redirect_dir=nofollow,metacopy=off";
/// The same for an ordinary user, for whom redirects and metacopy do not exist.
const USER_OPTIONS: &str = "index=off,xino=off,userxattr";

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// A path of the machine as a mount of its own: no set-user-id programs, no devices, ids mapped.
pub(super) fn host_tree(
    path: &Path,
    read_only: bool,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let tree = open_tree(CWD, path, CLONE)?;
    restrict(&tree, read_only, users)?;
    Ok(tree)
}

/// The same of a directory that is open.
pub(super) fn opened_tree(
    directory: &OwnedFd,
    read_only: bool,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let tree = open_tree(directory, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?;
    restrict(&tree, read_only, users)?;
    Ok(tree)
}

/// Opens a directory that other containers may be renaming or replacing with a link at this moment.
pub(super) fn open_below(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(root, path, flags | OFlags::NOFOLLOW, Mode::empty(), resolve)?)
}

/// Allows no set-user-id programs and no devices on a detached mount, and maps its ids.
pub(super) fn restrict(
    tree: impl AsFd,
    read_only: bool,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::mount_setattr(tree, attributes, users)
}

/// Mounts the overlay at `merged` below the stage and makes that the working directory.
pub(super) fn assemble(plan: &Plan, users: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let layers: Vec<OwnedFd> = plan
        .layers
        .iter()
        .map(|layer| {
            host_tree(layer, true, users).stage(|| format!("show layer `{}`", layer.display()))
        })
        .collect::<Result<_, _>>()?;
    let upper = UpperTree::open(&plan.upper, users)?;
    mount_stage(plan)?;
    for (index, layer) in layers.iter().enumerate() {
        place(layer, &index.to_string()).stage(|| format!("place layer {index}"))?;
    }
    let changes = upper.place(plan.ids)?;
    let lower: Vec<String> = (0..layers.len()).rev().map(|index| index.to_string()).collect();
    let options = options(plan, &lower.join(":"), &changes);
    mkdir("merged", 0o755).stage(|| "make the mount point of the root".to_owned())?;
    mount_overlay(plan.ids, &options).stage(|| "mount the overlay root".to_owned())?;
    std::env::set_current_dir("merged").stage(|| "enter the new root".to_owned())
}

/// A tmpfs that nobody else sees, over an empty directory of the instance. A sandbox's changes lie on it too.
fn mount_stage(plan: &Plan) -> Result<(), Failure> {
    let options = match plan.upper {
        Upper::Tmpfs { bytes, inodes } => format!("mode=755,size={bytes},nr_inodes={inodes}"),
        Upper::Dir { .. } => "mode=755,size=1m".to_owned(),
    };
    let options = CString::new(options).stage(|| "describe the stage".to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &plan.stage, "tmpfs", flags, Some(options.as_c_str()))
        .stage(|| format!("mount a tmpfs on `{}`", plan.stage.display()))?;
    std::env::set_current_dir(&plan.stage).stage(|| "enter the stage".to_owned())
}

/// Where overlayfs finds upper and work, relative to the stage.
struct Changes {
    upper: PathBuf,
    work: PathBuf,
    on_disk: bool,
}

/// The upper side before the stage exists.
enum UpperTree {
    Memory,
    /// One mount that holds both directories: overlayfs refuses two.
    Disk {
        tree: OwnedFd,
        changes: Changes,
    },
}

impl UpperTree {
    fn open(upper: &Upper, users: Option<BorrowedFd<'_>>) -> Result<Self, Failure> {
        let Upper::Dir { upper, work } = upper else { return Ok(Self::Memory) };
        let shared: PathBuf = upper
            .components()
            .zip(work.components())
            .take_while(|(a, b)| a == b)
            .map(|(part, _)| part)
            .collect();
        let below =
            |path: &Path| Path::new("changes").join(path.strip_prefix(&shared).unwrap_or(path));
        let changes = Changes { upper: below(upper), work: below(work), on_disk: true };
        let tree = host_tree(&shared, false, users)
            .stage(|| format!("show `{}` for changes", shared.display()))?;
        Ok(Self::Disk { tree, changes })
    }

    fn place(self, ids: Ids) -> Result<Changes, Failure> {
        match self {
            Self::Disk { tree, changes } => {
                place(&tree, "changes").stage(|| "place the upper directory".to_owned())?;
                Ok(changes)
            }
            Self::Memory => {
                let root = Some(ids.root());
                for name in ["upper", "work"] {
                    mkdir(name, 0o755)
                        .and_then(|()| chown(name, root, root))
                        .stage(|| format!("make the {name} directory"))?;
                }
                Ok(Changes { upper: "upper".into(), work: "work".into(), on_disk: false })
            }
        }
    }
}

/// An overlay of its own as a detached mount, put together in the working directory: `trees` are the changes, which have
/// the directories `upper` and `work`, and the layers from the lowest.
pub(super) fn overlay(trees: &[OwnedFd], ids: Ids) -> io::Result<OwnedFd> {
    for (index, tree) in trees.iter().enumerate() {
        place(tree, &index.to_string())?;
    }
    let lower: Vec<String> = (1..trees.len()).rev().map(|index| index.to_string()).collect();
    let fixed = fixed_options(ids);
    let options =
        format!("lowerdir={},upperdir=0/upper,workdir=0/work,{fixed},volatile", lower.join(":"));
    mkdir("merged", 0o755)?;
    mount_overlay(ids, options.as_bytes())?;
    Ok(open_tree(CWD, "merged", CLONE)?)
}

fn fixed_options(ids: Ids) -> &'static str {
    match ids {
        Ids::Range(_) => OPTIONS,
        Ids::Caller => USER_OPTIONS,
    }
}

fn mkdir(name: &str, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(name, Mode::from_raw_mode(mode))?)
}

fn place(tree: &OwnedFd, name: &str) -> io::Result<()> {
    mkdir(name, 0o755)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", CWD, name, flags)?)
}

/// The mount options. Relative, short names: `/proc/self/mountinfo` shows them inside, and they fit one page.
fn options(plan: &Plan, lower: &str, changes: &Changes) -> Vec<u8> {
    let mut options = format!("lowerdir={lower},upperdir=").into_bytes();
    push_escaped(&mut options, &changes.upper);
    options.extend_from_slice(b",workdir=");
    push_escaped(&mut options, &changes.work);
    options.push(b',');
    options.extend_from_slice(fixed_options(plan.ids).as_bytes());
    if changes.on_disk && !plan.durable {
        options.extend_from_slice(b",volatile");
    }
    options
}

/// Commas end options and backslashes escape.
fn push_escaped(options: &mut Vec<u8>, path: &Path) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\' | b':') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
}

fn mount_overlay(ids: Ids, options: &[u8]) -> io::Result<()> {
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    sys::keep_capabilities(true)?;
    sys::set_file_ids(ids.root(), ids.root());
    let mounted = mount("overlay", "merged", "overlay", flags, Some(options.as_c_str()));
    sys::set_file_ids(0, 0);
    sys::keep_capabilities(false)?;
    Ok(mounted?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_to_overlayfs_are_escaped() {
        let mut options = Vec::new();
        push_escaped(&mut options, Path::new(r"a,b:c\d"));
        assert_eq!(String::from_utf8(options).unwrap(), r"a\,b\:c\\d");
    }
}
