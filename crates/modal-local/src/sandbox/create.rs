//! Making a sandbox: from its definition to a running entrypoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use container_runtime::{Container, ContainerSpec, Mount, RootSpec};
use futures::future::try_join_all;
use prost::Message;
use serde_json::json;

use super::disk::Scratch;
use super::disk_watch::DiskWatch;
use super::ending::Ending;
use super::environment::Environment;
use super::hosts::HOSTNAME;
use super::live::{LiveSandbox, Readiness, Running};
use super::mount_tree;
use super::neighbours::NeighbourDialer;
use super::network::{Network, NetworkPlan};
use super::process::{Command, OutputTo, RunningProcess};
use super::records::SandboxRecord;
use super::snapshot::RootRecord;
use super::spec::{SandboxSpec, Version};
use super::supervise::{self, Parts};
use super::tunnels::Tunnels;
use super::usage::{self, DiskLimit};
use crate::auth::identity::Bearer;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::failpoint::{Point, reach};
use crate::fs_tools;
use crate::ids::{SandboxId, TaskId};
use crate::image::ImageRoot;
use crate::service::workspace;

/// What an image without any command runs: two days of sleep, as `debian_slim`'s.
const DEFAULT_COMMAND: [&str; 2] = ["sleep", "172800"];
/// Where programs start if neither definition nor image says.
const DEFAULT_WORKDIR: &str = "/root";

/// Makes a sandbox; returns when its entrypoint runs.
pub(super) async fn create<M: Message>(
    ctx: &Ctx,
    spec: SandboxSpec,
    repeated: impl FnOnce(&LiveSandbox) -> M,
) -> Result<Arc<LiveSandbox>> {
    let app = ctx.apps.get_running(&spec.app).await?;
    check_gpu(ctx, &spec).await?;
    let (id, task) = match spec.version {
        Version::One => (SandboxId::random(), TaskId::random_v1()),
        Version::Two => (SandboxId::random_v2(), TaskId::random_v2()),
    };
    let sandbox = Arc::new(LiveSandbox::new(id, task, spec.app.clone()));
    let repeated = repeated(&sandbox);
    let rpc = match spec.version {
        Version::One => "sandbox_create",
        Version::Two => "sandbox_create_v2",
    };
    let registry = &ctx.sandboxes.registry;
    registry.enter(&sandbox, spec.name.as_deref())?;
    let mut record = SandboxRecord::new(&sandbox.id, &sandbox.task);
    record.app_id = app.app_id;
    record.environment_id.clone_from(&app.environment_id);
    record.image_id = spec.image.to_string();
    record.name.clone_from(&spec.name);
    record.timeout_secs = spec.timeout.as_secs() as i64;
    record.idle_timeout_secs = spec.idle_timeout.map(|limit| limit.as_secs() as i64);
    if let Err(error) = ctx.sandboxes.records.insert(&record, &spec.tags, (rpc, &repeated)).await {
        registry.leave(&sandbox);
        return Err(error);
    }
    reach(Point::CreateRecorded);
    if spec.exit_snapshot {
        ctx.sandboxes.exit_snapshots.announce(&sandbox.id).await?;
    }
    match start(ctx, &sandbox, spec, &app.environment_id).await {
        Ok(()) => Ok(sandbox),
        Err(error) => {
            let ending = Ending::init_failure(error.to_string());
            if let Err(error) = ctx.sandboxes.records.set_ended(&sandbox.id, &ending).await {
                tracing::warn!(%error, sandbox = %sandbox.id, "end not recorded");
            }
            sandbox.set_ended(ending);
            registry.leave(&sandbox);
            Err(error)
        }
    }
}

/// There are no GPUs here. What a substitution stands in for was told so, and runs without.
async fn check_gpu(ctx: &Ctx, spec: &SandboxSpec) -> Result<()> {
    let Some(gpu) = &spec.gpu else { return Ok(()) };
    if ctx.images.is_substituted(&spec.image).await? {
        tracing::info!(image = %spec.image, gpu, "runs without its GPU: its image is a substitution");
        return Ok(());
    }
    Err(Error::invalid(format!(
        "sandboxes of the local server have no GPUs (`{gpu}` was asked for); register a substitution \
         for the image, or run it on Modal"
    )))
}

/// Makes the container and starts its program.
pub(super) async fn start(
    ctx: &Ctx,
    sandbox: &Arc<LiveSandbox>,
    spec: SandboxSpec,
    environment_id: &str,
) -> Result<()> {
    let lookups = async {
        tokio::try_join!(
            ctx.environments.name_of(environment_id),
            ctx.images.resolve(&spec.image),
            ctx.secrets.resolve_sources(&spec.secrets),
            volumes(ctx, &spec),
            try_join_all(spec.mounts.iter().map(|mount| ctx.mounts.tree(mount))),
        )
    };
    // Not cut short by a failed lookup: directories half made would be left over.
    let (scratch, found) = tokio::join!(Scratch::create(&ctx.dir, &sandbox.id), lookups);
    let scratch = scratch?;
    let (environment, image, variables, mut mounts, trees) = found?;
    let mut env = Environment::with_defaults();
    let mount_points = spec.volumes.iter().map(|volume| volume.target.clone()).collect();
    let watched = writable(&mounts);
    ctx.furnishing.name(&mut env);
    env.extend(image.env.iter().cloned())?;
    env.extend(spec.variables.iter().cloned())?;
    env.extend(variables.into_iter().map(|(name, value)| (name, value.expose().to_owned())))?;
    describe(&mut env, sandbox, &spec, &environment);
    if spec.identity_token {
        let environment = (environment_id, environment.as_str());
        env.put("MODAL_IDENTITY_TOKEN", &identity_token(ctx, sandbox, &spec, environment).await?);
    }
    let plan = NetworkPlan::new(&spec.network, &env, ctx.relays.all())?;
    let mut layers =
        mount_tree::overlaid(image.layers.clone(), trees, scratch.mounts_dir()).await?;
    let root = RootRecord {
        image: Arc::clone(&image.base),
        overlaid: layers[image.layers.len()..].to_vec(),
        upper: scratch.upper_dir(),
        mount_points,
    };
    layers.push(ctx.furnishing.layer(&plan));
    let files = ctx.furnishing.files(&plan);
    let runtime = ctx.runtime().await?;
    let disk = DiskLimit::new(&ctx.room, spec.disk);
    let watch = DiskWatch {
        changes: vec![scratch.upper_dir(), scratch.attached_dir()],
        volumes: watched,
        limit: disk,
        room: ctx.room.clone(),
    };
    let container_spec = ContainerSpec {
        hostname: HOSTNAME.to_owned(),
        mounts: std::mem::take(&mut mounts),
        files,
        limits: usage::limits(&spec.limits, disk, &runtime),
        network: plan.spec(),
        ..ContainerSpec::new(
            sandbox.id.as_str().parse().map_err(refused)?,
            RootSpec { layers, upper: scratch.upper() },
        )
    };
    let container = runtime.create(container_spec).await.map_err(refused)?;
    reach(Point::CreateContainer);
    // Else the log has what the sandbox prints alone, as on Modal; `local status` tells the defaults.
    if spec.asks_for_limits() {
        let limits = format!("limits: {}, {}", container.limits_line(), usage::describe_disk(disk));
        ctx.logs.say(sandbox.log_source(), limits).await;
    }
    let name = sandbox.container_name();
    sandbox.neighbours.join(name, &container, &scratch.spill_dir())?;
    let dialer = Arc::new(NeighbourDialer::new(&sandbox.neighbours, name));
    let network = Network::start_with(&container, plan, dialer).await?;
    if sandbox.is_sidecar() {
        sandbox.neighbours.write_names().await;
    }
    if let Some(sidecar) = &spec.https_via {
        sandbox.neighbours.lead_https_via(sidecar);
    }
    let tunnels =
        Tunnels::open(ctx, &container, &spec.ports, (&sandbox.activity, &spec.inbound)).await?;
    let (entrypoint, workdir) = entrypoint(&container, &spec, &image, &env, &scratch).await?;
    reach(Point::CreateStarted);
    if spec.probe.is_some() {
        sandbox.set_readiness(Readiness::Waiting);
    }
    sandbox.set_running(Running {
        container: Some(container).into(),
        entrypoint,
        env,
        workdir,
        tunnels: tunnels.data.clone(),
        root,
        network: network.control(),
        inbound: spec.inbound.clone(),
        spill_dir: scratch.spill_dir(),
        attached_dir: scratch.attached_dir(),
    });
    supervise::spawn(
        ctx,
        sandbox,
        spec,
        Parts { network, tunnels, scratch, disk: watch, image: image.lease },
    );
    if sandbox.is_sidecar() {
        return Ok(());
    }
    ctx.sandboxes.records.set_started(&sandbox.id).await
}

/// What a program can read about where it runs.
fn describe(env: &mut Environment, sandbox: &LiveSandbox, spec: &SandboxSpec, environment: &str) {
    env.put("MODAL_IS_REMOTE", "1");
    env.put("MODAL_SANDBOX_ID", sandbox.sandbox_id().as_str());
    env.put("MODAL_TASK_ID", sandbox.task.as_str());
    env.put("MODAL_APP_ID", sandbox.app.as_str());
    env.put("MODAL_IMAGE_ID", spec.image.as_str());
    env.put("MODAL_ENVIRONMENT", environment);
    env.put("MODAL_CLOUD_PROVIDER", "local");
    env.put("MODAL_REGION", "local");
}

/// A token about the sandbox, good for as long as it may live.
async fn identity_token(
    ctx: &Ctx,
    sandbox: &LiveSandbox,
    spec: &SandboxSpec,
    environment: (&str, &str),
) -> Result<String> {
    let app = ctx.apps.get(&spec.app).await?;
    let bearer = Bearer {
        workspace: (workspace::WORKSPACE_ID, workspace::NAME),
        environment,
        app: (sandbox.app.as_str(), app.name.as_deref().unwrap_or_default()),
        function: None,
        container: sandbox.task.as_str(),
    };
    let issuer = format!("http://{}", ctx.authority());
    ctx.auth.identities.issue(&issuer, &bearer, spec.timeout)
}

async fn volumes(ctx: &Ctx, spec: &SandboxSpec) -> Result<Vec<Mount>> {
    let mounts = spec.volumes.iter().map(|volume| async move {
        let (source, sub_path) = ctx.volumes.directory(&volume.volume, &volume.sub_path).await?;
        let read_only = volume.read_only;
        Ok::<_, Error>(Mount { sub_path, read_only, ..Mount::new(source, &volume.target) })
    });
    try_join_all(mounts).await
}

/// Where mounts can be written to on this machine.
pub(crate) fn writable(mounts: &[Mount]) -> Vec<PathBuf> {
    let writable = mounts.iter().filter(|mount| !mount.read_only);
    writable.map(|mount| mount.source.join(&mount.sub_path)).collect()
}

/// Starts the entrypoint. One that cannot be started has ended, with what a shell would say; fails
/// where it was not its fault.
async fn entrypoint(
    container: &Container,
    spec: &SandboxSpec,
    image: &ImageRoot,
    env: &Environment,
    scratch: &Scratch,
) -> Result<(RunningProcess, PathBuf)> {
    let asked = spec.workdir.clone().or_else(|| image.workdir.as_ref().map(PathBuf::from));
    let mut workdirs = match &asked {
        Some(workdir) => vec![workdir.clone()],
        None => vec![PathBuf::from("/"), PathBuf::from(DEFAULT_WORKDIR)],
    };
    let spill_dir = scratch.spill_dir();
    let mut to_make = asked;
    loop {
        let workdir = workdirs.pop().unwrap_or_else(|| PathBuf::from("/"));
        let command = Command {
            argv: argv(spec, image),
            env: env.clone(),
            workdir: workdir.clone(),
            stdout: OutputTo::Log,
            stderr: OutputTo::Log,
            terminal: spec.terminal.clone(),
            timeout: None,
        };
        match RunningProcess::start(container, command, &spill_dir, None).await {
            Ok(process) => return Ok((process, workdir)),
            Err(container_runtime::Error::Workdir { .. }) if !workdirs.is_empty() => {}
            // As container runtimes do it: a working directory that is asked for is made.
            Err(container_runtime::Error::Workdir { .. }) if to_make.take().is_some() => {
                make_directory(container, env, &workdir, &spill_dir).await;
                workdirs.push(workdir);
            }
            Err(error) if error.is_gone() => return Err(Error::Runtime { source: error.into() }),
            Err(error) => return Ok((RunningProcess::not_started(&error, &spill_dir), workdir)),
        }
    }
}

/// Makes a directory inside, with its parents. Where that fails, the start of what needs it says so.
async fn make_directory(container: &Container, env: &Environment, path: &Path, spill_dir: &Path) {
    let json = json!({"MakeDirectory": {"path": path, "parents": true}}).to_string();
    let command = Command {
        argv: vec![fs_tools::PATH.to_owned(), json],
        env: env.clone(),
        workdir: PathBuf::from("/"),
        stdout: OutputTo::Null,
        stderr: OutputTo::Null,
        terminal: None,
        timeout: None,
    };
    if let Ok(process) = RunningProcess::start(container, command, spill_dir, None).await {
        process.wait().await;
    }
}

/// As with Docker: the image's entrypoint before the arguments or, without any, before its command.
fn argv(spec: &SandboxSpec, image: &ImageRoot) -> Vec<String> {
    let arguments = if spec.argv.is_empty() { &image.cmd } else { &spec.argv };
    let argv: Vec<String> = image.entrypoint.iter().chain(arguments).cloned().collect();
    if argv.is_empty() { DEFAULT_COMMAND.map(str::to_owned).to_vec() } else { argv }
}

/// Why the runtime did not make the container, as the client sees it.
fn refused(error: container_runtime::Error) -> Error {
    match &error {
        container_runtime::Error::InvalidSpec { .. } => Error::Invalid(error.to_string()),
        container_runtime::Error::Setup { source, .. } => {
            tracing::warn!(%error, cause = %source, "a sandbox could not be made");
            let advice = "the local server's log says at which step";
            Error::Precondition(format!("the sandbox could not be made: {source}; {advice}"))
        }
        _ => Error::Runtime { source: error.into() },
    }
}
