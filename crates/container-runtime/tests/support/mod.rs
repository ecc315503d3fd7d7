//! What the tests share: a runtime over a fresh state directory and a root made of this machine's own `/usr`.

use std::fs::File;
use std::path::{Path, PathBuf};

use container_runtime::{
    Container, ContainerSpec, ExecSpec, ExitStatus, RootSpec, Runtime, RuntimeConfig, Upper,
};
use tokio::io::AsyncReadExt as _;

pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) state: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut config = RuntimeConfig::new(state.path());
        config.spawner = Some(env!("CARGO_BIN_EXE_container-spawner").into());
        Self { runtime: Runtime::start(config).await.unwrap(), state }
    }

    pub(crate) fn spec(&self, id: &str) -> ContainerSpec {
        let upper = Upper::Tmpfs { bytes: 64 << 20, inodes: 10_000 };
        ContainerSpec::new(id.parse().unwrap(), RootSpec { layers: vec![base_layer()], upper })
    }

    pub(crate) async fn container(&self) -> Container {
        self.runtime.create(self.spec("box")).await.unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) async fn run(container: &Container, argv: &[&str]) -> Ran {
    let mut spec = ExecSpec::new(argv.iter().copied());
    spec = spec.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    let mut process = container.exec(spec).await.unwrap();
    let (mut out, mut err) = (process.take_stdout().unwrap(), process.take_stderr().unwrap());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (a, b) = tokio::join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr));
    a.unwrap();
    b.unwrap();
    Ran {
        status: process.wait().await.unwrap(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// This machine's own programs as a layer, made once for all tests of a target directory.
pub(crate) fn base_layer() -> PathBuf {
    let layer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host-root");
    let guard = File::create(layer.with_extension("lock")).unwrap();
    guard.lock().unwrap();
    if !layer.exists() {
        container_runtime::host_root::layer(&layer).unwrap();
    }
    layer
}
