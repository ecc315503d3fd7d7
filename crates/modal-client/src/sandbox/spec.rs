//! What a new sandbox is to be: its image, command, limits, files and network.

use std::{collections::BTreeMap, time::Duration};

use modal_proto::client as api;
use secret_string::SecretString;

use super::{Probe, Pty};

use crate::{
    ids::{ImageId, MountId, VolumeId},
    secrets::Secret,
    volume::Volume,
};

/// The time a sandbox has unless it says otherwise: Modal's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// The most characters that a command's arguments may have together.
pub(super) const ARGUMENTS_LIMIT: usize = 1 << 16;

/// Mebibytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MiB(pub u32);

/// What a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NetworkAccess {
    /// The outside world.
    #[default]
    Open,
    /// Nothing.
    Blocked,
    /// These addresses and names.
    AllowList {
        /// Ranges of addresses: `10.0.0.0/8`.
        cidrs: Vec<String>,
        /// Host names, and `*.` patterns of them.
        domains: Vec<String>,
    },
}

/// A port of a sandbox that is reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Through TLS, which ends before the sandbox.
    Encrypted(u16),
    /// Through plain TCP.
    Unencrypted(u16),
    /// Through TLS, with HTTP/2.
    Http2(u16),
}

/// A volume in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    pub(super) volume: VolumeId,
    pub(super) sub_path: Option<String>,
    pub(super) read_only: bool,
}

impl VolumeMount {
    /// The whole volume, for reading and writing.
    pub fn new(volume: &Volume) -> Self {
        Self { volume: volume.id().clone(), sub_path: None, read_only: false }
    }

    /// Only this directory of it.
    #[must_use]
    pub fn sub_path(mut self, path: impl Into<String>) -> Self {
        self.sub_path = Some(path.into());
        self
    }

    pub(crate) fn volume_id(&self) -> &VolumeId {
        &self.volume
    }

    /// Whether it can only be read.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// What a sandbox is to be, as plain data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SandboxSpec {
    pub(crate) image: ImageId,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, SecretString>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) volumes: Vec<(String, VolumeMount)>,
    pub(crate) mounts: Vec<MountId>,
    pub(crate) workdir: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) resources: api::Resources,
    pub(crate) network: NetworkAccess,
    pub(crate) ports: Vec<Port>,
    pub(crate) name: Option<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) regions: Vec<String>,
    pub(crate) verbose: bool,
    pub(crate) probe: Option<Probe>,
    pub(crate) pty: Option<Pty>,
}

impl SandboxSpec {
    pub(crate) fn new(image: ImageId) -> Self {
        Self {
            image,
            command: Vec::new(),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            workdir: None,
            timeout: DEFAULT_TIMEOUT,
            idle_timeout: None,
            resources: api::Resources {
                gpu_config: Some(api::GpuConfig::default()),
                ..Default::default()
            },
            network: NetworkAccess::Open,
            ports: Vec::new(),
            name: None,
            tags: Vec::new(),
            regions: Vec::new(),
            verbose: false,
            probe: None,
            pty: None,
        }
    }
}

pub(super) fn check(spec: &SandboxSpec) -> Result<(), String> {
    check_arguments(&spec.command)?;
    if spec.network == NetworkAccess::Blocked && !spec.ports.is_empty() {
        return Err("ports cannot be opened in a sandbox whose network is blocked".to_owned());
    }
    let mut paths = spec.volumes.iter().map(|(path, _)| path);
    if let Some(path) = paths.find(|path| !path.starts_with('/')) {
        return Err(format!("the volume's path `{path}` is not absolute"));
    }
    if spec.timeout.as_secs() == 0 {
        return Err("the time-out must be a second at least".to_owned());
    }
    Ok(())
}

pub(super) fn check_arguments(arguments: &[String]) -> Result<(), String> {
    let length: usize = arguments.iter().map(|argument| argument.chars().count()).sum();
    if length < ARGUMENTS_LIMIT {
        return Ok(());
    }
    Err(format!(
        "the arguments have {length} characters together, which is more than {ARGUMENTS_LIMIT}; send them as a file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec::new("im-1".parse().unwrap())
    }

    #[test]
    fn contradictions_are_found_before_anything_is_sent() {
        let mut blocked = spec();
        blocked.network = NetworkAccess::Blocked;
        blocked.ports.push(Port::Encrypted(80));
        let mut long = spec();
        long.command = vec!["x".repeat(ARGUMENTS_LIMIT)];
        let mut instant = spec();
        instant.timeout = Duration::from_millis(10);
        for spec in [blocked, long, instant] {
            assert!(check(&spec).is_err(), "{spec:?}");
        }
        assert_eq!(check(&spec()), Ok(()));
    }

    #[test]
    fn a_spec_prints_no_secret() {
        let mut spec = spec();
        spec.env.insert("KEY".to_owned(), "planted".into());
        spec.secrets.push(Secret::from_map([("OTHER", "planted")]));
        assert!(!format!("{spec:?}").contains("planted"));
    }
}
