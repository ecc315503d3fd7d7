//! The agent beside mini-swe-agent (PyPI): size, time to its first request, memory, on one replayed conversation.
//!
//! Both are asked to do the same and get the same answers: a command, then the end. Between them and the replay
//! server stands a [`Tap`], which notes when the first byte of the first request arrives, and the process's highest
//! memory (`VmHWM` of proc_pid_status(5)) whenever a request arrives.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use llm_replay::{ReplayConfig, ReplayServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::python;
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
    workspace::Workspace,
};

/// The conversations: one for each, since their tools have different names.
const CONVERSATIONS: &str = "fixtures/bench/agent";
/// What the peer is, pinned.
const REQUIREMENTS: &str = "fixtures/bench/mini-swe-agent.txt";
/// What both are asked.
const PROMPT: &str = "Print the word goat.";
/// Longest time of one conversation.
const LIMIT: Duration = Duration::from_secs(120);
/// What the agent may have: megabytes of its file.
const SIZE_MB: f64 = 12.0;
/// Milliseconds to its first request.
const START_MS: f64 = 10.0;
/// Mebibytes of memory.
const MEMORY_MIB: f64 = 20.0;

/// What one conversation took.
#[derive(Clone, Copy, Debug)]
struct Figures {
    start_ms: f64,
    memory_mib: f64,
}

/// Size, start and memory, ours and the peer's.
pub(crate) async fn measure(context: &Context, time: Duration) -> anyhow::Result<Vec<Measurement>> {
    let workspace = &context.workspace;
    let binary = crate::agent::build_own(context).await?.path;
    let size = std::fs::metadata(&binary)?.len() as f64 / 1e6;
    let peer = peer(workspace).await?;
    let replay =
        ReplayServer::start(ReplayConfig::new(vec![workspace.path(CONVERSATIONS)])).await?;
    let address = replay.address().to_string();
    let ours = median(time, || ours(&binary), &address).await?;
    let theirs = median(time, || mini(&peer), &address).await?;
    Ok(vec![
        Measurement::limit("agent: size", size, "MB", SIZE_MB),
        Measurement::limit("agent: spawn to first request", ours.start_ms, "ms", START_MS),
        Measurement::limit("agent: memory", ours.memory_mib, "MiB", MEMORY_MIB),
        Measurement::new(
            "agent: spawn to first request, beside mini-swe-agent",
            ours.start_ms,
            Some(theirs.start_ms),
            "ms",
            Goal::AtMost(1.0 / 20.0),
        ),
        Measurement::new(
            "agent: memory, beside mini-swe-agent",
            ours.memory_mib,
            Some(theirs.memory_mib),
            "MiB",
            Goal::AtMost(1.0 / 10.0),
        ),
    ])
}

/// The medians of at least five conversations, and as many as fit into the time up to fifty.
async fn median(
    time: Duration,
    command: impl Fn() -> Command,
    replay: &str,
) -> anyhow::Result<Figures> {
    let begun = Instant::now();
    let mut figures = Vec::new();
    while figures.len() < 5 || (begun.elapsed() < time && figures.len() < 50) {
        figures.push(once(command(), replay).await?);
    }
    let middle = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Figures { start_ms: middle(|it| it.start_ms), memory_mib: middle(|it| it.memory_mib) })
}

fn ours(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--prompt", PROMPT, "--model", "bench-goat"]);
    command
}

fn mini(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([
        "--task",
        PROMPT,
        "--model",
        "openai/bench-mini",
        "--yolo",
        "--exit-immediately",
    ]);
    command.args(["--output", "trajectory.json"]);
    let quiet = [
        ("MSWEA_CONFIGURED", "true"),
        ("MSWEA_SILENT_STARTUP", "1"),
        ("MSWEA_COST_TRACKING", "ignore_errors"),
        // Its library would ask the internet for a list of prices first.
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
    ];
    command.envs(quiet);
    command
}

/// One conversation in an empty directory.
async fn once(mut command: Command, replay: &str) -> anyhow::Result<Figures> {
    let tap = Tap::start(replay).await?;
    let directory = tempfile::tempdir()?;
    let url = format!("http://{}/v1", tap.address);
    for name in ["OPENAI_BASE_URL", "OPENAI_API_BASE"] {
        command.env(name, &url);
    }
    command
        .env("OPENAI_API_KEY", "none")
        .env("HOME", directory.path())
        .env("NO_PROXY", "127.0.0.1");
    command.current_dir(directory.path()).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let child = command.spawn()?;
    tap.pid.store(child.id().unwrap_or_default(), Ordering::Relaxed);
    let output =
        tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("no end in time")??;
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    ensure!(output.status.success(), "it ended with {}: {}", output.status, said.join("\n"));
    let first = tap.first.get().context("it asked nothing")?;
    let memory_mib = tap.memory_kib.load(Ordering::Relaxed) as f64 / 1024.0;
    Ok(Figures { start_ms: first.duration_since(begun).as_secs_f64() * 1e3, memory_mib })
}

/// Passes bytes between an agent and the replay server, and looks at the agent when it asks.
struct Tap {
    address: std::net::SocketAddr,
    pid: Arc<AtomicU32>,
    first: Arc<OnceLock<Instant>>,
    memory_kib: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    async fn start(replay: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (pid, first, memory) = <(Arc<AtomicU32>, Arc<OnceLock<_>>, Arc<AtomicU64>)>::default();
        let (looked, begun, highest) = (Arc::clone(&pid), Arc::clone(&first), Arc::clone(&memory));
        let replay = replay.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let (pid, first, memory) =
                    (Arc::clone(&looked), Arc::clone(&begun), Arc::clone(&highest));
                let replay = replay.clone();
                tokio::spawn(async move {
                    let seen = || {
                        first.get_or_init(Instant::now);
                        let now = high_water(pid.load(Ordering::Relaxed)).unwrap_or_default();
                        memory.fetch_max(now, Ordering::Relaxed);
                    };
                    let _closed = pass(agent, &replay, seen).await;
                });
            }
        });
        Ok(Self { address, pid, first, memory_kib: memory, task })
    }
}

async fn pass(agent: TcpStream, replay: &str, seen: impl Fn()) -> std::io::Result<()> {
    let replay = TcpStream::connect(replay).await?;
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_replay, mut to_replay) = replay.into_split();
    let asking = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from_agent.read(&mut bytes).await?;
            if count == 0 {
                return to_replay.shutdown().await;
            }
            seen();
            to_replay.write_all(&bytes[..count]).await?;
        }
    };
    let answering = async {
        tokio::io::copy(&mut from_replay, &mut to_agent).await?;
        to_agent.shutdown().await
    };
    tokio::try_join!(asking, answering).map(drop)
}

/// The most memory that a process ever had, in KiB.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// mini-swe-agent in an environment of its own, installed now where it is missing.
async fn peer(workspace: &Workspace) -> anyhow::Result<std::path::PathBuf> {
    python::install(workspace, "target/mini-swe-agent", REQUIREMENTS).await?;
    Ok(workspace.path("target/mini-swe-agent/bin/mini"))
}
