//! The server that answers from recordings.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use zeroize::Zeroizing;

use crate::{
    Error, Library, Result, access,
    matching::Hit,
    openai::{self, ChatRequest, Reply},
    recording::{Answer, Entry, Failure},
    template,
};

/// The largest request taken, in bytes: a long agent conversation with room to spare.
const MAX_REQUEST: usize = 64 << 20;

/// What to replay, and where.
#[derive(Clone)]
pub struct ReplayConfig {
    /// Files, or directories of `*.json`.
    pub recordings: Vec<PathBuf>,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where set, requests must carry this key as bearer token.
    pub key: Option<String>,
    /// Names for `/v1/models`; any name is answered.
    pub models: Vec<String>,
}

impl std::fmt::Debug for ReplayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayConfig")
            .field("recordings", &self.recordings)
            .field("listen", &self.listen)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

impl ReplayConfig {
    /// Replays `recordings` on a free loopback port, no key asked for.
    pub fn new(recordings: impl Into<Vec<PathBuf>>) -> Self {
        Self {
            recordings: recordings.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            key: None,
            models: vec!["replay".to_owned()],
        }
    }
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct ReplayServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ReplayServer {
    /// Reads the recordings and serves them.
    pub async fn start(config: ReplayConfig) -> Result<Self> {
        let library = Library::read(&config.recordings)?;
        Self::start_with(library, config).await
    }

    /// Serves a library made by the caller; `config.recordings` is not looked at.
    pub async fn start_with(library: Library, config: ReplayConfig) -> Result<Self> {
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let key = config.key.map(Zeroizing::new);
        let state = Arc::new(Replay {
            library,
            models: config.models,
            count: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .layer(axum::extract::DefaultBodyLimit::max(MAX_REQUEST))
            .with_state(state)
            .layer(middleware::from_fn_with_state(key, access::check))
            .route("/health", get(async || "ok"));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the replay server stopped");
            }
        });
        Ok(Self { address, task })
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients: `http://…/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Replay {
    library: Library,
    models: Vec<String>,
    count: AtomicU64,
    /// How often each recorded failure (recording, position) was already answered.
    failures: Mutex<HashMap<(usize, usize), u32>>,
}

async fn models(State(replay): State<Arc<Replay>>) -> Response {
    let models: Vec<Value> = replay
        .models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "llm-replay"}))
        .collect();
    Json(json!({"object": "list", "data": models})).into_response()
}

async fn chat(State(replay): State<Arc<Replay>>, body: Bytes) -> Response {
    let request: ChatRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("not a chat completion request: {error}");
            return failed(StatusCode::BAD_REQUEST, &message, "invalid_request_error");
        }
    };
    match replay.library.find(&request) {
        Ok(hit) => replay.answer(&hit, &request),
        Err(miss) => failed(StatusCode::UNPROCESSABLE_ENTITY, &miss.to_string(), "replay_miss"),
    }
}

impl Replay {
    fn answer(&self, hit: &Hit<'_>, request: &ChatRequest) -> Response {
        for (offset, entry) in hit.entries.iter().enumerate() {
            match entry {
                Entry::Failure(failure) => {
                    let place = (hit.recording, hit.position + offset);
                    if self.still_fails(place, failure, request) {
                        return fail_as_recorded(failure);
                    }
                }
                Entry::Assistant(answer) => return self.reply(answer, hit, request),
                Entry::User(_) | Entry::Tool(_) => break,
            }
        }
        let message = "the recording ends after its failures";
        failed(StatusCode::UNPROCESSABLE_ENTITY, message, "replay_miss")
    }

    fn still_fails(&self, place: (usize, usize), failure: &Failure, request: &ChatRequest) -> bool {
        if !failure.unless.is_empty() {
            return !request.has(&failure.unless);
        }
        let mut failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = failures.entry(place).or_default();
        *count += 1;
        *count <= failure.times
    }

    fn reply(&self, answer: &Answer, hit: &Hit<'_>, request: &ChatRequest) -> Response {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let reply = Reply::new(answer, &hit.captures, request, number, now);
        if !request.stream {
            return Json(reply.whole()).into_response();
        }
        let chunks = match answer.chunks.is_empty() {
            true => reply.chunks(request.wants_usage()),
            false => {
                answer.chunks.iter().map(|it| template::insert_json(it, &hit.captures)).collect()
            }
        };
        events(chunks.iter().map(event).chain(["data: [DONE]\n\n".to_owned()]).collect())
    }
}

fn event(chunk: &Value) -> String {
    match chunk {
        Value::String(text) => format!("data: {text}\n\n"),
        json => format!("data: {json}\n\n"),
    }
}

fn events(events: Vec<String>) -> Response {
    let body = Body::from_stream(stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn fail_as_recorded(failure: &Failure) -> Response {
    if !failure.chunks.is_empty() {
        return events(failure.chunks.iter().map(event).collect());
    }
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &failure.body {
        Some(body) => (status, Json(body.clone())).into_response(),
        None => failed(status, &failure.message, "recorded_failure"),
    };
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn failed(status: StatusCode, message: &str, kind: &str) -> Response {
    (status, Json(openai::error_body(message, kind))).into_response()
}
