//! What a client asks for, checked before anything is made.
//!
//! From a request to a [`SandboxSpec`] is a function without I/O: whether the image, the volumes and
//! the secrets it names exist is asked later.

mod network;
mod paths;
mod unsupported;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use container_runtime::{Limits, PtySize};
use modal_proto::client::{
    Probe, PtyInfo, Resources, Sandbox, SandboxCreateRequest, SandboxCreateV2Request, SecretSource,
    SharedVolumeMount, StringMap, TunnelType, VolumeMount, probe::ProbeOneof,
    sandbox::OpenPortsOneof, secret_source::Source,
};

pub(crate) use self::network::{NetworkAccess, cidr};
pub(crate) use self::paths::{directory, mount_target};
use super::inbound::Inbound;
use super::process::Terminal;
use super::tags::Tags;
use crate::error::{Error, Result};
use crate::ids::{AppId, ImageId, MountId, NetworkFileSystemId, VolumeId};
use crate::placement;

/// What the SDKs send where the user said nothing; a definition without a time-out gets it too.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// No sandbox lives longer, as on Modal.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// What arguments may take in all; the SDKs check the same before they call.
const MAX_ARGUMENT_BYTES: usize = 1 << 16;
/// How often a readiness probe runs unless it says otherwise.
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// A terminal's size where the client does not know its own.
const DEFAULT_TERMINAL: PtySize = PtySize { rows: 24, cols: 80 };

/// Which of Modal's two interfaces a sandbox was made through: its ids say so, and clients go by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A sandbox as a client wants it. Not `Debug`: inline secrets are in it.
pub(crate) struct SandboxSpec {
    pub(crate) version: Version,
    pub(crate) app: AppId,
    pub(crate) image: ImageId,
    pub(crate) mounts: Vec<MountId>,
    /// Empty: what the image says.
    pub(crate) argv: Vec<String>,
    /// Variables of the definition, weaker than secrets.
    pub(crate) variables: Vec<(String, String)>,
    /// In the order given; a later one wins.
    pub(crate) secrets: Vec<SecretSource>,
    pub(crate) volumes: Vec<VolumeSpec>,
    pub(crate) workdir: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) limits: Limits,
    /// Bytes that it may write.
    pub(crate) disk: Option<u64>,
    pub(crate) network: NetworkAccess,
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) inbound: Inbound,
    /// It wants a token by which it can prove who it is.
    pub(crate) identity_token: bool,
    pub(crate) name: Option<String>,
    pub(crate) tags: Tags,
    pub(crate) probe: Option<ProbeSpec>,
    pub(crate) terminal: Option<Terminal>,
    /// What GPU was asked for. There is none here: only an image that a substitution stands in for
    /// may run without.
    pub(crate) gpu: Option<String>,
    /// The sidecar that gets its connections to port 443, wherever they lead.
    pub(crate) https_via: Option<String>,
    /// Leave an image of its file system when it ends.
    pub(crate) exit_snapshot: bool,
}

/// A volume, or a directory of it, shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeSpec {
    pub(crate) volume: VolumeId,
    pub(crate) target: PathBuf,
    pub(crate) sub_path: String,
    pub(crate) read_only: bool,
}

/// A port to reach from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortSpec {
    pub(crate) port: u16,
    /// The client wants a raw TCP address besides the encrypted one.
    pub(crate) unencrypted: bool,
    /// HTTP/2 is offered on the encrypted one.
    pub(crate) h2: bool,
}

impl PortSpec {
    pub(crate) fn parse(port: u32, unencrypted: bool, tunnel_type: i32) -> Result<Self> {
        let h2 = tunnel_type == i32::from(TunnelType::H2);
        Ok(Self { port: port_number(port)?, unencrypted, h2 })
    }
}

/// How to know that a sandbox is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeSpec {
    pub(crate) check: ProbeCheck,
    pub(crate) interval: Duration,
}

/// What a probe tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeCheck {
    /// The port accepts a connection.
    Tcp(u16),
    /// The command exits with 0.
    Exec(Vec<String>),
}

impl SandboxSpec {
    /// A container beside the main one of a sandbox of `app`, which ends it: it has no time-out of its own.
    pub(crate) fn parse_sidecar(
        app: &AppId,
        definition: Sandbox,
        secret_sources: Vec<SecretSource>,
    ) -> Result<Self> {
        let request = SandboxCreateV2Request {
            app_id: app.to_string(),
            definition: Some(definition),
            secret_sources,
            ..SandboxCreateV2Request::default()
        };
        let spec = Self::parse(request)?;
        Ok(Self { timeout: Duration::MAX, idle_timeout: None, exit_snapshot: false, ..spec })
    }

    /// Whether it has limits of its own.
    pub(crate) fn asks_for_limits(&self) -> bool {
        self.limits.memory.is_some() || self.limits.cpu.is_some() || self.disk.is_some()
    }

    /// The same definition through version 1 of the interface.
    pub(crate) fn parse_v1(request: SandboxCreateRequest) -> Result<Self> {
        let SandboxCreateRequest { app_id, definition, tags, .. } = request;
        let request = SandboxCreateV2Request {
            app_id,
            definition,
            tags,
            ..SandboxCreateV2Request::default()
        };
        Ok(Self { version: Version::One, ..Self::parse(request)? })
    }

    pub(crate) fn parse(request: SandboxCreateV2Request) -> Result<Self> {
        let definition =
            request.definition.ok_or_else(|| Error::invalid("a sandbox needs a `definition`"))?;
        refuse_unsupported(&definition)?;
        unsupported::refuse(&definition)?;
        placement::check(&definition.cloud_provider_str, definition.scheduler_placement.as_ref())?;
        let resources = definition.resources.clone().unwrap_or_default();
        let exit_snapshot = is_on(&definition, "enable_exit_snapshot");
        let network = NetworkAccess::parse(definition.block_network, definition.network_access)?;
        let https_via = https_via(&definition.experimental_options_v2, &network)?;
        let ports = ports(definition.open_ports_oneof)?;
        if network == NetworkAccess::Blocked && !ports.is_empty() {
            return Err(Error::invalid("a sandbox with a blocked network cannot have open ports"));
        }
        check_arguments(&definition.entrypoint_args)?;
        Ok(Self {
            version: Version::Two,
            gpu: gpu(definition.resources.as_ref()),
            exit_snapshot,
            https_via,
            app: AppId::parse(&request.app_id)?,
            image: ImageId::parse(&definition.image_id)?,
            mounts: definition
                .mount_ids
                .iter()
                .map(|id| Ok(MountId::parse(id)?))
                .collect::<Result<_>>()?,
            argv: definition.entrypoint_args,
            variables: variables(definition.environment_variables),
            secrets: secret_sources(
                request.secret_sources,
                definition.secret_ids,
                request.ephemeral_secrets,
            ),
            volumes: volumes(&definition.volume_mounts, &definition.nfs_mounts)?,
            workdir: definition
                .workdir
                .filter(|dir| !dir.is_empty())
                .map(|dir| paths::absolute("workdir", &dir))
                .transpose()?,
            timeout: lifetime(definition.timeout_secs)?,
            idle_timeout: definition.idle_timeout_secs.and_then(seconds),
            disk: Some(u64::from(resources.ephemeral_disk_mb) << 20).filter(|bytes| *bytes > 0),
            limits: limits(resources),
            network,
            ports,
            identity_token: definition.include_oidc_identity_token,
            inbound: Inbound::parse(&definition.inbound_cidr_allowlist)?,
            name: definition.name.filter(|name| !name.is_empty()).map(checked_name).transpose()?,
            tags: Tags::from_wire(request.tags)?,
            probe: definition
                .readiness_probe
                .and_then(|probe| probe_spec(probe).transpose())
                .transpose()?,
            terminal: terminal(definition.pty_info),
        })
    }
}

/// What Modal offers and this server does not, named instead of left out in silence.
fn refuse_unsupported(definition: &Sandbox) -> Result<()> {
    let refused = [
        (!definition.cloud_bucket_mounts.is_empty(), "cloud bucket mounts"),
        (!definition.s3_mounts.is_empty(), "S3 mounts"),
        (!definition.custom_domain.is_empty(), "custom domains"),
        (definition.proxy_id.as_ref().is_some_and(|id| !id.is_empty()), "proxies"),
        (definition.outbound_policy.is_some(), "outbound policies (use an allow-list)"),
        (
            definition
                .experimental_outbound_policy
                .as_ref()
                .is_some_and(|policy| !policy.header_replacements.is_empty()),
            "header replacements",
        ),
        (definition.enable_snapshot, "memory snapshots"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => {
            Err(Error::invalid(format!("sandboxes of the local server have no {what}")))
        }
        None => Ok(()),
    }
}

/// The GPU that was asked for, in words.
fn gpu(resources: Option<&Resources>) -> Option<String> {
    let gpu = resources?.gpu_config.as_ref()?;
    let is_asked = gpu.count > 0 || !gpu.gpu_type.is_empty() || gpu.r#type != 0;
    let name = if gpu.gpu_type.is_empty() { "any" } else { &gpu.gpu_type };
    is_asked.then(|| format!("{name}:{}", gpu.count.max(1)))
}

/// The sidecar that HTTPS is to go through. As on Modal it excludes a blocked network and a list of names.
fn https_via(options: &HashMap<String, String>, network: &NetworkAccess) -> Result<Option<String>> {
    const OPTION: &str = "proxy_traffic_via_sidecar";
    let Some(name) = options.get(OPTION) else { return Ok(None) };
    if name.is_empty() || name.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let has_names =
        matches!(network, NetworkAccess::AllowList { domains, .. } if !domains.is_empty());
    if *network == NetworkAccess::Blocked || has_names {
        return Err(Error::invalid(format!(
            "`{OPTION}` cannot be combined with a blocked network or an allow-list of domains"
        )));
    }
    Ok(Some(name.to_owned()))
}

/// Whether an experimental option is on: Python writes `True`, JavaScript `true`.
fn is_on(definition: &Sandbox, option: &str) -> bool {
    let value = definition.experimental_options_v2.get(option);
    value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

/// Refuses arguments that no program can get.
pub(crate) fn check_arguments(arguments: &[String]) -> Result<()> {
    if arguments.iter().map(String::len).sum::<usize>() > MAX_ARGUMENT_BYTES {
        return Err(Error::invalid(format!("arguments have more than {MAX_ARGUMENT_BYTES} bytes")));
    }
    if arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(Error::invalid("an argument contains a NUL"));
    }
    Ok(())
}

/// An absolute path inside a sandbox, for the working directory of a command.
pub(crate) fn workdir(path: &str) -> Result<PathBuf> {
    paths::absolute("workdir", path)
}

/// Secret sources in order. Old clients send ids and a map instead.
pub(crate) fn secret_sources(
    sources: Vec<SecretSource>,
    ids: Vec<String>,
    inline: Option<StringMap>,
) -> Vec<SecretSource> {
    if !sources.is_empty() {
        return sources;
    }
    let sources = ids.into_iter().map(Source::SecretId).chain(inline.map(Source::Env));
    sources.map(|source| SecretSource { source: Some(source) }).collect()
}

fn variables(map: Option<StringMap>) -> Vec<(String, String)> {
    map.map(|map| map.contents.into_iter().collect()).unwrap_or_default()
}

fn volumes(mounts: &[VolumeMount], nfs: &[SharedVolumeMount]) -> Result<Vec<VolumeSpec>> {
    mounts.iter().map(volume).chain(nfs.iter().map(network_file_system)).collect()
}

fn network_file_system(mount: &SharedVolumeMount) -> Result<VolumeSpec> {
    Ok(VolumeSpec {
        volume: NetworkFileSystemId::parse(&mount.shared_volume_id)?.volume(),
        target: paths::mount_target(&mount.mount_path)?,
        sub_path: String::new(),
        read_only: false,
    })
}

fn volume(mount: &VolumeMount) -> Result<VolumeSpec> {
    Ok(VolumeSpec {
        volume: VolumeId::parse(&mount.volume_id)?,
        target: paths::mount_target(&mount.mount_path)?,
        sub_path: mount.sub_path.clone().unwrap_or_default(),
        read_only: mount.read_only,
    })
}

/// How long it may live.
fn lifetime(timeout_secs: u32) -> Result<Duration> {
    let timeout = seconds(timeout_secs).unwrap_or(DEFAULT_TIMEOUT);
    if timeout > LONGEST_LIFE {
        return Err(Error::invalid(format!(
            "a sandbox's timeout is at most {} seconds (24 hours), and {timeout_secs} were asked for",
            LONGEST_LIFE.as_secs()
        )));
    }
    Ok(timeout)
}

fn seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// A request alone reserves on Modal and kills nobody; only the maximum is a limit.
fn limits(resources: Resources) -> Limits {
    let memory = u64::from(resources.memory_mb_max) << 20;
    Limits {
        memory: (memory > 0).then_some(memory),
        cpu: (resources.milli_cpu_max > 0).then(|| f64::from(resources.milli_cpu_max) / 1_000.0),
        ..Limits::default()
    }
}

fn ports(ports: Option<OpenPortsOneof>) -> Result<Vec<PortSpec>> {
    let Some(OpenPortsOneof::OpenPorts(ports)) = ports else { return Ok(Vec::new()) };
    let port = |spec: modal_proto::client::PortSpec| {
        PortSpec::parse(spec.port, spec.unencrypted, spec.tunnel_type.unwrap_or_default())
    };
    ports.ports.into_iter().map(port).collect()
}

fn port_number(port: u32) -> Result<u16> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Error::invalid(format!("{port} is no TCP port")))
}

fn probe_spec(probe: Probe) -> Result<Option<ProbeSpec>> {
    let check = match probe.probe_oneof {
        None => return Ok(None),
        Some(ProbeOneof::TcpPort(port)) => ProbeCheck::Tcp(port_number(port)?),
        Some(ProbeOneof::ExecCommand(command)) => {
            check_arguments(&command.argv)?;
            ProbeCheck::Exec(command.argv)
        }
    };
    let interval = probe.interval_ms.filter(|millis| *millis > 0);
    let interval = interval.map_or(DEFAULT_PROBE_INTERVAL, |ms| Duration::from_millis(ms.into()));
    Ok(Some(ProbeSpec { check, interval }))
}

/// The terminal that a client asks for, if it does.
pub(crate) fn terminal(info: Option<PtyInfo>) -> Option<Terminal> {
    let info = info.filter(|info| info.enabled)?;
    let characters = |asked: u32, default| match u16::try_from(asked) {
        Ok(0) | Err(_) => default,
        Ok(asked) => asked,
    };
    Some(Terminal {
        size: PtySize {
            rows: characters(info.winsz_rows, DEFAULT_TERMINAL.rows),
            cols: characters(info.winsz_cols, DEFAULT_TERMINAL.cols),
        },
        variables: [
            ("TERM", info.env_term),
            ("COLORTERM", info.env_colorterm),
            ("TERM_PROGRAM", info.env_term_program),
        ],
    })
}

/// A name that a sandbox may have: what the SDKs let through.
pub(crate) fn checked_name(name: String) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        let name: String = name.chars().take(64).collect();
        let rule = "use 1 to 64 letters, digits, `-`, `_` and `.`";
        return Err(Error::invalid(format!("`{name}` is no sandbox name: {rule}")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
