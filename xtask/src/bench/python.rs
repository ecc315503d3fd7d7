//! The peer `modal`: the official Python SDK on the same server.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use tokio::process::Command;

use crate::workspace::Workspace;

/// What `fixtures/bench/sandbox_lifecycle.py` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Cycles {
    /// Seconds of the median cycle.
    pub(super) median_s: f64,
    /// Seconds of CPU of the client, all cycles.
    pub(super) cpu_s: f64,
    /// How many cycles.
    pub(super) cycles: usize,
}

/// Where the tests install the pinned SDK, so that both use one.
const INTERPRETER: &str = "target/sdk-python/bin/python";

/// The interpreter with the SDK, installed now where it is missing.
pub(super) async fn interpreter(workspace: &Workspace) -> anyhow::Result<std::path::PathBuf> {
    install(workspace, "target/sdk-python", "fixtures/sdk/python-requirements.txt").await?;
    Ok(workspace.path(INTERPRETER))
}

/// Makes a Python environment with pinned packages, where it is missing.
pub(super) async fn install(
    workspace: &Workspace,
    directory: &str,
    requirements: &str,
) -> anyhow::Result<()> {
    let directory = workspace.path(directory);
    let python = directory.join("bin/python");
    let done = directory.join("installed");
    if done.is_file() || (directory.ends_with("sdk-python") && python.is_file()) {
        return Ok(());
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&directory);
    must(&mut venv, "python3 needs its venv module (python3-venv)").await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(workspace.path(requirements));
    must(&mut pip, "pinned packages must come from PyPI").await?;
    std::fs::write(done, "")?;
    Ok(())
}

async fn must(command: &mut Command, why: &'static str) -> anyhow::Result<()> {
    let output = command.output().await.context(why)?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{why}: {}", said.trim());
    Ok(())
}

/// Runs the SDK's cycles against a server.
pub(super) async fn measure(
    python: &Path,
    script: &Path,
    server: &[(&'static str, String)],
    count: usize,
    in_flight: usize,
) -> anyhow::Result<Cycles> {
    let mut command = Command::new(python);
    command.arg(script).arg(count.to_string()).arg(in_flight.to_string());
    let output = command.envs(server.iter().cloned()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the Python SDK failed: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("the Python SDK's figures are not JSON")
}
