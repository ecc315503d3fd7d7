//! Calls of every kind at once, and what the server has said yes to.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use modal_client::{App, BuiltImage, Client, Image, SandboxId};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, task::JoinSet};

use crate::{backend, context::Context, soak::random::SplitMix};

/// What sandboxes run; no other program on the machine does.
pub(super) const SLEEP: &str = "73910573";
const APP: &str = "soak-crash";
const VOLUME: &str = "soak-crash";

/// Where a kill is aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Create,
    ExecStart,
    Stream,
    VolumeCommit,
    ImageLayer,
    RecordWrite,
}

impl Phase {
    pub(super) const ALL: [Self; 6] = [
        Self::Create,
        Self::ExecStart,
        Self::Stream,
        Self::VolumeCommit,
        Self::ImageLayer,
        Self::RecordWrite,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::ExecStart => "exec start",
            Self::Stream => "stream",
            Self::VolumeCommit => "volume commit",
            Self::ImageLayer => "image layer",
            Self::RecordWrite => "record write",
        })
    }
}

/// How many calls of each phase are under way.
#[derive(Default)]
struct Gauges {
    under_way: [AtomicUsize; Phase::ALL.len()],
    changed: Notify,
}

/// A call under way; dropping it ends it.
struct Inside<'g> {
    gauges: &'g Gauges,
    phase: Phase,
}

impl Gauges {
    fn enter(&self, phase: Phase) -> Inside<'_> {
        self.under_way[phase.index()].fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Inside { gauges: self, phase }
    }

    fn is_inside(&self, phase: Phase) -> bool {
        self.under_way[phase.index()].load(Ordering::SeqCst) > 0
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.gauges.under_way[self.phase.index()].fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the server has said yes to.
#[derive(Default)]
pub(super) struct Acknowledged {
    sandboxes: Vec<SandboxId>,
    /// Path on the volume, and the hash of what was put there.
    files: Vec<(String, [u8; 32])>,
    images: Vec<BuiltImage>,
    secrets: Vec<String>,
}

impl Acknowledged {
    pub(super) fn extend(&mut self, other: Self) {
        self.sandboxes.extend(other.sandboxes);
        self.files.extend(other.files);
        self.images.extend(other.images);
        self.secrets.extend(other.secrets);
    }

    /// Looks for the newest `count` of each kind in a new server.
    pub(super) async fn verify(&self, client: &Client, count: usize) -> anyhow::Result<()> {
        let sandboxes = client.sandboxes();
        for id in self.sandboxes.iter().rev().take(count) {
            let sandbox = sandboxes.from_id(id).await.with_context(|| format!("sandbox {id}"))?;
            let end = sandbox.poll().await?;
            ensure!(end.is_some(), "sandbox {id} has no end");
        }
        let volume = client.volume(VOLUME).await?;
        for (path, hash) in self.files.iter().rev().take(count) {
            let data = volume.read(path.as_str()).bytes().await;
            let data = data.with_context(|| format!("acknowledged file {path}"))?;
            ensure!(<[u8; 32]>::from(Sha256::digest(&data)) == *hash, "file {path} is damaged");
        }
        for name in self.secrets.iter().rev().take(count) {
            client.secrets().get(name).await.with_context(|| format!("secret {name}"))?;
        }
        // One of the images runs; that all are known is in the building of the next.
        if let Some(image) = self.images.last() {
            let app = client.app(APP).await?;
            let id = &image.id;
            let sandbox = client.sandbox(&app, image).command(["cat", "/soak"]).create().await;
            let exit = sandbox.with_context(|| format!("image {id}"))?.wait().await?;
            ensure!(exit.code == 0, "image {id} has lost its layer: {exit:?}");
        }
        Ok(())
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sandboxes, files, images, secrets } = self;
        let (sandboxes, files) = (sandboxes.len(), files.len());
        let (images, secrets) = (images.len(), secrets.len());
        write!(f, "{sandboxes} sandboxes, {files} files, {images} images, {secrets} secrets")
    }
}

/// Workers that call until the server is gone.
pub(super) struct Load {
    gauges: Arc<Gauges>,
    known: Arc<Mutex<Acknowledged>>,
    workers: JoinSet<()>,
}

/// What every worker has.
#[derive(Clone)]
struct Worker {
    client: Client,
    gauges: Arc<Gauges>,
    known: Arc<Mutex<Acknowledged>>,
    /// Makes names that no other round has.
    round: u64,
}

impl Load {
    pub(super) fn start(client: Client, round: u64) -> Self {
        let (gauges, known) = (Arc::<Gauges>::default(), Arc::<Mutex<Acknowledged>>::default());
        let worker =
            Worker { client, gauges: Arc::clone(&gauges), known: Arc::clone(&known), round };
        let mut workers = JoinSet::new();
        // Each ends with the first call that the killed server does not answer.
        for number in 0..2 {
            let worker = worker.clone();
            workers.spawn(async move { drop(worker.sandboxes(number).await) });
        }
        workers.spawn({
            let worker = worker.clone();
            async move { drop(worker.files().await) }
        });
        workers.spawn({
            let worker = worker.clone();
            async move { drop(worker.images().await) }
        });
        workers.spawn(async move { drop(worker.secrets().await) });
        Self { gauges, known, workers }
    }

    /// Waits until a call of `phase` is under way, and then for `delay`.
    pub(super) async fn wait_for(&self, phase: Phase, delay: Duration) {
        loop {
            let changed = self.gauges.changed.notified();
            if self.gauges.is_inside(phase) {
                break;
            }
            changed.await;
        }
        tokio::time::sleep(delay).await;
        // One that was faster is followed by another.
        loop {
            let changed = self.gauges.changed.notified();
            if self.gauges.is_inside(phase) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn is_inside(&self, phase: Phase) -> bool {
        self.gauges.is_inside(phase)
    }

    /// Ends the workers; what was acknowledged.
    pub(super) async fn stop(mut self) -> Acknowledged {
        self.workers.shutdown().await;
        std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Worker {
    fn acknowledge(&self, note: impl FnOnce(&mut Acknowledged)) {
        note(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn sandboxes(self, number: usize) -> anyhow::Result<()> {
        let app = self.client.app(APP).await?;
        let image = self.client.build(&Image::debian_slim(), &app).await?;
        for count in 0_u64.. {
            let name = format!("s-{:x}-{number}-{count}", self.round);
            let create = self.client.sandbox(&app, &image).command(["sleep", SLEEP]).name(name);
            let inside = self.gauges.enter(Phase::Create);
            let sandbox = create.create().await?;
            drop(inside);
            self.acknowledge(|known| known.sandboxes.push(sandbox.id().clone()));
            let inside = self.gauges.enter(Phase::ExecStart);
            let script = format!("setsid sleep {SLEEP} & head -c 3000000 /dev/zero");
            let process = sandbox.exec(["sh", "-c", &script]).start().await?;
            drop(inside);
            let inside = self.gauges.enter(Phase::Stream);
            let mut output = process.stdout();
            while let Some(chunk) = output.next().await {
                chunk?;
            }
            drop(inside);
            if count % 2 == 0 {
                sandbox.terminate().await?;
            }
        }
        Ok(())
    }

    async fn files(self) -> anyhow::Result<()> {
        let volume = self.client.volume(VOLUME).create_if_missing().await?;
        let mut random = SplitMix(self.round);
        for count in 0_u64.. {
            let size = 1_000 + (random.next() % 300_000) as usize;
            let data: Vec<u8> = std::iter::repeat_with(|| random.next() as u8).take(size).collect();
            let path = format!("{:x}/{count}", self.round);
            let hash = Sha256::digest(&data).into();
            let inside = self.gauges.enter(Phase::VolumeCommit);
            volume.upload().bytes(data, path.as_str()).await?;
            drop(inside);
            self.acknowledge(|known| known.files.push((path, hash)));
        }
        Ok(())
    }

    async fn images(self) -> anyhow::Result<()> {
        let app = self.client.app(APP).await?;
        for count in 0_u64.. {
            let command = format!("echo {:x}-{count} > /soak", self.round);
            let image = Image::debian_slim().run_commands([command]);
            let inside = self.gauges.enter(Phase::ImageLayer);
            let built = self.client.build(&image, &app).await?;
            drop(inside);
            self.acknowledge(|known| known.images.push(built));
        }
        Ok(())
    }

    async fn secrets(self) -> anyhow::Result<()> {
        for count in 0_u64.. {
            let name = format!("soak-{:x}-{count}", self.round);
            let inside = self.gauges.enter(Phase::RecordWrite);
            self.client.secrets().get_or_create(&name, [("KEY", "value")]).await?;
            drop(inside);
            self.acknowledge(|known| known.secrets.push(name));
        }
        Ok(())
    }
}

/// Makes what every round needs.
pub(super) async fn prepare(context: &Context) -> anyhow::Result<()> {
    let (client, _) = backend::client(context).await?;
    client.environments().get_or_create(&context.environment).await?;
    client.app(APP).create_if_missing().await?;
    client.volume(VOLUME).create_if_missing().await?;
    one_sandbox(&client).await
}

/// One sandbox from its start to its end.
pub(super) async fn one_sandbox(client: &Client) -> anyhow::Result<()> {
    let app: App = client.app(APP).await?;
    let image = client.build(&Image::debian_slim(), &app).await?;
    let exit = client.sandbox(&app, &image).command(["true"]).create().await?.wait().await?;
    ensure!(exit.code == 0, "a sandbox ended with {exit:?}");
    Ok(())
}
