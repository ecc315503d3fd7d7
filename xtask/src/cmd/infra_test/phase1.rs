//! Phase 1: what everything else needs.

use std::{future::ready, path::Path};

use anyhow::{Context as _, bail, ensure};
use goat_services::{EnvFile, catalog::SECRETS};
use sandbox_runner::agent::{AgentBinary, Arch};

use super::{Args, check::CheckId, report::Report};
use crate::{
    backend,
    cmd::{eval, setup::env_path},
    context::Context,
    target::Target,
};

pub(super) async fn run(args: &Args, context: &Context, report: &mut Report<'_>) {
    report.check(CheckId::Server, server(context)).await;
    match eval::agent(&args.sandbox, context).await {
        Ok(agent) => {
            report.check(CheckId::Agent, ready(Ok(described(&agent)))).await;
            report.check(CheckId::AgentAlone, empty_root(&agent, context)).await;
        }
        Err(error) => {
            report.check(CheckId::Agent, ready(Err(error))).await;
            report.needs(CheckId::AgentAlone, CheckId::Agent);
        }
    }
    report.check(CheckId::Python, python()).await;
    report.check(CheckId::Values, ready(values(args, context))).await;
}

async fn server(context: &Context) -> anyhow::Result<String> {
    let (client, local) = backend::client(context).await?;
    client.verify().await?;
    let what = if local.is_some() { "modal-local" } else { "Modal" };
    Ok(format!("{what} at {}", client.server_url()))
}

fn described(agent: &AgentBinary) -> String {
    format!("{} ({})", agent.path.display(), &agent.sha256[..12])
}

async fn empty_root(agent: &AgentBinary, context: &Context) -> anyhow::Result<String> {
    ensure!(agent.is_static, "it needs a dynamic loader");
    let arch = match context.choice.target {
        Target::Local => Arch::host(),
        Target::Modal => Some(Arch::Amd64),
    };
    let arch = arch.context("this machine's architecture is not known")?;
    crate::agent::prove_in_empty_root(agent, arch).await
}

async fn python() -> anyhow::Result<String> {
    let asked = tokio::process::Command::new("python3").arg("--version").output().await;
    let answer = asked.context("can't run python3")?;
    ensure!(answer.status.success(), "python3 does not work: {}", answer.status);
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

/// No file is no mistake yet: setup writes one.
fn values(args: &Args, context: &Context) -> anyhow::Result<String> {
    let path = env_path::choose(args.services.sources.env_file.as_deref(), context)?;
    env_path::is_kept_out_of_git(&path)?;
    if !path.exists() {
        return Ok(format!("`{}` is not there yet: setup writes it", path.display()));
    }
    let file = EnvFile::read(&path)?;
    is_private(&path)?;
    let keys = SECRETS.iter().flat_map(|secret| secret.keys);
    let set = keys.filter(|key| file.get(key.name).is_some()).count();
    Ok(format!("`{}` sets {set} variables of secrets", path.display()))
}

#[cfg(unix)]
fn is_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("others can read `{}` (mode {mode:o}): chmod 600 it", path.display());
    }
    Ok(())
}

#[cfg(not(unix))]
fn is_private(_: &Path) -> anyhow::Result<()> {
    Ok(())
}
