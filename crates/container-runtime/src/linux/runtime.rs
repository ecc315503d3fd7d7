//! The runtime: one instance, one spawner, the containers that live.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::channel::Channel;
use super::container::{Container, Parts};
use super::instance::Instance;
use super::message::{Ids, Plan};
use super::probe;
use super::ranges::Ranges;
use super::spawner_link::SpawnerLink;
use super::sys;
use crate::capabilities::{Capabilities, LimitsBackend, Mode};
use crate::error::{Error, Result};
use crate::spec::{ContainerId, ContainerSpec, NetworkSpec, RuntimeConfig, Upper};

/// `/dev/shm` where no memory limit says how much there may be.
const DEFAULT_SHM: u64 = 1 << 30;

/// Makes containers. Clones share one instance; dropping the last kills whatever still runs.
#[derive(Debug, Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
    capabilities: Arc<Capabilities>,
}

/// What all containers of an instance share.
#[derive(Debug)]
pub(crate) struct Shared {
    instance: Instance,
    spawner: Arc<SpawnerLink>,
    ranges: Ranges,
    creating: Semaphore,
    live: Live,
    /// See [`Runtime::memory`].
    memory: Option<u64>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.spawner.kill_now();
    }
}

impl Runtime {
    /// Cleans up after instances that were killed, starts the spawner and tries out, in throw-away containers,
    /// what this machine can do.
    ///
    /// Fails with [`Error::Unsupported`] where nothing isolates, with [`Error::NoSpawner`] where no program can
    /// become the spawner.
    pub async fn start(config: RuntimeConfig) -> Result<Self> {
        let state_dir = config.state_dir.clone();
        let instance = tokio::task::spawn_blocking(move || Instance::claim(&state_dir));
        let instance = instance.await.map_err(|_| Error::RuntimeGone)??;
        let memory = machine_memory().into_iter().chain(instance.groups().memory_limit()).min();
        let shared = Arc::new(Shared {
            instance,
            memory,
            spawner: SpawnerLink::start(config.spawner)?,
            ranges: Ranges::default(),
            creating: Semaphore::new(config.max_parallel_creates.max(1)),
            live: Live::default(),
        });
        match probe::probe(&shared).await {
            Ok(capabilities) => Ok(Self { shared, capabilities: Arc::new(capabilities) }),
            Err(error) => {
                // The reason for not starting matters more than what could not be cleaned.
                let _leftovers = shared.stop().await;
                Err(error)
            }
        }
    }

    /// What the probe found.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether it can make containers. False once its spawner has died, which takes every container
    /// with it; then only another [`Runtime::start`] helps.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.shared.spawner.is_dead()
    }

    /// Bytes of memory that all containers together can have: the machine's, or less where this
    /// process's own control group allowed less when the runtime started. `None` where nothing says.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.shared.memory
    }

    /// A private directory that is deleted with the instance, also after a crash, at the next start. Upper
    /// directories of builds belong here.
    #[must_use]
    pub fn instance_dir(&self) -> &Path {
        self.shared.instance.directory()
    }

    /// Makes a container; on return its init waits for programs. Waits in line behind other creations.
    ///
    /// Dropping the future gives the container up: what has been made of it goes away by itself.
    pub async fn create(&self, spec: ContainerSpec) -> Result<Container> {
        if spec.network == NetworkSpec::Tun && !self.capabilities.tun {
            return Err(Error::Unsupported {
                reason: "containers cannot have a network here".to_owned(),
                hint: self.capabilities.notes.join("; "),
            });
        }
        let shared = Arc::clone(&self.shared);
        let mode = self.capabilities.mode;
        let making = tokio::spawn(async move { shared.create(spec, mode).await });
        making.await.map_err(|_| Error::RuntimeGone)?
    }

    /// Ends every container, the spawner and the instance, and deletes the instance's directory.
    pub async fn shutdown(self) -> Result<()> {
        self.shared.stop().await
    }
}

impl Shared {
    /// See [`Runtime::create`].
    pub(crate) async fn create(
        self: &Arc<Self>,
        spec: ContainerSpec,
        mode: Mode,
    ) -> Result<Container> {
        spec.check()?;
        let _turn = self.creating.acquire().await.map_err(|_| Error::RuntimeGone)?;
        let registration = self.live.register(&spec.id)?;
        let range = match mode {
            Mode::Full => Some(self.ranges.take().ok_or_else(too_many)?),
            Mode::UserNs => None,
        };
        let ids = range.as_ref().map_or(Ids::Caller, |range| Ids::Range(range.base()));
        let groups = self.instance.groups().clone();
        let (id, limits) = (spec.id.clone(), spec.limits.clone());
        let group = tokio::task::spawn_blocking(move || groups.create(&id, &limits)).await;
        let group = group
            .map_err(|_| Error::RuntimeGone)?
            .map_err(Error::system("make a container's control groups"))?;
        let plan = self.plan(&spec, ids, &group.procs(), group.exec_groups());
        let (channel, born) = match self.ask(&spec.id, ids, &plan).await {
            Ok(made) => made,
            Err(error) => {
                // Nothing has joined the groups; a failure to remove them is mended at the next start.
                let _leftover = tokio::task::spawn_blocking(move || group.remove()).await;
                return Err(error);
            }
        };
        let container = Container::adopt(Parts {
            id: spec.id,
            channel,
            born,
            group,
            limits: spec.limits,
            backend: self.instance.groups().backend(),
            finish_first: spec.trusted_build,
            registration,
            range,
        })?;
        match container.ready().await {
            Ok(()) => Ok(container),
            Err(error) => {
                // The first error is the one to tell; this one waits until all is gone.
                let _also_failed = container.terminate().await;
                Err(error)
            }
        }
    }

    async fn ask(
        &self,
        id: &ContainerId,
        ids: Ids,
        plan: &Plan,
    ) -> Result<(Channel, super::spawner_link::Born)> {
        let (ours, theirs): (OwnedFd, OwnedFd) =
            sys::packet_pair().map_err(Error::system("make a socket pair"))?;
        let channel = Channel::new(ours).map_err(Error::system("watch init's socket"))?;
        let plan = sys::memory_file(&plan.encode()).map_err(Error::system("hold the plan"))?;
        let born = self.spawner.create(ids, theirs, plan).await?.map_err(|failed| {
            Error::Setup { container: id.clone(), stage: failed.stage, source: failed.source }
        })?;
        Ok((channel, born))
    }

    fn plan(
        &self,
        spec: &ContainerSpec,
        ids: Ids,
        join: &[std::path::PathBuf],
        exec_groups: Option<&Path>,
    ) -> Plan {
        let unlimited = self.instance.groups().backend() == LimitsBackend::Rlimits;
        Plan {
            ids,
            hostname: spec.hostname.clone(),
            layers: spec.root.layers.clone(),
            upper: spec.root.upper.clone(),
            durable: spec.trusted_build && matches!(spec.root.upper, Upper::Dir { .. }),
            mounts: spec.mounts.clone(),
            files: spec.files.clone(),
            tun: spec.network == NetworkSpec::Tun,
            join: join.to_vec(),
            exec_groups: exec_groups.map(Path::to_path_buf),
            stage: self.instance.stage(),
            limit_memory: spec.limits.memory.filter(|_| unlimited),
            limit_pids: spec.limits.pids.filter(|_| unlimited),
            limit_file_size: spec.limits.file_size,
            shm: spec.limits.memory.map_or(DEFAULT_SHM, |bytes| bytes / 2),
        }
    }

    /// This instance's directory, for the probe's empty layer.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    async fn stop(self: &Arc<Self>) -> Result<()> {
        self.creating.close();
        self.spawner.stop().await.map_err(Error::system("stop the spawner"))?;
        self.live.wait_empty().await;
        let shared = Arc::clone(self);
        let removed = tokio::task::spawn_blocking(move || shared.instance.remove()).await;
        removed.map_err(|_| Error::RuntimeGone)?
    }
}

/// Source: proc_meminfo(5); the unit is KiB.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn too_many() -> Error {
    Error::InvalidSpec {
        field: "container",
        reason: "every range of user ids is taken by a live container".to_owned(),
    }
}

/// The names of live containers.
#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<watch::Sender<usize>>, Arc<Mutex<HashSet<ContainerId>>>);

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)), Arc::default())
    }
}

impl Live {
    fn register(&self, id: &ContainerId) -> Result<Registration> {
        let mut names = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(id.clone()) {
            return Err(Error::InvalidSpec {
                field: "container id",
                reason: format!("`{id}` is the name of a live container"),
            });
        }
        self.0.send_replace(names.len());
        Ok(Registration { id: id.clone(), live: self.clone() })
    }

    async fn wait_empty(&self) {
        // The sender lives in `self`, so the channel cannot be closed.
        let mut count = self.0.subscribe();
        let _empty = count.wait_for(|count| *count == 0).await;
    }
}

/// A container's claim to its name, given up when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    id: ContainerId,
    live: Live,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut names = self.live.1.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(&self.id);
        self.live.0.send_replace(names.len());
    }
}
