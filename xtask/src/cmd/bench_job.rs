//! `bench-job`: what `selfbench` runs in a process of its own.

use std::path::PathBuf;

use anyhow::Context as _;
use modal_client::{Client, Config, Environ, FunctionSpec, Image};
use tokio::net::TcpListener;

use crate::{context::Context, exit::Exit};

/// A part of a benchmark, in a process of its own
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    job: Job,
}

#[derive(clap::Subcommand)]
enum Job {
    /// Serve Modal's API without doing any work, and say where
    ServeNothing,
    /// List the volumes of the server that MODAL_… variables name
    ListVolumes,
    /// Deploy one function of a file there
    Deploy {
        /// The file
        file: PathBuf,
        /// Name of the function, and of the app
        function: String,
    },
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.job {
        Job::ServeNothing => serve_nothing(context).await,
        Job::ListVolumes => list_volumes(context).await,
        Job::Deploy { file, function } => deploy(file, &function).await,
    }
}

async fn serve_nothing(context: &Context) -> anyhow::Result<Exit> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    context.printer.text(&format!("http://{}", listener.local_addr()?));
    modal_zero::serve(listener).await?;
    Ok(Exit::Ok)
}

async fn list_volumes(context: &Context) -> anyhow::Result<Exit> {
    for volume in client().await?.volumes().list().await? {
        context.printer.text(&volume.name);
    }
    Ok(Exit::Ok)
}

async fn deploy(file: PathBuf, function: &str) -> anyhow::Result<Exit> {
    let image = Image::debian_slim().python("3.11");
    let spec = FunctionSpec::from_file(file, function, &image);
    let deployed = client().await?.deploy(function).function(spec).await?;
    deployed.functions.get(function).context("the function is not in the deployment")?;
    Ok(Exit::Ok)
}

async fn client() -> anyhow::Result<Client> {
    let config = Config::from_env_and_file(&Environ::of_process())?;
    Ok(Client::connect(config).await?)
}
