//! The same isolation without a server: a container of the runtime, driven from this process.

use std::path::PathBuf;

use anyhow::Context as _;
use container_runtime::{
    ContainerId, ContainerSpec, ExecSpec, RootSpec, Runtime, RuntimeConfig, Stdio, Upper,
};

use super::clock::{Series, series};

/// A runtime of this process over one layer.
pub(super) struct Bare {
    runtime: Runtime,
    layer: PathBuf,
    _directory: tempfile::TempDir,
}

impl Bare {
    pub(super) async fn start(layer: PathBuf) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let runtime = Runtime::start(RuntimeConfig::new(directory.path().join("state"))).await?;
        Ok(Self { runtime, layer, _directory: directory })
    }

    pub(super) async fn measure(&self, count: usize, in_flight: usize) -> anyhow::Result<Series> {
        series(count, in_flight, |number| self.cycle(format!("bare-{in_flight}-{number}"))).await
    }

    async fn cycle(&self, id: String) -> anyhow::Result<()> {
        let root = RootSpec {
            layers: vec![self.layer.clone()],
            upper: Upper::Tmpfs { bytes: 512 << 20, inodes: 100_000 },
        };
        let container =
            self.runtime.create(ContainerSpec::new(id.parse::<ContainerId>()?, root)).await?;
        let _main = container.exec(program(["sleep", "300"])).await?;
        let process = container.exec(program(["true"])).await?;
        let status = process.wait().await?;
        anyhow::ensure!(status.shell_code() == 0, "`true` ended with {}", status.shell_code());
        container.terminate().await.context("a bare container did not end")
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.runtime.shutdown().await?)
    }
}

/// With output pipes, as a sandbox has them.
fn program<const N: usize>(argv: [&str; N]) -> ExecSpec {
    let mut spec = ExecSpec::new(argv);
    (spec.stdout, spec.stderr) = (Stdio::Pipe, Stdio::Pipe);
    spec.env("PATH", "/usr/local/bin:/usr/bin:/bin")
}
