//! The servers that a proxy talks to, on loopback: a model's, Langfuse's, and whatever it finds through the machine's
//! HTTP proxy. Each request is kept.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
};

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
    /// The body as it came; what is no text is replaced.
    pub(crate) raw: String,
}

/// What arrived so far.
#[derive(Clone, Default)]
pub(crate) struct Seens(Arc<Mutex<Vec<Seen>>>);

impl Seens {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.all().iter().filter(|seen| seen.method == method && seen.path.ends_with(path)).count()
    }
}

/// The servers of one case.
pub(crate) struct Upstream {
    pub(crate) url: String,
    /// As `HTTPS_PROXY`: it lets nothing out, and keeps where things were to go.
    pub(crate) outside: String,
    pub(crate) seen: Seens,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let seen = Seens::default();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outside = format!("http://{}", listener.local_addr().unwrap());
        let tasks = vec![server, tokio::spawn(refuse(listener, seen.clone()))];
        Self { url, outside, seen, tasks }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// The machine's way out: `CONNECT host:443` is kept, and the connection closed.
async fn refuse(listener: TcpListener, seen: Seens) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            let mut line = String::new();
            let read = BufReader::new(stream).read_line(&mut line).await;
            let mut words = line.split_whitespace();
            if let (Ok(_), Some(method), Some(path)) = (read, words.next(), words.next()) {
                let (method, path) = (method.to_owned(), path.to_owned());
                seen.0.lock().unwrap().push(Seen {
                    method,
                    path,
                    authorization: None,
                    body: Value::Null,
                    raw: String::new(),
                });
            }
        });
    }
}

async fn answer(
    State(seens): State<Seens>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let seen = Seen {
        method: method.to_string(),
        path: uri.path().to_owned(),
        authorization: header("authorization").or_else(|| header("api-key")),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        raw: String::from_utf8_lossy(&body).into_owned(),
    };
    let model = seen.body["model"].as_str().unwrap_or("none").to_owned();
    let path = seen.path.clone();
    seens.0.lock().unwrap().push(seen);
    if model.contains("slow") {
        // Longer than any time-out of a case: the client goes first.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let is_chat = path == "/v1/chat/completions"
        || path.starts_with("/openai/deployments/") && path.ends_with("/chat/completions");
    match (method.as_str(), path.as_str()) {
        ("POST", _) if is_chat && model.contains("strict") => unknown_field(),
        ("POST", _) if is_chat => axum::Json(completion(&model)).into_response(),
        ("GET", "/v1/models") => axum::Json(json!({"object": "list", "data": []})).into_response(),
        ("POST", "/api/public/ingestion") => {
            (StatusCode::MULTI_STATUS, axum::Json(json!({"successes": [], "errors": []})))
                .into_response()
        }
        _ => (StatusCode::NOT_FOUND, axum::Json(json!({"error": {"message": "no such route"}})))
            .into_response(),
    }
}

fn completion(model: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    })
}

/// What OpenAI answers to a field that it does not know.
fn unknown_field() -> Response {
    let error = json!({"error": {"message": "Unrecognized request argument supplied", "type": "invalid_request_error"}});
    (StatusCode::BAD_REQUEST, axum::Json(error)).into_response()
}
