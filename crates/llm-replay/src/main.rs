//! `llm-replay`: record an OpenAI-compatible upstream, or replay recordings.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use llm_replay::{RecordConfig, RecordServer, ReplayConfig, ReplayServer};
use url::Url;
use zeroize::Zeroizing;

/// Record conversations with an OpenAI-compatible model, and replay them without it.
///
/// Examples:
///   llm-replay replay fixtures/llm --listen 127.0.0.1:4010
///   llm-replay record --upstream http://127.0.0.1:4000/v1 --key-env LITELLM_KEY --into recordings
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer from recordings.
    Replay {
        /// Files, or directories of *.json.
        #[arg(required = true)]
        recordings: Vec<PathBuf>,
        /// Address to listen on; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Environment variable that holds the key which clients show; without it one is made and printed.
        #[arg(long, value_name = "NAME")]
        key_env: Option<String>,
    },
    /// Forward to an upstream and keep what is said, keys left out.
    Record {
        /// Base URL of the upstream, with its /v1.
        #[arg(long)]
        upstream: Url,
        /// Environment variable that holds the upstream's key.
        #[arg(long, value_name = "NAME")]
        key_env: Option<String>,
        /// Directory for the recordings, one file a conversation.
        #[arg(long)]
        into: PathBuf,
        /// Address to listen on; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("GOAT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Replay { recordings, listen, key_env } => {
            let given = key_env.map(|name| key_from(&name)).transpose()?;
            let is_given = given.is_some();
            let token = given.map_or_else(token, Ok)?;
            let key = Some(token.to_string());
            let config = ReplayConfig { listen, key, ..ReplayConfig::new(recordings) };
            let server = ReplayServer::start(config).await?;
            serve(&server.url(), (!is_given).then_some(&*token)).await
        }
        Command::Record { upstream, key_env, into, listen } => {
            let key = key_env.map(|name| key_from(&name)).transpose()?;
            let token = token()?;
            let own = Some(token.clone());
            let config = RecordConfig { upstream, key, token: own, directory: into, listen };
            let server = RecordServer::start(config).await?;
            serve(&server.url(), Some(&token)).await
        }
    }
}

fn key_from(name: &str) -> Result<Zeroizing<String>, Failure> {
    let value = std::env::var(name)
        .map_err(|_| format!("environment variable `{name}` is not set; it is to hold a key"))?;
    Ok(value.into())
}

/// A random token for clients: others on this machine are kept out.
fn token() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0; 16]);
    getrandom::fill(&mut *bytes)?;
    Ok(format!("sk-replay-{}", hex::encode(*bytes)).into())
}

#[expect(clippy::print_stdout, reason = "address and token are this program's output")]
async fn serve(url: &str, token: Option<&str>) -> Result<(), Failure> {
    println!("export OPENAI_BASE_URL={url}");
    if let Some(token) = token {
        println!("export OPENAI_API_KEY={token}");
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program tells a person why it fails")]
fn report(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  caused by: {cause}");
        source = cause.source();
    }
}
