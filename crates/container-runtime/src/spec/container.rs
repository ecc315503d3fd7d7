//! A container as a whole, and the checks of it that need no machine.

use std::path::{Component, Path};

use super::{ContainerId, GeneratedFile, Limits, Mount, NetworkSpec, RootSpec, Upper};
use crate::error::{Error, Result};

/// A container: its root, what is bound into it, what it may use.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Unique among the runtime's live containers.
    pub id: ContainerId,
    /// What `hostname` says inside.
    pub hostname: String,
    /// Its file system.
    pub root: RootSpec,
    /// Directories and files of this machine shown inside.
    pub mounts: Vec<Mount>,
    /// Files written into the root before the first program starts (`/etc/hosts`, `/etc/resolv.conf`).
    pub files: Vec<GeneratedFile>,
    /// Hard limits.
    pub limits: Limits,
    /// What it can reach.
    pub network: NetworkSpec,
    /// An image build: the upper directory will be kept as a layer. It is written durably (no
    /// overlay `volatile`), and [`crate::Container::terminate`] ends the programs, writes all
    /// back and only then kills init. Isolation is the same as for any container.
    pub trusted_build: bool,
}

impl ContainerSpec {
    /// A container of `root` with no mounts, no network and the default limits.
    #[must_use]
    pub fn new(id: ContainerId, root: RootSpec) -> Self {
        Self {
            hostname: id.to_string(),
            id,
            root,
            mounts: Vec::new(),
            files: Vec::new(),
            limits: Limits::default(),
            network: NetworkSpec::None,
            trusted_build: false,
        }
    }

    /// Refuses what can never work, before anything is made.
    pub fn check(&self) -> Result<()> {
        if self.hostname.is_empty() || self.hostname.len() > 64 || self.hostname.contains('\0') {
            return Err(invalid("hostname", format!("`{:.80}`: 1 to 64 bytes", self.hostname)));
        }
        if self.root.layers.is_empty() || self.root.layers.len() > 400 {
            let count = self.root.layers.len();
            return Err(invalid("layers", format!("{count} layers; 1 to 400 are possible")));
        }
        for layer in &self.root.layers {
            host_path("layer", layer)?;
        }
        if let Upper::Dir { upper, work } = &self.root.upper {
            host_path("upper directory", upper)?;
            host_path("work directory", work)?;
        }
        for mount in &self.mounts {
            host_path("mount source", &mount.source)?;
            path_below("mount sub-path", &mount.sub_path)?;
            inside_path("mount target", &mount.target)?;
        }
        for file in &self.files {
            inside_path("generated file", &file.path)?;
        }
        Ok(())
    }
}

pub(super) fn invalid(field: &'static str, reason: String) -> Error {
    Error::InvalidSpec { field, reason }
}

fn host_path(field: &'static str, path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(invalid(field, format!("`{}` is not an absolute path", path.display())))
}

/// Empty, or plain names alone.
fn path_below(field: &'static str, path: &Path) -> Result<()> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(invalid(field, format!("`{}` is not relative and plain", path.display())))
}

/// Absolute, without `..`, and not over what the runtime itself mounts.
fn inside_path(field: &'static str, path: &Path) -> Result<()> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir)
        || !parts.clone().all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(invalid(field, format!("`{}` is not absolute and plain", path.display())));
    }
    match parts.next() {
        None => Err(invalid(field, "`/` is the container's root".to_owned())),
        Some(Component::Normal(first)) if first == "proc" || first == "dev" || first == "sys" => {
            let shown = path.display();
            Err(invalid(field, format!("`{shown}` lies in a directory the runtime makes")))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        let root = RootSpec {
            layers: vec!["/layer".into()],
            upper: Upper::Tmpfs { bytes: 1 << 20, inodes: 100 },
        };
        ContainerSpec::new("box".parse().unwrap(), root)
    }

    #[test]
    fn targets_over_the_runtimes_own_mounts_are_refused() {
        for bad in ["/", "/proc/x", "/dev", "/sys/fs", "relative", "/a/../b"] {
            let mut spec = spec();
            spec.mounts.push(Mount::new("/", bad));
            assert!(spec.check().is_err(), "{bad}");
        }
        assert!(spec().check().is_ok());
    }

    #[test]
    fn sub_paths_are_plain_names() {
        let check = |sub_path: &str| {
            let mut spec = spec();
            spec.mounts.push(Mount { sub_path: sub_path.into(), ..Mount::new("/", "/m") });
            spec.check()
        };
        for bad in ["/", "/etc", "..", "a/../b", "./a"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("").is_ok() && check("a/b").is_ok());
    }
}
