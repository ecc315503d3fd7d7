//! A container whose root holds one program: what runs there runs in any image.

use std::path::Path;

use anyhow::{Context as _, bail};
use container_runtime::{
    ContainerId, ContainerSpec, ExecSpec, Mount, RootSpec, Runtime, RuntimeConfig, Stdio, Upper,
};
use tokio::io::AsyncReadExt as _;

/// Runs the program at `path` with `args` and gives its standard output.
pub(super) async fn run(path: &Path, args: &[&str]) -> anyhow::Result<String> {
    let directory = tempfile::tempdir().context("can't make a temporary directory")?;
    let layer = directory.path().join("empty");
    std::fs::create_dir(&layer).context("can't make an empty root")?;
    let runtime = Runtime::start(RuntimeConfig::new(directory.path().join("state"))).await?;
    let result = run_in(&runtime, &layer, path, args).await;
    runtime.shutdown().await?;
    result
}

async fn run_in(
    runtime: &Runtime,
    layer: &Path,
    path: &Path,
    args: &[&str],
) -> anyhow::Result<String> {
    let root = RootSpec {
        layers: vec![layer.to_owned()],
        upper: Upper::Tmpfs { bytes: 16 << 20, inodes: 1024 },
    };
    let mut spec = ContainerSpec::new("empty-root".parse::<ContainerId>()?, root);
    spec.mounts.push(Mount { read_only: true, ..Mount::new(path, "/goat-eval") });
    let container = runtime.create(spec).await.context("can't make an empty root")?;
    let mut exec = ExecSpec::new(["/goat-eval"].iter().chain(args));
    exec.stdout = Stdio::Pipe;
    let mut process =
        container.exec(exec).await.context("the agent does not start in an empty root")?;
    let mut output = String::new();
    if let Some(mut stdout) = process.take_stdout() {
        stdout.read_to_string(&mut output).await.context("can't read what the agent prints")?;
    }
    let status = process.wait().await?;
    container.terminate().await?;
    if status.shell_code() != 0 {
        bail!("the agent ended with {} in an empty root", status.shell_code());
    }
    Ok(output.trim().to_owned())
}
