//! Files that every container is shown above its image's: host names, the resolver, certificates.
//!
//! What does not depend on the container lies in layers that are made once: to write three files into a
//! container's own changes takes as long as all of its mounts, and to remove them with it takes as long again.
//! Layers, since of a mount the container could read where on this machine it lies. No record of what a container is
//! made of names them, so that they are in no snapshot.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use container_runtime::GeneratedFile;

use super::environment::Environment;
use super::hosts;
use super::network::NetworkPlan;
use super::own_roots::OwnRoots;
use crate::error::{Error, Result};

/// The layers, and what goes with them.
pub(crate) struct Furnishing {
    roots: OwnRoots,
    online: PathBuf,
    offline: PathBuf,
}

impl Furnishing {
    /// Lays the files out below `directory`, anew: another server of this directory has ended, and its containers with it.
    ///
    /// # Errors
    ///
    /// Where they can't be written.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let roots = OwnRoots::find();
        let (online, offline) = (directory.join("online"), directory.join("offline"));
        for (layer, has_network) in [(&online, true), (&offline, false)] {
            for file in hosts::files(has_network, []).into_iter().chain(roots.file()) {
                lay(layer, &file)?;
            }
        }
        Ok(Self { roots, online, offline })
    }

    /// Adds the variables that name what is shown to a container's.
    pub(crate) fn name(&self, env: &mut Environment) {
        self.roots.name(env);
    }

    /// The layer to put above all others of a container with this network.
    pub(crate) fn layer(&self, plan: &NetworkPlan) -> PathBuf {
        if plan.has_gateway() { self.online.clone() } else { self.offline.clone() }
    }

    /// The files that this container alone has.
    pub(crate) fn files(&self, plan: &NetworkPlan) -> Vec<GeneratedFile> {
        match plan.local_names().next() {
            Some(_) => hosts::files(plan.has_gateway(), plan.local_names()),
            None => Vec::new(),
        }
    }
}

/// Writes a file and the directories above it, as root's and readable by all, whatever the umask.
fn lay(layer: &Path, file: &GeneratedFile) -> Result<()> {
    let path = layer.join(file.path.strip_prefix("/").unwrap_or(&file.path));
    let parent = path.parent().unwrap_or(layer);
    std::fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    std::fs::write(&path, &file.contents).map_err(Error::file("write", &path))?;
    for directory in parent.ancestors().take_while(|it| it.starts_with(layer)) {
        set_mode(directory, 0o755)?;
    }
    set_mode(&path, file.mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(Error::file("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_says_what_resolves_where() {
        let state = tempfile::tempdir().unwrap();
        // Twice: as the next server does it.
        for _ in 0..2 {
            let furnishing = Furnishing::open(&state.path().join("furnishing")).unwrap();
            let read =
                |layer: &Path, path: &str| std::fs::read_to_string(layer.join(path)).unwrap();
            assert!(read(&furnishing.online, "etc/resolv.conf").starts_with("nameserver "));
            assert!(read(&furnishing.offline, "etc/resolv.conf").starts_with('#'));
            assert_eq!(read(&furnishing.offline, "etc/hostname"), "modal\n");
            let mode = |path: &str| {
                let found = std::fs::metadata(furnishing.online.join(path)).unwrap();
                found.permissions().mode() & 0o777
            };
            assert_eq!([mode(""), mode("etc"), mode("etc/hosts")], [0o755, 0o755, 0o644]);
        }
    }
}
