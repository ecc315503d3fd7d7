//! What the tests share: a runtime over a fresh state directory and a root made of this machine's own `/usr`.
//!
//! Every test makes real containers, as root or where an ordinary user may; elsewhere it fails and says what is
//! missing, since a test that cannot run has not passed.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use container_runtime::{
    Container, ContainerSpec, ExecSpec, Exit, ExitStatus, Process, RootSpec, Runtime,
    RuntimeConfig, Stdio, Upper,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A runtime of its own for one test.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) state: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let runtime = Runtime::start(config(state.path())).await.unwrap();
        Self { runtime, state }
    }

    pub(crate) async fn container(&self) -> Container {
        self.runtime.create(spec("box")).await.unwrap()
    }

    /// Ends the test; fails if anything could not be cleaned up.
    pub(crate) async fn finish(self) {
        self.runtime.shutdown().await.unwrap();
        let left: Vec<_> = std::fs::read_dir(self.state.path().join("instances"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["gate"], "the instance left something behind");
    }
}

pub(crate) fn config(state: &Path) -> RuntimeConfig {
    let mut config = RuntimeConfig::new(state);
    config.spawner = Some(spawner());
    config
}

/// Names the directory that [`crate::user_mode`] made for tests that run as `nobody`, who may not be able to enter
/// the one that cargo builds in.
pub(crate) const PLACE: &str = "CONTAINER_RUNTIME_IT_PLACE";

pub(crate) fn spawner() -> PathBuf {
    match std::env::var_os(PLACE) {
        Some(place) => Path::new(&place).join("container-spawner"),
        None => env!("CARGO_BIN_EXE_container-spawner").into(),
    }
}

fn layers() -> PathBuf {
    std::env::var_os(PLACE).map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

pub(crate) fn root() -> RootSpec {
    let upper = Upper::Tmpfs { bytes: 64 << 20, inodes: 10_000 };
    RootSpec { layers: base_layers(), upper }
}

pub(crate) fn spec(id: &str) -> ContainerSpec {
    ContainerSpec::new(id.parse().unwrap(), root())
}

/// The programs, and for a test as `nobody` the directories that must be his to be writable.
fn base_layers() -> Vec<PathBuf> {
    let mut layers = vec![base_layer()];
    if std::fs::metadata("/proc/self").unwrap().uid() == NOBODY {
        layers.push(nobodys_layer());
    }
    layers
}

/// Who an ordinary user is in these tests.
pub(crate) const NOBODY: u32 = 65_534;

/// Where root leaves directories owned by `nobody` for the tests that run as him.
pub(crate) fn nobodys_layer() -> PathBuf {
    layers().join("nobodys-layer")
}

/// This machine's own programs as a layer, made once for all tests of a target directory.
pub(crate) fn base_layer() -> PathBuf {
    let layer = layers().join("host-root-2");
    if layer.exists() {
        return layer;
    }
    let guard = File::create(layer.with_extension("lock")).unwrap();
    guard.lock().unwrap();
    if !layer.exists() {
        container_runtime::host_root::layer(&layer).unwrap();
    }
    layer
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output without the last line's end, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status.how, Exit::Code(0), "{self:#?}");
        self.stdout.trim_end()
    }
}

pub(crate) fn command(argv: &[&str]) -> ExecSpec {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ExecSpec::new(argv.iter().copied()).env("PATH", path).env("LC_ALL", "C")
}

pub(crate) async fn run(container: &Container, argv: &[&str]) -> Ran {
    finish(container.exec(command(argv)).await.unwrap()).await
}

pub(crate) async fn sh(container: &Container, script: &str) -> Ran {
    run(container, &["sh", "-c", script]).await
}

/// Starts a script that goes on running, and waits until it has printed `ready`.
pub(crate) async fn start(container: &Container, script: &str) -> Process {
    let mut spec = command(&["sh", "-c", script]);
    spec.stderr = Stdio::Null;
    let mut process = container.exec(spec).await.unwrap();
    let mut out = process.take_stdout().unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("ready") {
        assert_ne!(out.read_buf(&mut seen).await.unwrap(), 0, "it ended early: {seen:?}");
    }
    tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::sink()).await });
    process
}

/// Writes to a program's input and closes it.
pub(crate) async fn feed(process: &mut Process, input: &[u8]) {
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(input).await.unwrap();
}

pub(crate) async fn finish(mut process: Process) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (process.take_stdout(), process.take_stderr());
    tokio::join!(
        async {
            if let Some(mut out) = out {
                out.read_to_end(&mut stdout).await.unwrap();
            }
        },
        async {
            if let Some(mut err) = err {
                err.read_to_end(&mut stderr).await.unwrap();
            }
        }
    );
    Ran {
        status: process.wait().await.unwrap(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// How many processes of this machine have `marker` in their command line.
pub(crate) fn processes_with(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap();
    let matches = |entry: std::io::Result<std::fs::DirEntry>| {
        let command = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(marker)
    };
    entries.map(matches).filter(|found| *found).count()
}

/// A number that no other test has, to find processes by.
pub(crate) fn marker() -> String {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    format!("{}", 100_000_000 + u32::from_le_bytes(random) % 800_000_000)
}

/// Repeats until the check holds; reports the last state if it never does.
pub(crate) async fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let seen = look();
        if good(&seen) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: still {seen:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
