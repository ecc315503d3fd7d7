//! File systems mounted in a container while it runs: the server's side.
//!
//! The server opens the layers and the directory of changes as detached mounts and hands them to init, which no longer
//! sees any path of the machine; see [`child::attach`](super::child).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::container::Container;
use super::message::ToInit;
use crate::attach::AttachSpec;
use crate::error::{Error, Result};

impl Container {
    /// Mounts an overlay in the running container. The target is made if it is missing; what it held is hidden until
    /// [`Self::detach`].
    ///
    /// Needs the right to mount on this machine: a container of an ordinary user's runtime answers "not permitted".
    pub async fn attach(&self, spec: &AttachSpec) -> Result<()> {
        check_target(&spec.target)?;
        let paths = std::iter::once(&spec.changes).chain(&spec.layers);
        let trees = paths.map(tree).collect::<Result<Vec<_>>>()?;
        let fds: Vec<_> = trees.iter().map(|tree| tree.as_fd()).collect();
        let order = |request| ToInit::Attach { request, target: spec.target.clone() };
        answered(self.inner().call_with(order, &fds).await?.0, "mount in a container")
    }

    /// Takes a mount of [`Self::attach`] away; programs that use its files keep them.
    pub async fn detach(&self, target: &Path) -> Result<()> {
        let order = |request| ToInit::Detach { request, target: target.to_owned() };
        answered(self.inner().call_with(order, &[]).await?.0, "unmount in a container")
    }
}

/// A path of the machine as a mount of its own; init restricts it and maps its ids.
fn tree(path: &PathBuf) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).map_err(|error| Error::Host {
        action: "open as a mount",
        path: path.clone(),
        source: error.into(),
    })
}

/// Not the root, nor what init keeps its own things in.
fn check_target(target: &Path) -> Result<()> {
    let reason = match target.components().nth(1).map(|part| part.as_os_str().to_owned()) {
        _ if !target.is_absolute() => "it must be absolute",
        None => "it must not be `/`",
        Some(first) if ["proc", "sys", "dev"].iter().any(|own| first == *own) => {
            "nothing is mounted below `/proc`, `/sys` and `/dev`"
        }
        Some(_) if target.components().any(|part| part.as_os_str() == "..") => {
            "it must not contain `..`"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::InvalidSpec { field: "mount point", reason: reason.to_owned() })
}

fn answered(errno: i32, action: &'static str) -> Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(Error::System { action, source: io::Error::from_raw_os_error(errno) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_the_containers_own_are_mounted_on() {
        let asked = ["/", "mnt", "/proc/self", "/dev", "/a/../proc", "/mnt/x"];
        let refused: Vec<bool> = asked.map(|path| check_target(Path::new(path)).is_err()).into();
        assert_eq!(refused, [true, true, true, true, true, false]);
    }
}
