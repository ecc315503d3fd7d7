//! The peer `modal`: the official Python SDK, pinned.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use crate::workspace::Workspace;

/// Where the tests install the pinned SDK, so that both use one.
const DIRECTORY: &str = "target/sdk-python";

/// The SDK's interpreter and command, and where its scripts are.
pub(super) struct Python {
    workspace: Workspace,
}

impl Python {
    /// The one with the SDK, installed now where it is missing.
    pub(super) async fn of(workspace: &Workspace) -> anyhow::Result<Self> {
        install(workspace, DIRECTORY, "fixtures/sdk/python-requirements.txt").await?;
        Ok(Self { workspace: workspace.clone() })
    }

    /// The command `modal`.
    pub(super) fn command_line(&self) -> PathBuf {
        self.workspace.path(DIRECTORY).join("bin/modal")
    }

    /// Runs a script and reads the figures that it prints.
    pub(super) async fn run<T: DeserializeOwned>(
        &self,
        script: &str,
        arguments: &[String],
        environment: &[(&'static str, String)],
    ) -> anyhow::Result<T> {
        let mut command = Command::new(self.workspace.path(DIRECTORY).join("bin/python"));
        command.arg(self.workspace.path(script)).args(arguments).kill_on_drop(true);
        let output = command.envs(environment.iter().cloned()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "the Python SDK failed: {}", said.trim());
        serde_json::from_slice(&output.stdout).context("the Python SDK's figures are not JSON")
    }
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
