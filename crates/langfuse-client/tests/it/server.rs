//! A server that writes down what it is sent and answers as a test tells it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use langfuse_client::{Client, Config, RetryPolicy, SecretKey};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

type Answer = Box<dyn FnOnce(&Seen) -> Response + Send>;

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

/// The server; ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Script::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, task }
    }

    /// A server that has been asked for its version.
    pub(crate) async fn of_version(version: &str) -> Self {
        let server = Self::start().await;
        server.then(200, json!({ "status": "OK", "version": version }));
        if version.starts_with(['3', '4']) {
            let status = if version.starts_with('4') { 200 } else { 404 };
            server.then(status, json!({ "data": [], "meta": {}, "message": "write mode" }));
        }
        server
    }

    pub(crate) fn then(&self, status: u16, body: Value) {
        self.then_with(move |_| (code(status), axum::Json(body)).into_response());
    }

    pub(crate) fn then_with(&self, answer: impl FnOnce(&Seen) -> Response + Send + 'static) {
        self.script.answers.lock().unwrap().push_back(Box::new(answer));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    /// Requests after those that ask for the version.
    pub(crate) fn sent(&self) -> Vec<Seen> {
        let probe = |seen: &Seen| {
            seen.target.ends_with("/health") || seen.target.ends_with("/v2/observations?limit=1")
        };
        self.seen().into_iter().filter(|seen| !probe(seen)).collect()
    }

    pub(crate) fn client(&self) -> Client {
        let retry = RetryPolicy {
            first_wait: std::time::Duration::from_millis(2),
            ..RetryPolicy::default()
        };
        let config = Config::new(&self.url, "pk-lf-research", SecretKey::new("sk-lf-research"));
        Client::new(config.unwrap().with_retry(retry)).unwrap()
    }
}

pub(crate) fn code(status: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(status).unwrap()
}

/// Answers 207 and takes every event.
pub(crate) fn takes_all(seen: &Seen) -> Response {
    let batch = seen.json()["batch"].as_array().unwrap().clone();
    let successes: Vec<Value> =
        batch.iter().map(|event| json!({ "id": event["id"], "status": 201 })).collect();
    let body = json!({ "successes": successes, "errors": [] });
    (code(207), axum::Json(body)).into_response()
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers.iter().map(|(key, value)| (key.to_string(), text(value))).collect(),
        body: to_bytes(body, usize::MAX).await.unwrap(),
    };
    script.seen.lock().unwrap().push(seen.clone());
    let answer = script.answers.lock().unwrap().pop_front();
    match answer {
        Some(answer) => answer(&seen),
        None => (code(599), "the test has no more answers").into_response(),
    }
}
