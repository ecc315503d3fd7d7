//! One step of a build: a program on the layers so far, whose changes become the next layer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use container_network::{Gateway, Policy};
use container_runtime::{
    Container, ContainerSpec, ExecSpec, GeneratedFile, Limits, Mount, NetworkSpec, Output,
    RootSpec, Runtime, Upper,
};
use tokio::io::AsyncReadExt as _;

use super::log::{BuildLog, Stream};
use super::settings::{INSIDE, SCRATCH};
use crate::durable;
use crate::error::Error;
use crate::room::Room;
use crate::sandbox::disk_watch::{self, DiskWatch};
use crate::sandbox::usage::{self, DiskLimit};

/// No step takes longer than this.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// Lines of output that a failure repeats.
const TAIL_LINES: usize = 20;
/// What the runtime shows or mounts in the root of a step, and makes a place for if there is none.
pub(super) const TRACES: [&str; 7] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", INSIDE, "/proc", "/dev", "/sys"];

/// What one step runs.
pub(super) struct StepSpec {
    pub(super) argv: Vec<String>,
    /// All of it.
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Directories shown below [`INSIDE`], read-only: name and source.
    pub(super) shown: Vec<(String, PathBuf)>,
    pub(super) volumes: Vec<Mount>,
    pub(super) network: bool,
}

/// Where a step works.
pub(super) struct StepPlace<'a> {
    pub(super) runtime: &'a Runtime,
    /// Lowest first.
    pub(super) layers: Vec<PathBuf>,
    /// An empty directory of its own, on the file system of the layers.
    pub(super) scratch: &'a Path,
    /// Shown at [`INSIDE`]; has a directory for each name in `shown`.
    pub(super) settings: &'a Path,
    pub(super) log: &'a BuildLog,
    /// The disk of the layers.
    pub(super) room: &'a Room,
}

/// Why a step has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("it ended with exit code {code}{}", tail_text(tail))]
    Exit { code: i32, tail: Vec<String> },
    #[error("it was killed because memory ran out")]
    OutOfMemory,
    #[error("out of disk: {0}")]
    OutOfDisk(String),
    #[error("it took longer than {} minutes", LIMIT.as_secs() / 60)]
    TimedOut,
    #[error("it could not be run")]
    Runtime(#[from] container_runtime::Error),
    #[error("it has no network")]
    Network(#[from] container_network::Error),
    #[error(transparent)]
    Server(#[from] Error),
}

fn tail_text(tail: &[String]) -> String {
    if tail.is_empty() {
        return " and printed nothing".to_owned();
    }
    tail.iter().fold("; its last output:".to_owned(), |text, line| format!("{text}\n  {line}"))
}

/// Runs the step and answers the directory of its changes, inside `scratch`.
pub(super) async fn run(place: &StepPlace<'_>, spec: StepSpec) -> Result<PathBuf, StepError> {
    let (upper, work) = (place.scratch.join("upper"), place.scratch.join("work"));
    durable::create_dir(&upper, 0o755)?;
    durable::create_dir(&work, 0o755)?;
    let container = place.runtime.create(container_spec(place, &spec, &upper, &work)?).await?;
    let gateway = start_gateway(&container, spec.network, place.log)?;
    let limit = DiskLimit::new(place.room, None);
    let watch = DiskWatch {
        changes: vec![upper.clone()],
        volumes: crate::sandbox::writable(&spec.volumes),
        limit,
        room: place.room.clone(),
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(LIMIT, execute(&container, spec, place.log)) => {
            ended.unwrap_or(Err(StepError::TimedOut))
        }
        excess = disk_watch::exceeds(watch) => Err(StepError::OutOfDisk(excess)),
    };
    let stopped = container.terminate().await;
    if let Some(gateway) = gateway {
        gateway.stop().await;
    }
    ended?;
    stopped?;
    super::layer::remove_traces(&upper, &place.layers, &TRACES)?;
    Ok(upper)
}

fn container_spec(
    place: &StepPlace<'_>,
    spec: &StepSpec,
    upper: &Path,
    work: &Path,
) -> Result<ContainerSpec, StepError> {
    let id = format!("build-{}", crate::ids::random_suffix()).parse()?;
    let root = RootSpec {
        layers: place.layers.clone(),
        upper: Upper::Dir { upper: upper.to_owned(), work: work.to_owned() },
    };
    let mut container = ContainerSpec::new(id, root);
    container.hostname = "build".to_owned();
    container.trusted_build = true;
    let disk = DiskLimit::new(place.room, None);
    container.limits = usage::limits(&Limits::default(), disk, place.runtime);
    let mount =
        |source: &Path, target: &str, read_only| Mount { read_only, ..Mount::new(source, target) };
    let scratch = place.settings.join(SCRATCH);
    container.mounts.push(mount(place.settings, INSIDE, true));
    container.mounts.push(mount(&scratch, &format!("{INSIDE}/{SCRATCH}"), false));
    for (name, source) in &spec.shown {
        container.mounts.push(mount(source, &format!("{INSIDE}/{name}"), true));
    }
    container.mounts.extend(spec.volumes.iter().cloned());
    let file = |path: &str, text: &str| GeneratedFile {
        path: path.into(),
        contents: text.as_bytes().to_vec(),
        mode: 0o644,
    };
    container.files.push(file("/etc/hosts", "127.0.0.1 localhost build\n::1 localhost\n"));
    if spec.network && place.runtime.capabilities().tun {
        container.network = NetworkSpec::Tun;
        let resolver = format!("nameserver {}\n", container_network::plan::DNS);
        container.files.push(file("/etc/resolv.conf", &resolver));
    }
    Ok(container)
}

fn start_gateway(
    container: &Container,
    wanted: bool,
    log: &BuildLog,
) -> Result<Option<Gateway>, StepError> {
    if !wanted {
        return Ok(None);
    }
    let Some(tun) = container.take_tun() else {
        log.info("this machine gives containers no network: the step runs without");
        return Ok(None);
    };
    let resolvers = crate::sandbox::resolvers();
    Ok(Some(Gateway::start(tun, Policy::Open, resolvers)?))
}

/// Runs the program; what it left running ends with the container, and only then its output does.
async fn execute(container: &Container, spec: StepSpec, log: &BuildLog) -> Result<(), StepError> {
    let mut exec = ExecSpec::new(spec.argv);
    exec.env = spec.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    exec.cwd = spec.cwd.into();
    (exec.uid, exec.gid) = (spec.uid, spec.gid);
    let mut process = container.exec(exec).await?;
    let stdout = tokio::spawn(follow(process.take_stdout(), Stream::Stdout, log.clone()));
    let stderr = tokio::spawn(follow(process.take_stderr(), Stream::Stderr, log.clone()));
    let status = process.wait().await?;
    container.terminate().await?;
    let mut tail = Vec::new();
    for follower in [stdout, stderr] {
        // A follower that panicked has lost lines, no more.
        tail.extend(follower.await.unwrap_or_default());
    }
    match status.shell_code() {
        0 => Ok(()),
        _ if status.oom => Err(StepError::OutOfMemory),
        code => {
            let tail = tail.split_off(tail.len().saturating_sub(TAIL_LINES));
            Err(StepError::Exit { code, tail })
        }
    }
}

/// Copies output into the log until its end; answers its last lines.
async fn follow(output: Option<Output>, stream: Stream, log: BuildLog) -> Vec<String> {
    let Some(mut output) = output else { return Vec::new() };
    let mut buffer = vec![0_u8; 16 * 1024];
    let mut pending: Vec<u8> = Vec::new();
    let mut tail = Tail::default();
    loop {
        let length = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        pending.extend_from_slice(&buffer[..length]);
        let whole = whole_characters(&pending);
        let rest = pending.split_off(whole);
        let text = String::from_utf8_lossy(&pending).into_owned();
        tail.push(&text);
        log.append(stream, text);
        pending = rest;
    }
    let text = String::from_utf8_lossy(&pending).into_owned();
    tail.push(&text);
    log.append(stream, text);
    tail.lines()
}

/// How many bytes end with a complete character; bytes that are no text count as such.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_some() => bytes.len(),
        Err(error) => error.valid_up_to(),
    }
}

/// The last lines of a text that comes in pieces.
#[derive(Default)]
struct Tail {
    text: String,
}

impl Tail {
    fn push(&mut self, text: &str) {
        const KEPT: usize = 8 * 1024;
        self.text.push_str(text);
        if self.text.len() > 2 * KEPT {
            let cut = self.text.len() - KEPT;
            let cut = (cut..self.text.len()).find(|at| self.text.is_char_boundary(*at));
            self.text.drain(..cut.unwrap_or(0));
        }
    }

    fn lines(&self) -> Vec<String> {
        let lines: Vec<&str> = self
            .text
            .lines()
            .filter_map(|line| line.rsplit('\r').find(|part| !part.is_empty()))
            .collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_waits_for_its_end() {
        let text = "aé".as_bytes();
        assert_eq!(whole_characters(&text[..2]), 1);
        assert_eq!(whole_characters(text), 3);
        assert_eq!(whole_characters(b"a\xffb"), 3);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..5_000 {
            tail.push(&format!("10%\r50%\rline {number} ü\n"));
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 4999 ü"));
    }

    #[test]
    fn a_failure_repeats_what_was_said() {
        let error = StepError::Exit { code: 2, tail: vec!["E: no such package".to_owned()] };
        insta::assert_snapshot!(error);
    }
}
