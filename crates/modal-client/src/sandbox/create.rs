//! Creates a sandbox: what is asked for, one call after the other, and the request.

use std::{future::IntoFuture, path::PathBuf, time::Duration};

use futures::future::BoxFuture;
use modal_proto::client as api;
use secret_string::SecretString;

use super::{
    Guard, Probe, Pty, Sandbox, SandboxVersion, Tunnel,
    definition::{create_request, definition, milli, tags},
    spec::{MiB, NetworkAccess, Port, SandboxSpec, VolumeMount, check},
    tunnel_of,
};

use crate::{
    apps::App,
    client::Client,
    error::{Error, Operation, Result},
    gpu::Gpu,
    ids::{AppId, SandboxId, TaskId},
    image::BuiltImage,
    mount::{self, LocalFiles, Mount},
    router::Router,
    rpc::methods,
    secrets::Secret,
};

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
