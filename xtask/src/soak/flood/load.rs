//! Numbered requests, so many at a time, each asked until it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{PATIENCE, scene::Scene};
use crate::{services, target::Target};

/// Requests in flight.
pub(super) const PARALLEL: usize = 32;
/// Before a request is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(60);

/// How far requests may go, and how far they are.
#[derive(Clone)]
pub(super) struct Gate {
    /// Requests with smaller numbers may be sent.
    until: Arc<watch::Sender<u64>>,
    answered: Arc<watch::Sender<u64>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { until: Arc::new(watch::Sender::new(0)), answered: Arc::new(watch::Sender::new(0)) }
    }
}

impl Gate {
    /// Lets requests go on up to that number.
    pub(super) fn open(&self, until: u64) {
        self.until.send_replace(until);
    }

    /// Waits until so many are answered.
    pub(super) async fn answered(&self, number: u64) {
        // The sender lives as long as this does.
        let _ = self.answered.subscribe().wait_for(|answered| *answered >= number).await;
    }

    async fn pass(&self, number: u64) {
        let _ = self.until.subscribe().wait_for(|until| number < *until).await;
    }
}

/// What requests were answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    /// With their own number.
    pub(super) right: u64,
    /// With something else.
    pub(super) wrong: u64,
    /// Attempts that were not answered, and repeated.
    pub(super) again: u64,
}

/// What every request needs.
struct Asking {
    client: Client,
    url: String,
    key: String,
    seed: u64,
    next: AtomicU64,
    total: u64,
    again: AtomicU64,
    wrong: AtomicU64,
    gate: Gate,
}

/// Requests under way.
pub(super) struct Load {
    asking: Arc<Asking>,
    workers: JoinSet<anyhow::Result<()>>,
}

impl Load {
    /// Begins; the gate says how far.
    pub(super) fn start(scene: &Scene, total: u64, seed: u64, gate: Gate) -> anyhow::Result<Self> {
        let asking = Arc::new(Asking {
            client: services::http(Target::Local, ANSWER)?,
            url: format!("{}/v1/chat/completions", scene.proxy_url()),
            key: scene.token(seed)?,
            seed,
            next: AtomicU64::new(0),
            total,
            again: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            gate,
        });
        let mut workers = JoinSet::new();
        for _ in 0..PARALLEL {
            workers.spawn(work(Arc::clone(&asking)));
        }
        Ok(Self { asking, workers })
    }

    /// Waits for the last answer.
    pub(super) async fn finish(mut self) -> anyhow::Result<Answers> {
        while let Some(worked) = self.workers.join_next().await {
            worked??;
        }
        let (wrong, again) =
            (self.asking.wrong.load(Ordering::Relaxed), self.asking.again.load(Ordering::Relaxed));
        Ok(Answers { right: self.asking.total - wrong, wrong, again })
    }
}

async fn work(asking: Arc<Asking>) -> anyhow::Result<()> {
    loop {
        let number = asking.next.fetch_add(1, Ordering::Relaxed);
        if number >= asking.total {
            return Ok(());
        }
        asking.gate.pass(number).await;
        let answer =
            patiently(&asking, number).await.with_context(|| format!("request {number}"))?;
        if answer != number.to_string() {
            asking.wrong.fetch_add(1, Ordering::Relaxed);
        }
        asking.gate.answered.send_modify(|answered| *answered += 1);
    }
}

/// Asks until there is an answer: a proxy that is away comes back.
async fn patiently(asking: &Asking, number: u64) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        match asking.ask(number).await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                ensure!(began.elapsed() < PATIENCE, "no answer: {error:#}");
                asking.again.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The trace of a request.
pub(super) fn trace_id(seed: u64, number: u64) -> String {
    format!("flood-{seed}-{number}")
}

impl Asking {
    /// Every other request is a stream.
    async fn ask(&self, number: u64) -> anyhow::Result<String> {
        let streams = number % 2 == 1;
        let mut body = json!({
            "model": super::scene::MODEL,
            "messages": [{"role": "user", "content": format!("Say {number}.")}],
            "stream": streams,
            "metadata": {
                "trace_id": trace_id(self.seed, number),
                "session_id": super::scene::run_id(self.seed),
                "trace_name": format!("flood {number}"),
            },
        });
        if streams {
            body["stream_options"] = json!({"include_usage": true});
        }
        let request = self.client.post(&self.url).bearer_auth(&self.key).json(&body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        if streams { streamed(&text) } else { whole(&text) }
    }
}

fn whole(text: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(text)?;
    let content = answer["choices"][0]["message"]["content"].as_str();
    Ok(content.with_context(|| format!("no content in {text}"))?.to_owned())
}

/// The pieces together; a stream that ends early is no answer.
fn streamed(text: &str) -> anyhow::Result<String> {
    let mut content = String::new();
    for event in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if event == "[DONE]" {
            return Ok(content);
        }
        let event: Value = serde_json::from_str(event)?;
        content.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    bail!("the stream ended early: {text}")
}
