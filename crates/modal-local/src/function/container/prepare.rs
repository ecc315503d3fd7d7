//! From a function's definition to a container whose entrypoint runs.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container_runtime::{
    Container, ContainerSpec, ExecSpec, Limits, Mount, NetworkSpec, Process, PtySize, RootSpec,
    Stdio,
};
use futures::future::try_join_all;
use modal_proto::client::{Function, Resources, SecretSource, secret_source::Source};

use super::arguments;
use super::plane::{self, Plane};
use crate::auth::identity::Bearer;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::function::definition::FunctionSpec;
use crate::function::package;
use crate::function::place::Place;
use crate::function::pool::Pool;
use crate::function::task::Task;
use crate::ids::{ImageId, MountId, NetworkFileSystemId, VolumeId};
use crate::image::{ImageRoot, Lease};
use crate::sandbox::snapshot::RootRecord;
use crate::sandbox::usage::{self, DiskLimit};
use crate::sandbox::{self, disk_watch::DiskWatch};
use crate::sandbox::{
    Environment, HOSTNAME, Network, NetworkAccess, NetworkPlan, Scratch, inside_listener,
    mount_target, overlaid, writable,
};
use crate::service::workspace;
use crate::state::apps::AppRecord;

/// What a function's program is run by; unchanged from Modal's package.
const ENTRYPOINT: [&str; 4] = ["python", "-u", "-m", "modal._container_entrypoint"];
/// Where programs start if the image does not say.
const DEFAULT_WORKDIR: &str = "/root";
/// Where modules are found: those of the client first, then Modal's own package.
const PYTHONPATH: &str = "/root:/pkg";

/// How long a container's identity token is good. A container takes inputs for as long as there are some, each for a day at
/// most.
const IDENTITY_LIFE: Duration = Duration::from_secs(86_400);

/// A container whose entrypoint runs.
pub(super) struct Prepared {
    pub(super) container: Container,
    pub(super) process: Process,
    pub(super) network: Network,
    pub(super) plane: Plane,
    pub(super) scratch: Scratch,
    /// The device of a container without a network; it lives as long as this is open.
    pub(super) tun: Option<OwnedFd>,
    /// Keep the layers of the image, and of what Modal's package imports.
    pub(super) leases: Vec<Lease>,
    /// What it writes to, and how much it may.
    pub(super) disk: DiskWatch,
}

/// Makes the container and starts its entrypoint.
pub(super) async fn prepare(ctx: &Ctx, pool: &Arc<Pool>, task: &Arc<Task>) -> Result<Prepared> {
    let (spec, function) = (&task.spec, &task.spec.function);
    let image_id = ImageId::parse(&function.image_id)?;
    let scratch = Scratch::create_for(&ctx.dir, task.id.as_str()).await?;
    let app = ctx.apps.get(&spec.app).await?;
    let image = ctx.images.resolve_deployed(&image_id).await?;
    let (environment, secrets, mounts, (trees, package)) = tokio::try_join!(
        ctx.environments.name_of(&app.environment_id),
        secrets(ctx, function),
        volumes(ctx, function),
        trees(ctx, spec, &image),
    )?;
    let arguments = arguments::encode(ctx, task, &environment).await?;
    let mut env = Environment::with_defaults();
    ctx.furnishing.name(&mut env);
    env.extend(image.env.iter().cloned())?;
    env.extend(secrets)?;
    let access = access(function)?;
    let plan = NetworkPlan::new(&access, &env, ctx.relays.all())?;
    let ports: Vec<u16> = ctx.web.ports().await?.into_iter().chain(env.opened_ports()).collect();
    let plan = plan.with_web_functions(&env, &ports);
    let run_dir = scratch.run_dir();
    let plane = Plane::open(ctx, pool, task, &run_dir, arguments).await?;
    let mut layers = overlaid(image.layers.clone(), trees, scratch.mounts_dir()).await?;
    let root = RootRecord {
        image: Arc::clone(&image.base),
        overlaid: layers[image.layers.len()..].to_vec(),
        upper: scratch.upper_dir(),
        mount_points: mounts.iter().map(|mount| mount.target.clone()).collect(),
    };
    layers.push(ctx.furnishing.layer(&plan));
    let runtime = ctx.runtime().await?;
    // Modal's web servers look for `eth0`, also where nothing can be reached through it.
    let network = if runtime.capabilities().tun { NetworkSpec::Tun } else { plan.spec() };
    let mut spec = ContainerSpec::new(
        task.id.as_str().parse().map_err(refused)?,
        RootSpec { layers, upper: scratch.upper() },
    );
    spec.hostname = HOSTNAME.to_owned();
    let volumes = writable(&mounts);
    spec.mounts = mounts;
    spec.mounts.push(Mount { read_only: true, ..Mount::new(run_dir, plane::INSIDE) });
    spec.files = ctx.furnishing.files(&plan);
    let resources = function.resources.clone().unwrap_or_default();
    let limit = DiskLimit::new(&ctx.room, disk(&resources));
    spec.limits = usage::limits(&limits(&resources), limit, &runtime);
    spec.network = network;
    let container = runtime.create(spec).await.map_err(refused)?;
    let tun = if plan.has_gateway() { None } else { container.take_tun() };
    let network = Network::start(&container, plan).await?;
    let plane = plane.relay(ctx, inside_listener(&container, plane::port(ctx)).await);
    let (plane, url) = plane.listen_inside(&container).await?;
    describe(&mut env, task, &environment, &image, &url);
    env.put("MODAL_IDENTITY_TOKEN", &identity_token(ctx, task, &app, &environment)?);
    let command = command(task, &image)?;
    let terminal = sandbox::terminal(function.pty_info.clone());
    if let Some(terminal) = &terminal {
        let set = terminal.variables.iter().filter(|(_, value)| !value.is_empty());
        set.for_each(|(name, value)| env.put(name, value));
    }
    let terminal = terminal.map(|terminal| terminal.size);
    let (mut process, workdir) = start(&container, &env, &image, command, terminal).await?;
    let keyboard = process.take_stdin();
    let spill_dir = scratch.spill_dir();
    task.set_place(Place::new(container.clone(), env, workdir, spill_dir, root, keyboard));
    let leases = package.into_iter().chain([image.lease]).collect();
    let disk =
        DiskWatch { changes: vec![scratch.upper_dir()], volumes, limit, room: ctx.room.clone() };
    Ok(Prepared { container, process, network, plane, scratch, tun, leases, disk })
}

/// What is run: Modal's entrypoint, or the image's own.
fn command(task: &Task, image: &ImageRoot) -> Result<Vec<String>> {
    if !task.spec.is_direct() {
        return Ok(ENTRYPOINT.map(str::to_owned).to_vec());
    }
    let command: Vec<String> = image.entrypoint.iter().chain(&image.cmd).cloned().collect();
    if command.is_empty() {
        let text = "the server's image has neither an entrypoint nor a command to start it by";
        return Err(Error::Precondition(text.to_owned()));
    }
    Ok(command)
}

/// Starts the program; answers it and the directory it runs in.
async fn start(
    container: &Container,
    env: &Environment,
    image: &ImageRoot,
    command: Vec<String>,
    terminal: Option<PtySize>,
) -> Result<(Process, PathBuf)> {
    let workdir = image.workdir.clone().unwrap_or_else(|| DEFAULT_WORKDIR.to_owned());
    for workdir in [workdir.as_str(), DEFAULT_WORKDIR, "/"] {
        let mut exec = ExecSpec::new(&command);
        exec.env = env.to_os();
        exec.cwd = PathBuf::from(workdir);
        exec.pty = terminal;
        exec.stdin = if terminal.is_some() { Stdio::Pipe } else { Stdio::Null };
        match container.exec(exec).await {
            Ok(process) => return Ok((process, PathBuf::from(workdir))),
            Err(container_runtime::Error::Workdir { .. }) if workdir != "/" => {}
            Err(error) if error.is_program_not_found() && command != ENTRYPOINT => {
                let text = format!("the server's image has no `{}` to start it by", command[0]);
                return Err(Error::Precondition(text));
            }
            Err(error) if error.is_program_not_found() => {
                return Err(Error::Precondition(
                    "the function's image has no `python`: functions run by Modal's Python package"
                        .to_owned(),
                ));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    Err(Error::Precondition("the container has no working directory".to_owned()))
}

/// What a program can read about where it runs, and how it finds this server.
fn describe(
    env: &mut Environment,
    task: &Task,
    environment: &str,
    image: &ImageRoot,
    server: &str,
) {
    let image_path = image.env.iter().find(|(name, _)| name == "PYTHONPATH");
    let path = match image_path {
        Some((_, path)) if !path.is_empty() => format!("{PYTHONPATH}:{path}"),
        _ => PYTHONPATH.to_owned(),
    };
    let variables = [
        ("PYTHONPATH", path.as_str()),
        ("MODAL_SERVER_URL", server),
        ("MODAL_CONTAINER_ARGUMENTS_PATH", plane::ARGUMENTS),
        ("MODAL_IS_REMOTE", "1"),
        ("MODAL_TASK_ID", task.id.as_str()),
        ("MODAL_FUNCTION_ID", task.spec.id.as_str()),
        ("MODAL_IMAGE_ID", &task.spec.function.image_id),
        ("MODAL_ENVIRONMENT", environment),
        ("MODAL_CLOUD_PROVIDER", "local"),
        ("MODAL_REGION", "local"),
    ];
    for (name, value) in variables {
        // The image's own program is told nothing of Modal's package.
        if name != "PYTHONPATH" || !task.spec.is_direct() {
            env.put(name, value);
        }
    }
}

/// A token about the container.
fn identity_token(ctx: &Ctx, task: &Task, app: &AppRecord, environment: &str) -> Result<String> {
    let (id, function) = (&task.spec.base, &task.spec.function);
    let bearer = Bearer {
        workspace: (workspace::WORKSPACE_ID, workspace::NAME),
        environment: (&app.environment_id, environment),
        app: (&app.app_id, app.name.as_deref().unwrap_or_default()),
        function: Some((id.as_str(), &function.function_name)),
        container: task.id.as_str(),
    };
    ctx.auth.identities.issue(&format!("http://{}", ctx.authority()), &bearer, IDENTITY_LIFE)
}

async fn secrets(ctx: &Ctx, function: &Function) -> Result<Vec<(String, String)>> {
    let source = |id: &String| SecretSource { source: Some(Source::SecretId(id.clone())) };
    let sources: Vec<SecretSource> = function.secret_ids.iter().map(source).collect();
    let variables = ctx.secrets.resolve_sources(&sources).await?;
    Ok(variables.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
}

async fn volumes(ctx: &Ctx, function: &Function) -> Result<Vec<Mount>> {
    let mounts = function.volume_mounts.iter().map(|volume| async move {
        let id = VolumeId::parse(&volume.volume_id)?;
        let sub_path = volume.sub_path.clone().unwrap_or_default();
        let (source, sub_path) = ctx.volumes.directory(&id, &sub_path).await?;
        let target = mount_target(&volume.mount_path)?;
        let read_only = volume.read_only;
        Ok::<_, Error>(Mount { sub_path, read_only, ..Mount::new(source, target) })
    });
    let network = function.shared_volume_mounts.iter().map(|mount| async move {
        let id = NetworkFileSystemId::parse(&mount.shared_volume_id)?.volume();
        let (source, _) = ctx.volumes.directory(&id, "").await?;
        Ok::<_, Error>(Mount::new(source, mount_target(&mount.mount_path)?))
    });
    let (volumes, network) = tokio::try_join!(try_join_all(mounts), try_join_all(network))?;
    Ok(volumes.into_iter().chain(network).collect())
}

/// The files of the client, and what Modal's own package needs to be imported.
async fn trees(
    ctx: &Ctx,
    spec: &FunctionSpec,
    image: &ImageRoot,
) -> Result<(Vec<PathBuf>, Option<Lease>)> {
    let (function, direct) = (&spec.function, spec.is_direct());
    let (mut trees, mut package) = (Vec::new(), None);
    if function.mount_client_dependencies && !direct {
        let (tree, lease) = package::dependencies(ctx, function, image).await?;
        trees.push(tree);
        package = Some(lease);
    }
    for id in &function.mount_ids {
        trees.push(ctx.mounts.tree(&MountId::parse(id)?).await?);
    }
    Ok((trees, package))
}

fn access(function: &Function) -> Result<NetworkAccess> {
    NetworkAccess::parse(function.block_network, function.network_access.clone())
}

/// A request alone reserves on Modal and kills nobody; only the maximum is a limit.
fn limits(resources: &Resources) -> Limits {
    let memory = u64::from(resources.memory_mb_max) << 20;
    Limits {
        memory: (memory > 0).then_some(memory),
        cpu: (resources.milli_cpu_max > 0).then(|| f64::from(resources.milli_cpu_max) / 1_000.0),
        ..Limits::default()
    }
}

/// Bytes that it may write in all, if its definition says.
fn disk(resources: &Resources) -> Option<u64> {
    Some(u64::from(resources.ephemeral_disk_mb) << 20).filter(|bytes| *bytes > 0)
}

fn refused(error: container_runtime::Error) -> Error {
    match &error {
        container_runtime::Error::InvalidSpec { .. } => Error::Invalid(error.to_string()),
        container_runtime::Error::Setup { source, .. } => {
            Error::Precondition(format!("{source}; the local server's log says at which step"))
        }
        _ => Error::Runtime { source: error.into() },
    }
}
