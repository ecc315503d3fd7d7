//! Calls of every kind at once, and what the server has said yes to.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use modal_client::{
    App, Autoscaling, BuiltImage, Client, FunctionCallId, FunctionSpec, Image, SandboxId,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::repeats::{self, Repeat, Repeats, Scene};
use crate::{context::Context, soak::random::SplitMix};

/// What sandboxes run; no other program on the machine does.
pub(super) const SLEEP: &str = "73910573";
pub(super) const APP: &str = "soak-crash";
pub(super) const FUNCTIONS: &str = "soak-crash-functions";
pub(super) const VOLUME: &str = "soak-crash";
/// The function that is called.
const SOURCE: &str = "def double(x):\n    return 2 * x\n";
/// How long an answer may take that a killed server owes.
const ANSWER: Duration = Duration::from_secs(120);

/// What the server has said yes to.
#[derive(Default)]
pub(super) struct Acknowledged {
    sandboxes: Vec<SandboxId>,
    /// Path on the volume, and the hash of what was put there.
    files: Vec<(String, [u8; 32])>,
    images: Vec<BuiltImage>,
    secrets: Vec<String>,
    /// Calls, and what they are to answer.
    calls: Vec<(FunctionCallId, i64)>,
    /// Calls that are sent again, acknowledged or not.
    repeats: Vec<Repeat>,
}

impl Acknowledged {
    pub(super) fn extend(&mut self, other: Self) {
        self.sandboxes.extend(other.sandboxes);
        self.files.extend(other.files);
        self.images.extend(other.images);
        self.secrets.extend(other.secrets);
        self.calls.extend(other.calls);
        self.repeats.extend(other.repeats);
    }

    /// Sends the calls of the killed server again to a new one.
    pub(super) async fn repeat(&mut self, client: &Client, scene: &Scene) -> anyhow::Result<()> {
        repeats::repeat_all(&mut self.repeats, client, scene).await
    }

    /// Nothing that was sent again was done twice.
    pub(super) async fn verify_repeats(
        &self,
        client: &Client,
        scene: &Scene,
    ) -> anyhow::Result<()> {
        repeats::verify(&self.repeats, client, scene).await
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
        for (id, expected) in self.calls.iter().rev().take(count) {
            let answer = client.function_call(id).get_within::<i64>(ANSWER).await;
            let answer = answer.with_context(|| format!("acknowledged call {id}"))?;
            ensure!(answer == *expected, "call {id} answers {answer}, not {expected}");
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
        let Self { sandboxes, files, images, secrets, calls, repeats } = self;
        let (sandboxes, files, calls) = (sandboxes.len(), files.len(), calls.len());
        let (images, secrets, repeats) = (images.len(), secrets.len(), repeats.len());
        write!(
            f,
            "{sandboxes} sandboxes, {files} files, {images} images, {secrets} secrets, {calls} calls, \
             {repeats} repeated"
        )
    }
}

/// Workers that call until the server is gone.
pub(super) struct Load {
    known: Arc<Mutex<Acknowledged>>,
    repeats: Repeats,
    workers: JoinSet<()>,
}

/// What every worker has.
#[derive(Clone)]
struct Worker {
    client: Client,
    known: Arc<Mutex<Acknowledged>>,
    /// Makes names that no other round has.
    round: u64,
}

impl Load {
    pub(super) fn start(client: Client, scene: Scene, round: u64) -> Self {
        let known = Arc::<Mutex<Acknowledged>>::default();
        let worker = Worker { client, known: Arc::clone(&known), round };
        let mut workers = JoinSet::new();
        // Each ends with the first call that the killed server does not answer.
        for number in 0..2 {
            let worker = worker.clone();
            workers.spawn(async move { drop(worker.sandboxes(number).await) });
        }
        let other = worker.clone();
        workers.spawn(async move { drop(other.files().await) });
        let other = worker.clone();
        workers.spawn(async move { drop(other.images().await) });
        let other = worker.clone();
        workers.spawn(async move { drop(other.secrets().await) });
        let (other, repeats) = (worker.clone(), Repeats::default());
        let repeating = repeats.clone().work(other.client, scene, round);
        workers.spawn(async move { drop(repeating.await) });
        workers.spawn(async move { drop(worker.calls().await) });
        Self { known, repeats, workers }
    }

    /// Ends the workers; what was acknowledged.
    pub(super) async fn stop(mut self) -> Acknowledged {
        self.workers.shutdown().await;
        let mut known =
            std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        known.repeats = self.repeats.take();
        known
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
            let sandbox = create.create().await?;
            self.acknowledge(|known| known.sandboxes.push(sandbox.id().clone()));
            let script = format!("setsid sleep {SLEEP} & head -c 3000000 /dev/zero");
            let process = sandbox.exec(["sh", "-c", &script]).start().await?;
            let mut output = process.stdout();
            while let Some(chunk) = output.next().await {
                chunk?;
            }
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
            volume.upload().bytes(data, path.as_str()).await?;
            self.acknowledge(|known| known.files.push((path, hash)));
        }
        Ok(())
    }

    async fn images(self) -> anyhow::Result<()> {
        let app = self.client.app(APP).await?;
        for count in 0_u64.. {
            let command = format!("echo {:x}-{count} > /soak", self.round);
            let image = Image::debian_slim().run_commands([command]);
            let built = self.client.build(&image, &app).await?;
            self.acknowledge(|known| known.images.push(built));
        }
        Ok(())
    }

    async fn secrets(self) -> anyhow::Result<()> {
        for count in 0_u64.. {
            let name = format!("soak-{:x}-{count}", self.round);
            self.client.secrets().get_or_create(&name, [("KEY", "value")]).await?;
            self.acknowledge(|known| known.secrets.push(name));
        }
        Ok(())
    }

    /// Calls are spawned faster than they are answered, so that a kill finds some of each kind.
    async fn calls(self) -> anyhow::Result<()> {
        let function = self.client.function(FUNCTIONS, "double").await?;
        for number in 0_i64.. {
            let calls = [number, number + 1, number + 2].map(|number| function.spawn((number,)));
            let mut ids = Vec::new();
            for (number, call) in (number..).zip(futures::future::join_all(calls).await) {
                let id = call?.id().clone();
                ids.push(id.clone());
                self.acknowledge(|known| known.calls.push((id, 2 * number)));
            }
            if let Some(first) = ids.first() {
                self.client.function_call(first).get_within::<i64>(ANSWER).await?;
            }
        }
        Ok(())
    }
}

/// Makes what every round needs.
pub(super) async fn prepare(client: &Client, context: &Context) -> anyhow::Result<()> {
    client.environments().get_or_create(&context.environment).await?;
    client.app(APP).create_if_missing().await?;
    client.volume(VOLUME).create_if_missing().await?;
    one_sandbox(client).await?;
    let image = Image::debian_slim();
    let double = FunctionSpec::from_source("soak", SOURCE, "double", &image)
        .autoscaling(Autoscaling::default().max(1));
    client.deploy(FUNCTIONS).function(double).await?;
    let double = client.function(FUNCTIONS, "double").await?;
    ensure!(double.call::<i64>((21,)).await? == 42);
    Ok(())
}

/// One sandbox from its start to its end.
pub(super) async fn one_sandbox(client: &Client) -> anyhow::Result<()> {
    let app: App = client.app(APP).await?;
    let image = client.build(&Image::debian_slim(), &app).await?;
    let exit = client.sandbox(&app, &image).command(["true"]).create().await?.wait().await?;
    ensure!(exit.code == 0, "a sandbox ended with {exit:?}");
    Ok(())
}
