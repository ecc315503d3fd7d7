//! `langfuse-local`: Langfuse 2's public API over the PostgreSQL of `DATABASE_URL`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use langfuse_local::{Server, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Serves Langfuse 2's public API from this machine.
///
/// Everything is told by the environment, as Langfuse 2 reads it: DATABASE_URL, SALT, PORT (3000; 0 picks a free
/// one), HOSTNAME (an address to listen on; loopback where absent), LANGFUSE_INIT_ORG_ID, _ORG_NAME, _PROJECT_ID,
/// _PROJECT_NAME, _PROJECT_PUBLIC_KEY, _PROJECT_SECRET_KEY, _USER_EMAIL, _USER_NAME, _USER_PASSWORD. Prints its address on standard
/// output when it is ready. RUST_LOG sets what it logs to standard error. SIGTERM and SIGINT stop it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let settings = Settings::from_vars(|name| std::env::var(name).ok())?;
    let server = tokio::select! {
        server = Server::start(settings) => server?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    announce(&server.url()).context("failed to print the address")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await?;
    Ok(())
}

/// The one line on standard output, for whoever waits for it.
fn announce(url: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{url}")?;
    out.flush()
}
