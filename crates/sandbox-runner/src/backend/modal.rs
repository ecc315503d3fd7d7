//! Sandboxes over Modal's API: on Modal, or on this machine by `modal-local`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use modal_client::{
    App, BuildEvent, BuiltImage, Client, ExitReason, Image, MiB, Mount, NetworkAccess, Redirect,
    Volume, VolumeMount,
};
use tokio::sync::Mutex;

use super::{
    AGENT, Exec, Prepared, RESULTS, Reach, Running, Said, Sandbox, SandboxBackend, SandboxSpec,
    Say, WORKSPACE,
};
use crate::{
    Error, Result,
    extras::{Extras, MCP_CONFIG},
};

/// App that owns the sandboxes.
const APP: &str = "goat-sandbox";
/// What agents and checks find in the usual image.
const PACKAGES: [&str; 7] = ["bash", "git", "ripgrep", "curl", "python3", "nodejs", "npm"];
/// The sandbox's own program: it only waits. Longer than any sandbox may live.
const WAIT: [&str; 2] = ["sleep", "172800"];
/// Reading one file in a sandbox; what lies there may never end.
const READ: Duration = Duration::from_secs(30);
/// Gives a file's beginning, if it is a file: another exit code says that it is none. The limit and the
/// path are its arguments.
const HEAD: &str = r#"test -f "$2" || exit 3; exec head -c "$1" "$2""#;
/// What the shell above says of what is no file.
const NO_FILE: i32 = 3;

/// Where a client comes from. A server of this machine may be lost and come back elsewhere, so a
/// sandbox asks before it is made.
#[async_trait]
pub trait Connect: Send + Sync {
    /// A client whose server is there.
    async fn client(&self) -> Result<Client>;
}

/// One server, always there.
#[async_trait]
impl Connect for Client {
    async fn client(&self) -> Result<Client> {
        Ok(self.clone())
    }
}

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
    /// Name of the volume of results; made where there is none.
    pub volume: String,
    /// What sandboxes get whose spec says so.
    pub extras: Extras,
}

/// Makes sandboxes through a client.
pub struct ModalBackend {
    connect: Arc<dyn Connect>,
    config: ModalConfig,
    ready: Mutex<Option<Arc<Ready>>>,
}

/// What sandboxes need, on one server.
struct Ready {
    client: Client,
    app: App,
    image: BuiltImage,
    bases: Vec<String>,
    agent: Option<Mount>,
    volume: Volume,
    skills: Option<Mount>,
    mcp: Option<Mount>,
}

impl ModalBackend {
    /// Nothing is sent before [`SandboxBackend::prepare`], or the first sandbox.
    pub fn new(connect: impl Connect + 'static, config: ModalConfig) -> Self {
        Self { connect: Arc::new(connect), config, ready: Mutex::default() }
    }

    /// What sandboxes need, on the server that is there now. Another one is got ready first.
    async fn ready(&self, say: Say<'_>) -> Result<Arc<Ready>> {
        let client = self.connect.client().await?;
        let mut ready = self.ready.lock().await;
        match &*ready {
            Some(ready) if ready.client.server_url() == client.server_url() => {
                Ok(Arc::clone(ready))
            }
            _ => Ok(Arc::clone(ready.insert(Arc::new(self.make_ready(client, say).await?)))),
        }
    }

    async fn make_ready(&self, client: Client, say: Say<'_>) -> Result<Ready> {
        let app = client.app(APP).create_if_missing().await;
        let app = app.map_err(|error| Error::backend(format!("look up the app `{APP}`"), error))?;
        let ((image, bases), agent, skills, mcp, volume) = tokio::try_join!(
            self.image(&client, &app, say),
            self.agent(&client, &app),
            self.skills(&client, &app),
            self.mcp(&client, &app),
            self.volume(&client)
        )?;
        Ok(Ready { client, app, image, bases, agent, skills, mcp, volume })
    }

    async fn volume(&self, client: &Client) -> Result<Volume> {
        let name = &self.config.volume;
        let volume = client.volume(name).create_if_missing().await;
        volume.map_err(|error| Error::backend(format!("look up the volume `{name}`"), error))
    }

    /// Builds the image; what it is made of comes with it.
    async fn image(
        &self,
        client: &Client,
        app: &App,
        say: Say<'_>,
    ) -> Result<(BuiltImage, Vec<String>)> {
        let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let (mut log, bases) = (LineBuffer::default(), Bases::default());
        let image = recipe(self.config.image.as_deref());
        let seen = bases.clone();
        let build = client.build(&image, app).on_event(move |event| {
            seen.note(&event);
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
        let built = built.map_err(|error| Error::backend("build the sandbox image", error))?;
        Ok((built, bases.take()))
    }

    async fn agent(&self, client: &Client, app: &App) -> Result<Option<Mount>> {
        let Some(agent) = &self.config.agent else { return Ok(None) };
        // Archives of CI lose the mode.
        let upload = client.mount(app).program(agent, AGENT).await;
        upload.map(Some).map_err(|error| Error::backend("upload the agent", error))
    }
}

impl ModalBackend {
    async fn skills(&self, client: &Client, app: &App) -> Result<Option<Mount>> {
        let Some(skills) = &self.config.extras.skills else { return Ok(None) };
        let upload = skills
            .trees
            .iter()
            .fold(client.mount(app), |upload, (here, there)| upload.tree(here, there.as_str()));
        upload.await.map(Some).map_err(|error| Error::backend("upload the skills", error))
    }

    async fn mcp(&self, client: &Client, app: &App) -> Result<Option<Mount>> {
        let Some(mcp) = &self.config.extras.mcp else { return Ok(None) };
        let upload = client.mount(app).file(&mcp.path, MCP_CONFIG).await;
        upload.map(Some).map_err(|error| Error::backend("upload the MCP config", error))
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
    async fn prepare(&self, say: Say<'_>) -> Result<Prepared> {
        Ok(Prepared { bases: self.ready(say).await?.bases.clone() })
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>> {
        let ready = self.ready(&|_| ()).await?;
        let mut create = ready
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
            let mount = VolumeMount::new(&ready.volume).sub_path(directory);
            create = create.volume(RESULTS, mount);
        }
        let skills = ready.skills.as_ref().filter(|_| spec.skills);
        let mcp = ready.mcp.as_ref().filter(|_| spec.mcp);
        for mount in [ready.agent.as_ref(), skills, mcp].into_iter().flatten() {
            create = create.mount(mount);
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
        let client = self.connect.client().await?;
        let app = match client.app(APP).await {
            Err(error) if error.is_not_found() => return Ok(0),
            app => app.map_err(failed)?,
        };
        let mut found = client.sandboxes().list().app(&app).tag(name, value).stream();
        let mut ended = 0;
        while let Some(info) = found.try_next().await.map_err(failed)? {
            let end = async { client.sandboxes().from_id(&info.id).await?.terminate().await };
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

/// Whether the server understood and the sandbox can't: nothing is wrong with what is ours.
fn is_refusal(error: &modal_client::Error) -> bool {
    use modal_client::Error::{Conflict, Invalid, NotFound, Permission};
    matches!(error, Conflict { .. } | Invalid { .. } | NotFound { .. } | Permission { .. })
}

/// Exit code and output of a command, of the latter at most `limit` bytes: what a sandbox prints may
/// never end.
async fn output(command: modal_client::Exec, limit: usize) -> modal_client::Result<(i32, Vec<u8>)> {
    let mut process = command.start().await?;
    process.close_stdin().await?;
    let (mut stdout, mut contents) = (process.stdout(), Vec::new());
    while let Some(chunk) = stdout.try_next().await? {
        let room = limit - contents.len();
        contents.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((0, contents));
        }
    }
    Ok((process.wait().await?, contents))
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
        let doing = format!("{doing} in sandbox `{}`", self.id);
        if is_refusal(&error) {
            return Error::Refused { doing, source: error.into() };
        }
        Error::backend(doing, error)
    }
}

#[async_trait]
impl Sandbox for ModalSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    async fn exec(&self, exec: &Exec) -> Result<Running> {
        let start = self.sandbox.exec(&exec.argv).workdir(exec.workdir).timeout(exec.timeout);
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
        let deadline = || Error::Deadline { doing: format!("read `{path}`"), limit: READ };
        let head = ["sh", "-c", HEAD, "sh", &limit.to_string(), path];
        // A shell tells a pipe from a file on every server. The backend kills it where it waits.
        let head = self.sandbox.exec(head).workdir("/").timeout(READ).stderr(Redirect::Null);
        match tokio::time::timeout(2 * READ, output(head, limit)).await.map_err(|_| deadline())? {
            Ok((0, contents)) => return Ok(Some(contents)),
            // 128 and more: it waited, and was killed.
            Ok((NO_FILE | 128.., _)) => return Ok(None),
            // An image without a shell, or without `head`: the server's own way will do.
            Ok(_) => {}
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        let files = self.sandbox.files();
        match tokio::time::timeout(READ, files.read(path)).await.map_err(|_| deadline())? {
            Err(error) if error.is_not_found() => Ok(None),
            read => Ok(Some(read.map_err(failed)?.into_iter().take(limit).collect())),
        }
    }

    async fn ended_from_inside(&self) -> bool {
        use ExitReason::{Failure, OutOfMemory, Success};
        let end = self.sandbox.poll().await;
        end.is_ok_and(|end| {
            end.is_some_and(|end| matches!(end.reason, Success | Failure | OutOfMemory))
        })
    }

    async fn terminate(&self) -> Result<()> {
        match self.sandbox.terminate().await {
            Err(error) if !is_gone(&error) => Err(self.failed("end what runs", error)),
            _ => Ok(()),
        }
    }
}

/// The images of a registry that a build begins with.
#[derive(Clone, Default)]
struct Bases(Arc<std::sync::Mutex<Vec<String>>>);

impl Bases {
    /// Takes the image of a layer's `FROM`, unless it is one of the server's own.
    fn note(&self, event: &BuildEvent<'_>) {
        let BuildEvent::LayerStarted { step, .. } = event else { return };
        let Some(image) = step.strip_prefix("FROM ") else { return };
        let image = image.split_whitespace().next().unwrap_or_default();
        self.lock().push(image.to_owned());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
