//! Connects to the target and makes the backend for its sandboxes.

use std::{path::PathBuf, sync::Arc};

use modal_client::{Client, Config, Environ, Volume};
use results_store::RunFiles;
use sandbox_runner::{
    Network, SandboxBackend,
    agent::AgentBinary,
    backend::modal::{ModalBackend, ModalConfig},
    relay::RelayServer,
};

use crate::{context::Context, target::Target, volume_store::VolumeStore};

/// Volume of results.
const RESULTS: &str = "goat-results";

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

/// A target that answers.
pub(crate) struct Connected {
    /// Makes sandboxes.
    pub(crate) backend: Arc<dyn SandboxBackend>,
    /// Where a relay can be registered: the local server.
    pub(crate) relay: Option<RelayServer>,
    volume: Volume,
}

impl Connected {
    /// Results on the volume.
    pub(crate) fn volume_files(&self) -> RunFiles {
        RunFiles::new(Arc::new(VolumeStore::new(self.volume.clone())))
    }
}

/// Connects to the target, starting the local server where none runs.
pub(crate) async fn client(context: &Context) -> anyhow::Result<(Client, Option<RelayServer>)> {
    let (config, relay) = match context.choice.target {
        Target::Local => {
            let server = crate::cmd::local::ensure_running(context).await?;
            let secret = server.token_secret.expose().to_owned();
            (Config::new(&server.url, &server.token_id, secret), Some(server))
        }
        Target::Modal => (Config::from_env_and_file(&Environ::from_pairs(std::env::vars()))?, None),
    };
    let client = Client::connect(config).await?.with_environment(&context.environment);
    Ok((client, relay))
}

/// Results on the target's volume, without anything for sandboxes.
pub(crate) async fn volume_files(context: &Context) -> anyhow::Result<RunFiles> {
    let (client, _) = client(context).await?;
    let volume = client.volume(RESULTS).await?;
    Ok(RunFiles::new(Arc::new(VolumeStore::new(volume))))
}

/// Everything that a run needs of its target.
pub(crate) async fn connect(
    context: &Context,
    args: &SandboxArgs,
    agent: &AgentBinary,
) -> anyhow::Result<Connected> {
    let (client, relay) = client(context).await?;
    client.environments().get_or_create(&context.environment).await?;
    let volume = client.volume(RESULTS).create_if_missing().await?;
    let config = ModalConfig {
        image: args.image.clone(),
        cpu: args.cpu,
        memory_mib: args.memory,
        agent: Some(agent.path.clone()),
        volume: volume.clone(),
    };
    let backend = Arc::new(ModalBackend::new(client, config));
    Ok(Connected { backend, relay, volume })
}
