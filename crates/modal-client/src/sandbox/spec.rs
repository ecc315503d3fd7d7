//! What a new sandbox is to be: its image, command, limits, files and network.

use std::{collections::BTreeMap, future::IntoFuture, path::PathBuf, time::Duration};

use futures::future::BoxFuture;
use modal_proto::client as api;

use super::{Guard, Probe, Pty, Sandbox, SandboxVersion, Tunnel, exec::pty_info, tag, tunnel_of};
use crate::{
    apps::App,
    client::Client,
    error::{Error, Operation, Result},
    gpu::Gpu,
    ids::{AppId, ImageId, MountId, SandboxId, TaskId, VolumeId},
    image::BuiltImage,
    mount::{self, LocalFiles, Mount},
    router::Router,
    rpc::methods,
    secret_string::SecretString,
    secrets::{Secret, Source, string_map},
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
    volume: VolumeId,
    sub_path: Option<String>,
    read_only: bool,
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

/// Creates a sandbox; see [`Client::sandbox`].
#[derive(Debug, Clone)]
#[must_use = "nothing is created until it is awaited"]
pub struct SandboxCreate {
    client: Client,
    app: AppId,
    local: Vec<LocalFiles>,
    pub(crate) spec: SandboxSpec,
    version: Option<SandboxVersion>,
    terminate_on_drop: bool,
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

impl Client {
    /// A new sandbox of an app, from an image: `client.sandbox(&app, &image).command(["sleep", "60"]).create().await?`.
    pub fn sandbox(&self, app: &App, image: &BuiltImage) -> SandboxCreate {
        let mut spec = SandboxSpec::new(image.id.clone());
        spec.mounts.clone_from(&image.mounts);
        SandboxCreate {
            client: self.clone(),
            app: app.id.clone(),
            local: Vec::new(),
            spec,
            version: None,
            terminate_on_drop: false,
        }
    }
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

impl SandboxCreate {
    /// The command that runs in it; without one, the image's. The sandbox ends with it.
    pub fn command(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.spec.command = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// An environment variable, for its command and those of exec. It wins over secrets.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    /// Environment variables of a secret; a later secret wins.
    pub fn secret(mut self, secret: &Secret) -> Self {
        self.spec.secrets.push(secret.clone());
        self
    }

    /// A volume at an absolute path.
    pub fn volume(mut self, path: impl Into<String>, mount: VolumeMount) -> Self {
        self.spec.volumes.push((path.into(), mount));
        self
    }

    /// Local files that were uploaded with [`Client::mount`].
    pub fn mount(mut self, mount: &Mount) -> Self {
        self.spec.mounts.push(mount.id.clone());
        self
    }

    /// A local file at an absolute path, uploaded if the server lacks it. For many sandboxes, upload it
    /// once with [`Client::mount`].
    pub fn mount_local_file(mut self, path: impl Into<PathBuf>, remote: impl AsRef<str>) -> Self {
        self.local.push(LocalFiles::file(path.into(), remote.as_ref()));
        self
    }

    /// A local directory at an absolute path, uploaded where the server lacks it.
    pub fn mount_local_dir(mut self, root: impl Into<PathBuf>, remote: impl Into<String>) -> Self {
        self.local.push(LocalFiles::tree(root.into(), remote.into()));
        self
    }

    /// The directory that commands start in.
    pub fn workdir(mut self, path: impl Into<String>) -> Self {
        self.spec.workdir = Some(path.into());
        self
    }

    /// How long it may run in all, to the second; five minutes if this is not called.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = timeout;
        self
    }

    /// How long it may run without being used.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.spec.idle_timeout = Some(timeout);
        self
    }

    /// Cores: how many are reserved, and at most how many it may use.
    pub fn cpu(mut self, reserved: f64, limit: Option<f64>) -> Self {
        self.spec.resources.milli_cpu = milli(reserved);
        self.spec.resources.milli_cpu_max = limit.map_or(0, milli);
        self
    }

    /// Memory: how much is reserved, and at how much it is killed.
    pub fn memory(mut self, reserved: MiB, limit: Option<MiB>) -> Self {
        self.spec.resources.memory_mb = reserved.0;
        self.spec.resources.memory_mb_max = limit.map_or(0, |limit| limit.0);
        self
    }

    /// What it may reach.
    pub fn network(mut self, access: NetworkAccess) -> Self {
        self.spec.network = access;
        self
    }

    /// A port that is reached from outside, through TLS; see [`Sandbox::tunnels`].
    pub fn port(self, port: u16) -> Self {
        self.open_port(Port::Encrypted(port))
    }

    /// A port that is reached from outside.
    pub fn open_port(mut self, port: Port) -> Self {
        self.spec.ports.push(port);
        self
    }

    /// A name, unique among the running sandboxes of the app.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec.name = Some(name.into());
        self
    }

    /// A tag, to find it by.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.tags.push((name.into(), value.into()));
        self
    }

    /// A region it may run in.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.spec.regions.push(region.into());
        self
    }

    /// A GPU. The sandbox is of version 1 then.
    pub fn gpu(mut self, gpu: &Gpu) -> Self {
        self.spec.resources.gpu_config = Some(gpu.config());
        self
    }

    /// Which kind of sandbox it is: version 1 with a GPU, else version 2, unless this is called.
    pub fn version(mut self, version: SandboxVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// What shows that it is ready; see [`Sandbox::wait_until_ready`].
    pub fn readiness_probe(mut self, probe: Probe) -> Self {
        self.spec.probe = Some(probe);
        self
    }

    /// Runs its own command in a terminal.
    pub fn pty(mut self, pty: Pty) -> Self {
        self.spec.pty = Some(pty);
        self
    }

    /// Whether the sandbox is terminated when the last clone of its handle is dropped. The request is sent in the
    /// background, where a runtime still runs: to be sure, call [`Sandbox::terminate`].
    pub fn terminate_on_drop(mut self, terminate: bool) -> Self {
        self.terminate_on_drop = terminate;
        self
    }

    /// Whether the server logs more about it.
    pub fn verbose(mut self, verbose: bool) -> Self {
        self.spec.verbose = verbose;
        self
    }

    /// Creates it. One RPC, besides those for local files.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if a running sandbox of the app has that name, [`Error::RateLimited`] if
    /// more are created than the plan allows.
    pub async fn create(mut self) -> Result<Sandbox> {
        let operation = || Operation::new("create", "a sandbox");
        check(&self.spec).map_err(|problem| Error::invalid(operation(), problem))?;
        for files in &self.local {
            self.spec.mounts.push(mount::create(&self.client, &self.app, files).await?.id);
        }
        let terminate_on_drop = self.terminate_on_drop;
        let mut sandbox = match self.effective_version() {
            SandboxVersion::V1 => self.create_v1().await?,
            SandboxVersion::V2 => {
                let query = create_request(&self.app, &self.spec);
                let method = &methods::SANDBOX_CREATE_V2;
                let answer = self.client.call(method, &query, operation()).await?;
                sandbox_of(self.client, self.app, self.spec.ports.len(), answer).await?
            }
        };
        if terminate_on_drop {
            let guard = Guard::new(sandbox.client.clone(), sandbox.id.clone());
            sandbox.guard = Some(std::sync::Arc::new(guard));
        }
        Ok(sandbox)
    }

    fn effective_version(&self) -> SandboxVersion {
        let has_gpu =
            self.spec.resources.gpu_config.as_ref().is_some_and(|gpu| !gpu.gpu_type.is_empty());
        self.version.unwrap_or(if has_gpu { SandboxVersion::V1 } else { SandboxVersion::V2 })
    }

    /// Version 1 knows secrets by their ids only: those that would be sent along become anonymous ones of the app.
    async fn create_v1(self) -> Result<Sandbox> {
        let operation = || Operation::new("create", "a sandbox");
        let mut secrets = self.spec.secrets.clone();
        if !self.spec.env.is_empty() {
            let env = self.spec.env.iter().map(|(name, value)| (name.clone(), value.clone()));
            secrets.push(Secret::from_map(env));
        }
        let mut definition = definition(&self.spec);
        definition.secret_ids.clear();
        for secret in &secrets {
            let id = self.client.secrets().id_for_app(secret, &self.app).await?;
            definition.secret_ids.push(id.to_string());
        }
        let query = api::SandboxCreateRequest {
            app_id: self.app.to_string(),
            definition: Some(definition),
            tags: tags(&self.spec),
            ..Default::default()
        };
        let answer = self.client.call(&methods::SANDBOX_CREATE, &query, operation()).await?;
        let id = SandboxId::try_from(answer.sandbox_id)
            .map_err(|error| Error::Protocol { operation: operation(), source: error.into() })?;
        let router = Router::new(self.client.clone(), id.clone(), None, None);
        Ok(Sandbox::new(self.client, id, Some(self.app), router, Vec::new()))
    }
}

impl IntoFuture for SandboxCreate {
    type Output = Result<Sandbox>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.create())
    }
}

async fn sandbox_of(
    client: Client,
    app: AppId,
    ports: usize,
    answer: api::SandboxCreateV2Response,
) -> Result<Sandbox> {
    let operation = || Operation::new("create", "a sandbox");
    let unusable = |error: crate::ids::InvalidId| Error::Protocol {
        operation: operation(),
        source: error.into(),
    };
    let id = SandboxId::try_from(answer.sandbox_id).map_err(unusable)?;
    let task = Some(answer.task_id).filter(|task| !task.is_empty());
    let task = task.map(TaskId::try_from).transpose().map_err(unusable)?;
    let token =
        Some(answer.sandbox_token).filter(|token| !token.is_empty()).map(SecretString::from);
    let router = Router::new(client.clone(), id.clone(), task, token);
    if let Some(access) = answer.command_router_access {
        router.offer(access).await?;
    }
    let tunnels: Vec<Tunnel> = answer.tunnels.into_iter().filter_map(tunnel_of).collect();
    let tunnels = if tunnels.len() == ports { tunnels } else { Vec::new() };
    Ok(Sandbox::new(client, id, Some(app), router, tunnels))
}

fn check(spec: &SandboxSpec) -> Result<(), String> {
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

pub(crate) fn milli(cores: f64) -> u32 {
    (cores * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

pub(crate) fn create_request(app: &AppId, spec: &SandboxSpec) -> api::SandboxCreateV2Request {
    api::SandboxCreateV2Request {
        app_id: app.to_string(),
        definition: Some(definition(spec)),
        tags: tags(spec),
        secret_sources: secret_sources(&spec.secrets, &spec.env),
        ..Default::default()
    }
}

fn tags(spec: &SandboxSpec) -> Vec<api::SandboxTag> {
    spec.tags.iter().map(|(name, value)| tag(name.clone(), value.clone())).collect()
}

/// Secrets in their order, so that a later one wins, and plain variables last.
pub(super) fn secret_sources(
    secrets: &[Secret],
    env: &BTreeMap<String, SecretString>,
) -> Vec<api::SecretSource> {
    let mut sources: Vec<_> = secrets.iter().map(Secret::to_source).collect();
    if !env.is_empty() {
        let env = api::secret_source::Source::Env(string_map(env));
        sources.push(api::SecretSource { source: Some(env) });
    }
    sources
}

fn definition(spec: &SandboxSpec) -> api::Sandbox {
    let stored = spec.secrets.iter().filter_map(|secret| match &secret.0 {
        Source::Stored { id, .. } => Some(id.to_string()),
        Source::Inline(_) => None,
    });
    let regions = (!spec.regions.is_empty())
        .then(|| api::SchedulerPlacement { regions: spec.regions.clone(), ..Default::default() });
    let ports = api::PortSpecs { ports: spec.ports.iter().map(|port| port_spec(*port)).collect() };
    api::Sandbox {
        entrypoint_args: spec.command.clone(),
        mount_ids: spec.mounts.iter().map(ToString::to_string).collect(),
        image_id: spec.image.to_string(),
        secret_ids: stored.collect(),
        resources: Some(spec.resources.clone()),
        timeout_secs: seconds(spec.timeout),
        workdir: spec.workdir.clone(),
        volume_mounts: spec.volumes.iter().map(|(path, mount)| volume_mount(path, mount)).collect(),
        scheduler_placement: regions,
        open_ports_oneof: Some(api::sandbox::OpenPortsOneof::OpenPorts(ports)),
        network_access: Some(network_access(&spec.network)),
        verbose: spec.verbose,
        name: spec.name.clone(),
        idle_timeout_secs: spec.idle_timeout.map(seconds),
        readiness_probe: spec.probe.as_ref().map(Probe::to_wire),
        pty_info: spec.pty.as_ref().map(pty_info),
        ..Default::default()
    }
}

pub(crate) fn volume_mount(path: &str, mount: &VolumeMount) -> api::VolumeMount {
    api::VolumeMount {
        volume_id: mount.volume.to_string(),
        mount_path: path.to_owned(),
        allow_background_commits: true,
        read_only: mount.read_only,
        sub_path: mount.sub_path.clone(),
    }
}

fn port_spec(port: Port) -> api::PortSpec {
    let (port, unencrypted, tunnel_type) = match port {
        Port::Encrypted(port) => (port, false, None),
        Port::Unencrypted(port) => (port, true, None),
        Port::Http2(port) => (port, false, Some(api::TunnelType::H2.into())),
    };
    api::PortSpec { port: port.into(), unencrypted, tunnel_type }
}

fn network_access(access: &NetworkAccess) -> api::NetworkAccess {
    use api::network_access::NetworkAccessType as Type;
    let (kind, cidrs, domains) = match access {
        NetworkAccess::Open => (Type::Open, Vec::new(), Vec::new()),
        NetworkAccess::Blocked => (Type::Blocked, Vec::new(), Vec::new()),
        NetworkAccess::AllowList { cidrs, domains } => {
            (Type::Allowlist, cidrs.clone(), domains.clone())
        }
    };
    api::NetworkAccess {
        network_access_type: kind.into(),
        allowed_cidrs: cidrs,
        allowed_domains: domains,
    }
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
