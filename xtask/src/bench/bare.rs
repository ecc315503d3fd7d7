//! The same isolation without a server: a container of the runtime, driven from this process.

use std::path::PathBuf;

use anyhow::Context as _;
use container_runtime::{
    Container, ContainerId, ContainerSpec, ExecSpec, RootSpec, Runtime, RuntimeConfig, Stdio, Upper,
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
        let live = self.live(&id).await?;
        live.exec().await?;
        live.end().await
    }

    /// A container that lives until it is ended.
    pub(super) async fn live(&self, id: &str) -> anyhow::Result<Live> {
        let root = RootSpec {
            layers: vec![self.layer.clone()],
            upper: Upper::Tmpfs { bytes: 512 << 20, inodes: 100_000 },
        };
        let container =
            self.runtime.create(ContainerSpec::new(id.parse::<ContainerId>()?, root)).await?;
        let _main = container.exec(program(["sleep", "3000"])).await?;
        Ok(Live { container })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        Ok(self.runtime.shutdown().await?)
    }
}

/// A container with a main program.
pub(super) struct Live {
    container: Container,
}

impl Live {
    /// One request to its init: start `true`, and say how it ended.
    async fn exec(&self) -> anyhow::Result<()> {
        let process = self.container.exec(program(["true"])).await?;
        let status = process.wait().await?;
        anyhow::ensure!(status.shell_code() == 0, "`true` ended with {}", status.shell_code());
        Ok(())
    }

    /// Milliseconds: the median of such requests, one after the other.
    pub(super) async fn exec_ms(&self, count: usize) -> anyhow::Result<f64> {
        Ok(1e3 * series(count, 1, |_| self.exec()).await?.median.as_secs_f64())
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.container.terminate().await.context("a bare container did not end")
    }
}

/// With output pipes, as a sandbox has them.
fn program<const N: usize>(argv: [&str; N]) -> ExecSpec {
    let mut spec = ExecSpec::new(argv);
    (spec.stdout, spec.stderr) = (Stdio::Pipe, Stdio::Pipe);
    spec.env("PATH", "/usr/local/bin:/usr/bin:/bin")
}
