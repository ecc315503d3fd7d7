//! Sandboxes over Modal's API: on Modal, or on this machine by `modal-local`.

use std::path::PathBuf;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use modal_client::{
    App, BuildEvent, BuiltImage, Client, FileKind, Image, MiB, Mount, NetworkAccess, Volume,
    VolumeMount,
};
use tokio::sync::OnceCell;

use super::{
    AGENT, Exec, RESULTS, Reach, Running, Said, Sandbox, SandboxBackend, SandboxSpec, Say,
    WORKSPACE,
};
use crate::{Error, Result};

/// App that owns the sandboxes.
const APP: &str = "goat-sandbox";
/// What agents and checks find in the usual image.
const PACKAGES: [&str; 7] = ["bash", "git", "ripgrep", "curl", "python3", "nodejs", "npm"];
/// The sandbox's own program: it only waits. Longer than any sandbox may live.
const WAIT: [&str; 2] = ["sleep", "172800"];

/// What all sandboxes of a backend have in common.
#[derive(Clone, Debug)]
pub struct ModalConfig {
    /// Image of a registry; none: Debian with what agents need.
    pub image: Option<String>,
    /// CPU cores.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory_mib: Option<u32>,
    /// The agent's binary on this machine; none: sandboxes without an agent, as in tests.
    pub agent: Option<PathBuf>,
    /// Volume of results.
    pub volume: Volume,
}

/// Makes sandboxes through a client.
pub struct ModalBackend {
    client: Client,
    config: ModalConfig,
    ready: OnceCell<Ready>,
}

struct Ready {
    app: App,
    image: BuiltImage,
    agent: Option<Mount>,
}

impl ModalBackend {
    /// Nothing is sent before [`SandboxBackend::prepare`], or the first sandbox.
    pub fn new(client: Client, config: ModalConfig) -> Self {
        Self { client, config, ready: OnceCell::new() }
    }

    async fn ready(&self, say: Say<'_>) -> Result<&Ready> {
        self.ready.get_or_try_init(|| self.make_ready(say)).await
    }

    async fn make_ready(&self, say: Say<'_>) -> Result<Ready> {
        let app = self.client.app(APP).create_if_missing().await;
        let app = app.map_err(|error| Error::backend(format!("look up the app `{APP}`"), error))?;
        let (image, agent) = tokio::try_join!(self.image(&app, say), self.agent(&app))?;
        Ok(Ready { app, image, agent })
    }

    async fn image(&self, app: &App, say: Say<'_>) -> Result<BuiltImage> {
        let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let mut log = LineBuffer::default();
        let image = recipe(self.config.image.as_deref());
        let build = self.client.build(&image, app).on_event(move |event| {
            for said in log.said(&event) {
                // Nobody listens once the build is given up.
                let _gone = sender.send(said);
            }
        });
        let mut build = build.into_future();
        let built = loop {
            tokio::select! {
                biased;
                Some(said) = lines.recv() => say(said),
                built = &mut build => break built,
            }
        };
        while let Ok(said) = lines.try_recv() {
            say(said);
        }
        built.map_err(|error| Error::backend("build the sandbox image", error))
    }

    async fn agent(&self, app: &App) -> Result<Option<Mount>> {
        let Some(agent) = &self.config.agent else { return Ok(None) };
        let upload = self.client.mount(app).file(agent, AGENT).await;
        upload.map(Some).map_err(|error| Error::backend("upload the agent", error))
    }
}

/// The image of sandboxes; its working directory is the workspace.
fn recipe(image: Option<&str>) -> Image {
    let base = match image {
        Some(tag) => Image::from_registry(tag),
        None => Image::debian_slim().apt_install(PACKAGES),
    };
    base.workdir(WORKSPACE)
}

#[async_trait]
impl SandboxBackend for ModalBackend {
    async fn prepare(&self, say: Say<'_>) -> Result<()> {
        self.ready(say).await.map(|_| ())
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>> {
        let ready = self.ready(&|_| ()).await?;
        let mut create = self
            .client
            .sandbox(&ready.app, &ready.image)
            .command(WAIT)
            .workdir(WORKSPACE)
            .timeout(spec.timeout)
            .network(access(&spec.reach));
        for (name, value) in &spec.env {
            create = create.env(name, value.as_str());
        }
        for (name, value) in &spec.tags {
            create = create.tag(name, value);
        }
        if let Some(directory) = &spec.results {
            let mount = VolumeMount::new(&self.config.volume).sub_path(directory);
            create = create.volume(RESULTS, mount);
        }
        if let Some(agent) = &ready.agent {
            create = create.mount(agent);
        }
        if let Some(cores) = self.config.cpu {
            create = create.cpu(cores, Some(cores));
        }
        if let Some(mib) = self.config.memory_mib {
            create = create.memory(MiB(mib), Some(MiB(mib)));
        }
        let made = create.await.map_err(|error| Error::backend("create a sandbox", error))?;
        let id = made.id().to_string();
        Ok(Box::new(ModalSandbox { id, sandbox: made }))
    }

    async fn end_tagged(&self, name: &str, value: &str) -> Result<usize> {
        let failed =
            |error| Error::backend(format!("end the sandboxes of {name} `{value}`"), error);
        let app = match self.client.app(APP).await {
            Err(error) if error.is_not_found() => return Ok(0),
            app => app.map_err(failed)?,
        };
        let mut found = self.client.sandboxes().list().app(&app).tag(name, value).stream();
        let mut ended = 0;
        while let Some(info) = found.try_next().await.map_err(failed)? {
            let end = async { self.client.sandboxes().from_id(&info.id).await?.terminate().await };
            match end.await {
                Err(error) if !is_gone(&error) => return Err(failed(error)),
                _ => ended += 1,
            }
        }
        Ok(ended)
    }
}

fn access(reach: &Reach) -> NetworkAccess {
    match reach {
        Reach::Open => NetworkAccess::Open,
        Reach::Nothing => NetworkAccess::Blocked,
        Reach::Hosts(names) => {
            NetworkAccess::AllowList { cidrs: Vec::new(), domains: names.clone() }
        }
    }
}

fn is_gone(error: &modal_client::Error) -> bool {
    error.is_not_found() || error.is_sandbox_gone()
}

struct ModalSandbox {
    id: String,
    sandbox: modal_client::Sandbox,
}

impl ModalSandbox {
    fn failed(&self, doing: &str, error: modal_client::Error) -> Error {
        if error.is_sandbox_gone() {
            return Error::SandboxGone { sandbox: self.id.clone() };
        }
        Error::backend(format!("{doing} in sandbox `{}`", self.id), error)
    }
}

#[async_trait]
impl Sandbox for ModalSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    async fn exec(&self, exec: &Exec) -> Result<Running> {
        let start = self.sandbox.exec(&exec.argv).workdir(WORKSPACE).timeout(exec.timeout);
        let start =
            exec.secrets.iter().fold(start, |start, (name, key)| start.env(name, key.expose()));
        let name = exec.argv.first().cloned().unwrap_or_default();
        let failed = |error| self.failed(&format!("run `{name}`"), error);
        let mut process = start.start().await.map_err(failed)?;
        // Nothing is ever typed: a program that reads its input sees the end of it.
        process.close_stdin().await.map_err(failed)?;
        let (id, sandbox) = (self.id.clone(), self.sandbox.clone());
        let lost = move |error| {
            let sandbox = Self { id: id.clone(), sandbox: sandbox.clone() };
            sandbox.failed("follow a program", error)
        };
        let stdout = process.stdout().map_err(lost.clone()).boxed();
        let stderr = process.stderr().map_err(lost.clone()).boxed();
        let exit = async move { process.wait().await.map_err(lost) }.boxed();
        Ok(Running { stdout, stderr, exit })
    }

    async fn write_file(&self, path: &str, contents: &[u8]) -> Result<()> {
        let failed = |error| self.failed(&format!("write `{path}`"), error);
        if let Some((directory, _)) = path.rsplit_once('/').filter(|(at, _)| !at.is_empty()) {
            self.sandbox.files().make_directory(directory, true).await.map_err(failed)?;
        }
        self.sandbox.files().write(path, contents.to_vec()).await.map_err(failed)
    }

    async fn read_file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let failed = |error| self.failed(&format!("read `{path}`"), error);
        let found = match self.sandbox.files().stat(path).await {
            Err(error) if error.is_not_found() => return Ok(None),
            found => found.map_err(failed)?,
        };
        // The agent decides what lies there: a pipe would be read for ever.
        if found.kind != FileKind::File {
            return Ok(None);
        }
        if found.size <= limit as u64 {
            return self
                .sandbox
                .files()
                .read(path)
                .await
                .map(|bytes| Some(bytes.into()))
                .map_err(failed);
        }
        let limit = limit.to_string();
        let head =
            self.sandbox.exec(["head", "-c", &limit, path]).output().await.map_err(failed)?;
        Ok(Some(head.stdout))
    }

    async fn terminate(&self) -> Result<()> {
        match self.sandbox.terminate().await {
            Err(error) if !is_gone(&error) => Err(self.failed("end what runs", error)),
            _ => Ok(()),
        }
    }
}

/// Makes lines for people of build events. A layer that is there already is not worth one.
#[derive(Default)]
struct LineBuffer {
    partial: String,
    /// The layer that is being built, until something shows that it really is.
    step: Option<String>,
}

impl LineBuffer {
    fn said(&mut self, event: &BuildEvent<'_>) -> Vec<Said> {
        match event {
            BuildEvent::LayerStarted { layer, layers, step } => {
                self.step = Some(format!("image: layer {layer} of {layers}: {step}"));
                Vec::new()
            }
            BuildEvent::Output(text) => {
                self.partial.push_str(text);
                let end = self.partial.rfind('\n').map_or(0, |at| at + 1);
                let rest = self.partial.split_off(end);
                let whole = std::mem::replace(&mut self.partial, rest);
                let step = self.step.take().map(Said::Step);
                let lines = whole.lines().map(|line| Said::Detail(format!("image: {line}")));
                step.into_iter().chain(lines).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_output_becomes_whole_lines_after_the_step_that_prints_it() {
        let mut buffer = LineBuffer::default();
        let step = "RUN apt-get install -y git";
        assert!(buffer.said(&BuildEvent::LayerStarted { layer: 1, layers: 2, step }).is_empty());
        let said = [
            buffer.said(&BuildEvent::Output("Reading pack")),
            buffer.said(&BuildEvent::Output("ages\nDone\nnext")),
        ];
        assert_eq!(
            said.concat(),
            [
                Said::Step("image: layer 1 of 2: RUN apt-get install -y git".into()),
                Said::Detail("image: Reading packages".into()),
                Said::Detail("image: Done".into()),
            ]
        );
    }

    #[test]
    fn a_list_of_names_is_an_allow_list() {
        let access = access(&Reach::Hosts(vec!["a.example".into()]));
        let domains = vec!["a.example".to_owned()];
        assert_eq!(access, NetworkAccess::AllowList { cidrs: vec![], domains });
    }
}
