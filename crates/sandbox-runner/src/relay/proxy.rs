//! The reverse proxy between sandboxes and the model's server.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use eval_types::TrialKey;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Client;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Upstream, failed, redact::without_key};
use crate::{Result, chain, secret::Secret};

/// What passes: method, path here, path below the server's `/v1`.
const ROUTES: [(Method, &str, &str); 5] = [
    (Method::POST, "/v1/chat/completions", "/chat/completions"),
    (Method::POST, "/v1/completions", "/completions"),
    (Method::POST, "/v1/responses", "/responses"),
    (Method::POST, "/v1/embeddings", "/embeddings"),
    (Method::GET, "/v1/models", "/models"),
];
/// Headers that pass to the server.
const TO_SERVER: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
];
/// Headers that pass back; those that begin with `x-ratelimit-` do too.
const TO_SANDBOX: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::RETRY_AFTER, HeaderName::from_static("x-request-id")];
/// Largest request: a long conversation with pictures.
const LARGEST_REQUEST: usize = 64 * 1024 * 1024;
/// Largest answer that reports an error; it is read whole, to cut the key out.
const LARGEST_ERROR: usize = 1024 * 1024;

type Digested = [u8; 32];

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    upstream: String,
    tokens: Tokens,
    task: JoinHandle<()>,
}

/// Tokens in force, by their hash, so that looking one up tells nothing about others.
type Tokens = Arc<Mutex<HashMap<Digested, Granted>>>;

/// What a token stands for.
#[derive(Clone, Debug)]
struct Granted {
    /// For the log.
    trial: String,
    /// The trial's own key for the server, instead of the run's.
    key: Option<Secret>,
}

/// Keeps a trial's token in force until it is dropped.
#[derive(Debug)]
pub struct Token {
    digest: Digested,
    tokens: Tokens,
}

impl Drop for Token {
    fn drop(&mut self) {
        lock(&self.tokens).remove(&self.digest);
    }
}

struct Shared {
    upstream: Upstream,
    client: Client,
    tokens: Tokens,
}

impl Relay {
    /// Listens on a free port of loopback.
    pub async fn start(upstream: Upstream) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let client = upstream.client().map_err(failed)?;
        let shown = upstream.base_url().to_owned();
        let tokens = Tokens::default();
        let shared = Arc::new(Shared { upstream, client, tokens: Arc::clone(&tokens) });
        let routes = Router::new().fallback(relay).with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the model relay stopped");
            }
        });
        Ok(Self { address, upstream: shown, tokens, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The model's address behind it.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// A token for one trial; its calls go on with `key`, else with the server's.
    pub fn grant(&self, trial: &TrialKey, key: Option<Secret>) -> Result<(Secret, Token)> {
        let secret = Secret::random("goat-trial-").map_err(failed)?;
        let digest = digest(secret.expose());
        lock(&self.tokens).insert(digest, Granted { trial: trial.to_string(), key });
        Ok((secret, Token { digest, tokens: Arc::clone(&self.tokens) }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(Granted { trial, key }) = shared.granted(request.headers()) else {
        return refuse(StatusCode::UNAUTHORIZED, "this key is not, or no longer, valid here");
    };
    let (parts, body) = request.into_parts();
    let wanted = |(method, path, _): &&(Method, &str, &str)| {
        *method == parts.method && *path == parts.uri.path()
    };
    let Some((method, _, path)) = ROUTES.iter().find(wanted) else {
        let text = format!("{} {} does not pass here", parts.method, parts.uri.path());
        return refuse(StatusCode::NOT_FOUND, &text);
    };
    let Ok(body) = to_bytes(body, LARGEST_REQUEST).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 64 MiB");
    };
    tracing::debug!(%trial, path, bytes = body.len(), "model call");
    let url = format!("{}{path}", shared.upstream.base_url());
    let mut call = shared.client.request(method.clone(), url).body(body);
    call = call.headers(passing(&parts.headers, &TO_SERVER));
    let key = key.or_else(|| shared.upstream.key().cloned());
    if let Some(key) = &key {
        call = call.bearer_auth(key.expose());
    }
    match call.send().await {
        Ok(answer) => pass(answer, key).await,
        Err(error) => {
            let text = format!("the model does not answer: {}", chain(&error.without_url()));
            refuse(StatusCode::BAD_GATEWAY, &text)
        }
    }
}

impl Shared {
    fn granted(&self, headers: &HeaderMap) -> Option<Granted> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let token = given.strip_prefix("Bearer ")?;
        lock(&self.tokens).get(&digest(token)).cloned()
    }
}

/// Passes an answer back as it comes, without the key, which a careless server may repeat.
async fn pass(answer: reqwest::Response, key: Option<Secret>) -> Response {
    let status = answer.status();
    let headers = passing(answer.headers(), &TO_SANDBOX);
    if status.is_redirection() {
        return refuse(StatusCode::BAD_GATEWAY, "the model's server redirects; give its address");
    }
    let body = if status.is_success() {
        Body::from_stream(without_key(answer.bytes_stream(), key))
    } else {
        let body = Body::from_stream(answer.bytes_stream());
        let bytes = to_bytes(body, LARGEST_ERROR).await.unwrap_or_default().to_vec();
        Body::from(match &key {
            Some(key) => key.redact_bytes(bytes),
            None => bytes,
        })
    };
    (status, headers, body).into_response()
}

fn passing(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let wanted = |(name, _): &(&HeaderName, &HeaderValue)| {
        names.contains(name) || name.as_str().starts_with("x-ratelimit-")
    };
    headers.iter().filter(wanted).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "type": "relay_error"}}))).into_response()
}

fn digest(token: &str) -> Digested {
    Sha256::digest(token).into()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
