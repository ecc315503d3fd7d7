//! What the door adds to the pieces of a stream and to a request: through it and past it, to the same server, in turns.
//!
//! The server writes into each piece when it was sent, by the clock that the reader has, too. The caller shows a task's
//! token with a budget, so that the door does all that it does to a model call: it checks, meters and counts.

use std::{
    convert::Infallible,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use goat_keys::{Claims, SigningKeys};
use jiff::Timestamp;
use reqwest::Client;
use serde_json::json;
use tokio::process::{Child, Command};

use super::samples::Samples;
use crate::{cmd::selfbench::Measurement, context::Context, services, target::Target};

/// Turns of each side; the first warms up.
const TURNS: usize = 5;
/// Pieces of a stream, and the time between two.
const PIECES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);
/// Requests of a turn, one after the other.
const REQUESTS: usize = 300;
/// Streams at once, as an evaluation may have them.
const STREAMS: usize = 32;
/// Milliseconds that the door may add.
const MOST: f64 = 1.0;
const SIGNING_KEYS: &str = "BENCH_SIGNING_KEYS";
/// Longest wait for the door, and for a stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Milliseconds that the door adds.
pub(crate) async fn measure(context: &Context) -> anyhow::Result<Vec<Measurement>> {
    let scene = Scene::start(context).await?;
    let (past, through) = (scene.past(), scene.through());
    let mut rows = Vec::new();
    for (name, streams) in [("one stream", 1), ("32 streams at once", STREAMS)] {
        let (mut added, mut added_late) = (Samples::default(), Samples::default());
        for turn in 0..TURNS {
            let without = scene.streams(&past, streams).await?;
            let with = scene.streams(&through, streams).await?;
            if turn > 0 {
                added.push(at(&with, 0.5) - at(&without, 0.5));
                added_late.push(at(&with, 0.99) - at(&without, 0.99));
            }
        }
        let row = |what: &str, added: &Samples| {
            let name = format!("door: added to a piece of {name}, {what}");
            Measurement::limit(&name, added.median(), "ms", MOST)
        };
        rows.extend([row("median", &added), row("99th of 100", &added_late)]);
    }
    let mut added = Samples::default();
    for turn in 0..TURNS {
        let without = scene.requests(&past).await?;
        let with = scene.requests(&through).await?;
        if turn > 0 {
            added.push(at(&with, 0.5) - at(&without, 0.5));
        }
    }
    rows.push(Measurement::limit("door: added to a request, median", added.median(), "ms", MOST));
    scene.stop().await?;
    Ok(rows)
}

/// A server, and a door before it.
struct Scene {
    client: Client,
    began: Instant,
    server: u16,
    door: u16,
    token: String,
    supervisor: Child,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start(context: &Context) -> anyhow::Result<Self> {
        let program = super::release_program(&context.workspace, "service-supervisor").await?;
        let began = Instant::now();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?.port();
        tokio::spawn(async move { axum::serve(listener, router(began)).await });
        let door = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::tempdir()?;
        let keys = SigningKeys::generate()?;
        let token = token(&keys)?;
        let supervisor = supervisor(&program, directory.path(), server, door, &keys)?;
        let client = services::http(Target::Local, PATIENCE)?;
        let scene = Self { client, began, server, door, token, supervisor, _directory: directory };
        scene.wait().await?;
        Ok(scene)
    }

    fn past(&self) -> String {
        format!("http://127.0.0.1:{}", self.server)
    }

    fn through(&self) -> String {
        format!("http://127.0.0.1:{}", self.door)
    }

    async fn wait(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.ask(&self.through(), "call").await.is_err() {
            ensure!(began.elapsed() < PATIENCE, "the door did not open");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn ask(&self, to: &str, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.client.post(format!("{to}/{path}")).bearer_auth(&self.token).body("{}");
        Ok(request.send().await?.error_for_status()?)
    }

    /// How long pieces of so many streams at once were on their way, in milliseconds, in order.
    async fn streams(&self, to: &str, streams: usize) -> anyhow::Result<Vec<f64>> {
        let one = |_| self.stream(to);
        let all = stream::iter(0..streams).map(one).buffer_unordered(streams);
        let delays: Vec<Vec<f64>> = all.try_collect().await?;
        Ok(sorted(delays.concat()))
    }

    async fn stream(&self, to: &str) -> anyhow::Result<Vec<f64>> {
        let mut pieces = self.ask(to, "stream").await?.bytes_stream();
        let (mut delays, mut rest) = (Vec::new(), String::new());
        while let Some(piece) = pieces.try_next().await? {
            let now = self.began.elapsed();
            rest.push_str(std::str::from_utf8(&piece)?);
            // Two pieces may arrive as one.
            while let Some((line, after)) = rest.split_once("\n\n") {
                let sent = line.strip_prefix("data: ").context("a piece begins with `data: `")?;
                let sent = Duration::from_nanos(sent.parse()?);
                delays.push((now.saturating_sub(sent)).as_secs_f64() * 1_000.0);
                rest = after.to_owned();
            }
        }
        ensure!(delays.len() == PIECES as usize, "{} of {PIECES} pieces came", delays.len());
        Ok(delays)
    }

    async fn requests(&self, to: &str) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let began = Instant::now();
            self.ask(to, "call").await?.bytes().await?;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(sorted(times))
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.supervisor.kill().await?;
        Ok(())
    }
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

/// The figure below which that share of them is.
fn at(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list of some thousand"
    )]
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn router(began: Instant) -> Router {
    let streamed = move || async move {
        let pieces = stream::unfold(0, move |number| async move {
            if number == PIECES {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
            let piece = format!("data: {}\n\n", began.elapsed().as_nanos());
            Some((Ok::<_, Infallible>(piece), number + 1))
        });
        let kind = ("content-type", "text/event-stream");
        ([kind], Body::from_stream(pieces)).into_response()
    };
    Router::new().route("/stream", post(streamed)).route("/call", post(called))
}

/// As LiteLLM answers, with its headers.
async fn called() -> Response {
    ([("x-litellm-response-cost", "0.000001"), ("x-litellm-call-id", "1")], "{}").into_response()
}

fn token(keys: &SigningKeys) -> anyhow::Result<String> {
    let (run, task) = ("bench".parse()?, "door".parse()?);
    let claims = Claims::for_trial(run, task, Duration::from_secs(3_600), Timestamp::now());
    Ok(keys.issue(&claims.with_budget_usd(1_000.0))?.expose().to_owned())
}

/// The door with what it has before LiteLLM: tokens, budgets, a spool that hears of answered calls.
fn supervisor(
    program: &Path,
    directory: &Path,
    server: u16,
    door: u16,
    keys: &SigningKeys,
) -> anyhow::Result<Child> {
    let route = |path: &str| json!({ "methods": ["POST"], "path": path, "access": "user" });
    let plan = json!({
        "spools": [{
            "name": "traces", "port": 0, "directory": "spool", "max_bytes": 1 << 20, "url": "URL",
            "public_key": SIGNING_KEYS, "secret_key": SIGNING_KEYS, "drain": 0.1,
        }],
        "services": [{
            "name": "idle", "command": ["sleep", "3600"], "health": "started", "ready_within": 10,
        }],
        "doors": [{
            "name": "door", "listen": "127.0.0.1", "port": door, "upstream": server,
            "routes": [route("/stream"), route("/call")],
            "task_keys": { "signing_keys": SIGNING_KEYS, "revoked": "revoked", "spent": "spent" },
            "traced_by": "traces",
        }],
    });
    let path = directory.join("plan.json");
    std::fs::write(&path, plan.to_string())?;
    let mut command = Command::new(program);
    command.arg("run").arg(path).current_dir(directory).env(SIGNING_KEYS, &*keys.expose());
    command.env("URL", "http://127.0.0.1:9").stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("the supervisor can't be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_end_of_a_list() {
        let figures = sorted((0..100).rev().map(f64::from).collect());
        assert_eq!((at(&figures, 0.5), at(&figures, 0.99)), (50.0, 99.0));
        assert_eq!(at(&[], 0.5), 0.0);
    }
}
