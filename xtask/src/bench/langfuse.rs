//! Ingestion into Langfuse beside the official Python SDK 2 with its defaults: the same events, into the same
//! `langfuse-local` over the same PostgreSQL, one after the other.
//!
//! Both count from the first event to the confirmation of the last, and the CPU of the client's process alone. What
//! arrived is counted at the server: a client that loses events has not ingested them.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use jiff::{Span, Timestamp};
use langfuse_client::{
    Client, Config, DailyFilter, Event, Ingestion, ObservationBody, ObservationKind, QueueConfig,
    SecretKey, TraceBody, Usage,
};
use serde::Deserialize;
use serde_json::json;
use test_postgres::Postgres;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{clock, python, release_program};
use crate::{
    cmd::selfbench::{Goal, Measurement},
    context::Context,
    workspace::Workspace,
};

/// Events of each side; half are traces, half generations.
const EVENTS: usize = 100_000;
/// The peer, pinned.
const REQUIREMENTS: &str = "fixtures/langfuse-sdk/requirements.txt";
/// Where the tests of `langfuse-local` install it too.
const PEER: &str = "target/langfuse-sdk-python";
/// What the peer runs.
const SCRIPT: &str = "fixtures/bench/langfuse_ingest.py";
const PUBLIC: &str = "pk-lf-bench";
const SECRET: &str = "sk-lf-bench";
/// Longest time of the peer.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What one side took.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Figures {
    seconds: f64,
    cpu_s: f64,
}

/// Time and CPU of 100,000 events, ours and the peer's.
pub(crate) async fn measure(context: &Context) -> anyhow::Result<Vec<Measurement>> {
    let workspace = &context.workspace;
    python::install(workspace, PEER, REQUIREMENTS).await?;
    let postgres = tokio::task::spawn_blocking(|| Postgres::try_start("langfuse")).await??;
    let server = Server::start(workspace, &postgres).await?;
    let ours = ours(&server).await?;
    server.holds("bench-rs", EVENTS / 2).await?;
    let theirs = theirs(workspace, &server).await?;
    server.holds("bench-sdk", EVENTS / 2).await?;
    server.stop().await?;
    let row = |name: &str, ours: f64, theirs: f64| {
        Measurement::new(name, ours, Some(theirs), "s", Goal::AtMost(1.0 / 5.0))
    };
    Ok(vec![
        row("langfuse: 100,000 events", ours.seconds, theirs.seconds),
        row("langfuse: 100,000 events, CPU of the client", ours.cpu_s, theirs.cpu_s),
    ])
}

async fn ours(server: &Server) -> anyhow::Result<Figures> {
    let queue = server.client()?.ingestion(QueueConfig::default()).await?;
    let (began, used) = (Instant::now(), clock::cpu()?);
    for number in 0..EVENTS / 2 {
        send(&queue, number).await?;
    }
    let report = queue.shutdown(LIMIT).await;
    let cpu_s = (clock::cpu()? - used).as_secs_f64();
    let figures = Figures { seconds: began.elapsed().as_secs_f64(), cpu_s };
    ensure!(report.is_complete(), "events were lost: {:?}", report.failures.first());
    Ok(figures)
}

/// The pair of events that the peer's script sends.
async fn send(queue: &Ingestion, number: usize) -> anyhow::Result<()> {
    let text = "The goat stands on the mountain and looks over the valley. ".repeat(4);
    let midnight: Timestamp = "2026-01-02T00:00:00Z".parse()?;
    let start = midnight + Span::new().milliseconds(i64::try_from(number)?);
    let mut trace = TraceBody::new(format!("rs-{number}"));
    trace.timestamp = Some(start);
    trace.name = Some("bench".into());
    trace.session_id = Some(format!("rs-session-{}", number % 100).into());
    trace.user_id = Some("bench-rs".into());
    trace.tags = Some(vec!["bench".into()]);
    trace.input = Some(json!({ "q": text }));
    trace.output = Some(json!({ "a": text }));
    trace.metadata = Some(json!({ "number": number }));
    let mut generation = ObservationBody::new(trace.id.clone(), format!("rs-g-{number}"));
    generation.name = Some("call".into());
    generation.start_time = Some(start);
    generation.end_time = Some(start + Span::new().seconds(1));
    generation.model = Some("gpt-4o-mini".into());
    generation.model_parameters = Some([("temperature".to_owned(), json!(0.5))].into());
    generation.input = Some(json!([{ "role": "user", "content": text }]));
    generation.output = Some(json!({ "role": "assistant", "content": text }));
    generation.usage = Some(Usage {
        input: Some(100.0),
        output: Some(50.0),
        unit: Some("TOKENS".into()),
        ..Usage::default()
    });
    queue.send(&Event::trace(trace)).await?;
    queue.send(&Event::create(ObservationKind::Generation, generation)).await?;
    Ok(())
}

async fn theirs(workspace: &Workspace, server: &Server) -> anyhow::Result<Figures> {
    let mut command = Command::new(workspace.path(PEER).join("bin/python"));
    command.arg(workspace.path(SCRIPT)).arg(EVENTS.to_string());
    command.env("LANGFUSE_HOST", &server.url).env("LANGFUSE_PUBLIC_KEY", PUBLIC);
    command.env("LANGFUSE_SECRET_KEY", SECRET).env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.context("the peer took too long")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer failed: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("the peer's figures are not JSON")
}

/// `langfuse-local` as a process of its own, so that its CPU is not the client's.
struct Server {
    url: String,
    process: Child,
}

impl Server {
    async fn start(workspace: &Workspace, postgres: &Postgres) -> anyhow::Result<Self> {
        let mut command = Command::new(release_program(workspace, "langfuse-local").await?);
        command.envs([("DATABASE_URL", postgres.url().as_str()), ("PORT", "0"), ("SALT", "bench")]);
        command.envs([("LANGFUSE_INIT_ORG_ID", "bench"), ("LANGFUSE_INIT_PROJECT_ID", "bench")]);
        command.env("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", PUBLIC);
        command.env("LANGFUSE_INIT_PROJECT_SECRET_KEY", SECRET).env("HOSTNAME", "127.0.0.1");
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = process.stdout.take().context("its output is a pipe")?;
        let url = BufReader::new(stdout).lines().next_line().await?;
        Ok(Self { url: url.context("langfuse-local ended before it listened")?, process })
    }

    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(Config::new(&self.url, PUBLIC, SecretKey::new(SECRET))?)?)
    }

    /// Whether every trace of a user is there, with its generation.
    async fn holds(&self, user: &str, pairs: usize) -> anyhow::Result<()> {
        let filter = DailyFilter { user_id: Some(user.to_owned()), ..DailyFilter::default() };
        let days: Vec<_> = self.client()?.daily_metrics(filter).try_collect().await?;
        let traces: u64 = days.iter().map(|day| day.count_traces).sum();
        let generations: u64 = days.iter().map(|day| day.count_observations).sum();
        let wanted = u64::try_from(pairs)?;
        ensure!(
            (traces, generations) == (wanted, wanted),
            "{user} sent {pairs} traces and generations; {traces} and {generations} arrived"
        );
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(())
    }
}
