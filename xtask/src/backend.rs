//! Connects to the target and makes the backend for its sandboxes.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use modal_client::{Client, Config, Environ};
use results_store::RunFiles;
use sandbox_runner::{
    Error, Extras, Network, SandboxBackend,
    agent::AgentBinary,
    backend::modal::{Connect, ModalBackend, ModalConfig},
    relay::RelayServer,
};
use tokio::sync::Mutex;

use crate::{
    context::Context, local_server::LocalServer, target::Target, volume_store::VolumeStore,
};

/// Volume of results.
pub(crate) const RESULTS: &str = "goat-results";

/// What commands ask of sandboxes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Sandboxes")]
pub(crate) struct SandboxArgs {
    /// What sandboxes reach: `open` (the outside, never this machine), `llm` (the model alone),
    /// `none` (for agents that need no model), or names with commas between
    #[arg(long, default_value = "open")]
    pub(crate) network: Network,
    /// Image of a registry instead of Debian with bash, git, ripgrep, curl, python3, nodejs and npm
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// CPU cores; may be a fraction
    #[arg(long, value_name = "C", value_parser = cores, allow_negative_numbers = true)]
    pub(crate) cpu: Option<f64>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub(crate) memory: Option<u32>,
    /// Another agent: a Linux program with the same flags and exit codes
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
}

impl SandboxArgs {
    /// The image, for records.
    pub(crate) fn image_name(&self) -> &str {
        self.image.as_deref().unwrap_or("debian_slim")
    }
}

fn cores(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(cores) if (0.1..=64.0).contains(&cores) => Ok(cores),
        _ => Err("it must be a number between 0.1 and 64".to_owned()),
    }
}

/// A target, connected to when somebody asks, and again where its server was lost and came back.
#[derive(Clone)]
pub(crate) struct Connection {
    /// This machine's server; none for Modal's.
    local: Option<LocalServer>,
    environment: String,
    current: Arc<Mutex<Option<Current>>>,
}

struct Current {
    client: Client,
    server: Option<RelayServer>,
}

impl Connection {
    /// To the command's target, in that environment.
    pub(crate) fn new(context: &Context, environment: &str) -> Self {
        Self::to(context, context.choice.target, environment)
    }

    /// To any target, in that environment.
    pub(crate) fn to(context: &Context, target: Target, environment: &str) -> Self {
        let local = match target {
            Target::Local => Some(LocalServer::of(context)),
            Target::Modal => None,
        };
        Self { local, environment: environment.to_owned(), current: Arc::default() }
    }

    /// This machine's server; none for Modal's.
    pub(crate) fn local(&self) -> Option<&LocalServer> {
        self.local.as_ref()
    }

    /// A client whose server is there, started where it is this machine's and none runs.
    pub(crate) async fn connected(&self) -> anyhow::Result<Client> {
        let mut current = self.current.lock().await;
        let server = match &self.local {
            Some(local) => Some(local.ensure_running().await?),
            None => None,
        };
        let url = |server: &Option<RelayServer>| server.as_ref().map(|server| server.url.clone());
        match &*current {
            Some(current) if url(&current.server) == url(&server) => Ok(current.client.clone()),
            _ => {
                let client = self.connect(server.as_ref()).await?;
                *current = Some(Current { client: client.clone(), server });
                Ok(client)
            }
        }
    }

    async fn connect(&self, server: Option<&RelayServer>) -> anyhow::Result<Client> {
        let config = match server {
            Some(server) => {
                let secret = server.token_secret.expose().to_owned();
                Config::new(&server.url, &server.token_id, secret)
            }
            None => Config::from_env_and_file(&Environ::from_pairs(std::env::vars()))?,
        };
        Ok(Client::connect(config).await?.with_environment(&self.environment))
    }

    /// Results on the volume.
    pub(crate) fn volume_files(&self) -> RunFiles {
        RunFiles::new(Arc::new(VolumeStore::new(self.clone())))
    }

    /// What ends sandboxes, and can make none: it has no agent for them.
    pub(crate) fn sweeper(&self) -> ModalBackend {
        let volume = RESULTS.to_owned();
        let extras = Extras::default();
        let config =
            ModalConfig { image: None, cpu: None, memory_mib: None, agent: None, volume, extras };
        ModalBackend::new(self.clone(), config)
    }
}

#[async_trait]
impl Connect for Connection {
    async fn client(&self) -> sandbox_runner::Result<Client> {
        self.connected().await.map_err(|error| Error::backend("reach the target", error))
    }
}

/// A target that answers.
pub(crate) struct Connected {
    /// Makes sandboxes.
    pub(crate) backend: Arc<dyn SandboxBackend>,
    /// The way to it.
    pub(crate) connection: Connection,
}

/// Connects to the target, starting the local server where none runs.
pub(crate) async fn client(context: &Context) -> anyhow::Result<(Client, Option<RelayServer>)> {
    let connection = Connection::new(context, &context.environment);
    let client = connection.connected().await?;
    let server = connection.current.lock().await.take().and_then(|current| current.server);
    Ok((client, server))
}

/// Results on the target's volume, without anything for sandboxes.
pub(crate) async fn volume_files(context: &Context) -> anyhow::Result<RunFiles> {
    let connection = Connection::new(context, &context.environment);
    // That the target or the volume is not there is said at once and by name.
    connection.connected().await?.volume(RESULTS).await?;
    Ok(connection.volume_files())
}

/// Everything that a run needs of its target.
pub(crate) async fn connect(
    context: &Context,
    args: &SandboxArgs,
    agent: &AgentBinary,
    extras: &Extras,
) -> anyhow::Result<Connected> {
    let connection = Connection::new(context, &context.environment);
    let client = connection.connected().await?;
    client.environments().get_or_create(&context.environment).await?;
    client.volume(RESULTS).create_if_missing().await?;
    let config = ModalConfig {
        image: args.image.clone(),
        cpu: args.cpu,
        memory_mib: args.memory,
        agent: Some(agent.path.clone()),
        volume: RESULTS.to_owned(),
        extras: extras.clone(),
    };
    let backend = Arc::new(ModalBackend::new(connection.clone(), config));
    Ok(Connected { backend, connection })
}
