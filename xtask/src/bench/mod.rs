//! The measurements of `selfbench`: ours and each peer's, in one run on one machine.

pub(crate) mod agent;
#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod bubblewrap;
pub(crate) mod client_calls;
mod clock;
#[cfg(target_os = "linux")]
pub(crate) mod commands;
#[cfg(target_os = "linux")]
pub(crate) mod door;
#[cfg(target_os = "linux")]
pub(crate) mod langfuse;
#[cfg(target_os = "linux")]
pub(crate) mod lifecycle;
#[cfg(target_os = "linux")]
pub(crate) mod live;
#[cfg(target_os = "linux")]
mod memory;
mod python;
mod samples;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
pub(crate) mod transfer;

/// A program of this workspace, built as this one is.
#[cfg(target_os = "linux")]
async fn release_program(
    workspace: &crate::workspace::Workspace,
    name: &str,
) -> anyhow::Result<std::path::PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut build = tokio::process::Command::new(&cargo);
    build.current_dir(workspace.path("")).args(["build", "--quiet", "--release"]);
    let built = build.args(["--package", name]).status().await?;
    anyhow::ensure!(built.success(), "{name} could not be built");
    Ok(workspace.path("target/release").join(name))
}
