//! Where LiteLLM's callback posts, as if it were Langfuse.
//!
//! `POST /api/public/ingestion` as Langfuse 2 answers it (207, a verdict for each event), `POST
//! /api/public/otel/v1/traces` as OTLP has it (protobuf), `GET /api/public/health` and `GET /goat/traces/status`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use langfuse_client::otlp::{SpanWriter, WrittenSpan, export_answer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;

use super::count::{Counts, Fate};
use super::store::{Event, Store, StoreError};
use super::{ProjectKeys, parcel};
use crate::calls::{Calls, Untraced};

/// As Langfuse 2 itself (4.5 MB), and what a callback adds around it.
const MAX_BODY: usize = 5_000_000;
/// A span holds its whole prompt and answer; Langfuse has no limit, and warns from here on.
const MAX_SPANS: usize = 16_000_000;
/// What is said to who sends more than there is room for.
const FULL: &str = "the spool of traces is full";
/// The one way in which spans are taken: as LiteLLM's callback sends them.
const PROTOBUF: &str = "application/x-protobuf";

struct Shared {
    store: Arc<Store>,
    keys: ProjectKeys,
    calls: Arc<Calls>,
    news: Arc<Notify>,
}

pub(super) fn router(
    store: Arc<Store>,
    keys: ProjectKeys,
    calls: Arc<Calls>,
    news: Arc<Notify>,
) -> Router {
    Router::new()
        .route("/api/public/ingestion", post(ingest))
        .route("/api/public/health", get(health))
        .route("/goat/traces/status", get(status))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/api/public/otel/v1/traces", post(export).layer(DefaultBodyLimit::max(MAX_SPANS)))
        .with_state(Arc::new(Shared { store, keys, calls, news }))
}

/// A batch; each event is kept as its sender wrote it.
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// As much of an event as is looked at.
#[derive(Deserialize)]
struct Named<'a> {
    id: String,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

impl Named<'_> {
    /// The call that it is of: the door named it, LiteLLM's hook passed the name on.
    fn call(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Body {
            metadata: Value,
        }
        let body: Body = serde_json::from_str(self.body?.get()).ok()?;
        let call = body.metadata.get("user_api_key_auth_metadata")?.get("call")?;
        call.as_str().map(str::to_owned)
    }
}

async fn ingest(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if !shared.keys.are_shown(&headers) {
        return unauthorized();
    }
    let batch: Batch<'_> = match serde_json::from_slice(&body) {
        Ok(batch) => batch,
        Err(error) => {
            let answer =
                json!({ "message": "Invalid request data", "errors": [error.to_string()] });
            return (StatusCode::BAD_REQUEST, Json(answer)).into_response();
        }
    };
    let mut errors = Vec::new();
    let mut events = Vec::new();
    let mut calls = Vec::new();
    for text in batch.batch {
        match serde_json::from_str::<Named<'_>>(text.get()) {
            Ok(named) => {
                calls.extend(named.call());
                let body = Bytes::copy_from_slice(text.get().as_bytes());
                events.push(Event { id: named.id, body });
            }
            Err(error) => errors.push(verdict("unknown", 400, &error.to_string())),
        }
    }
    match shared.take(&events, &calls).await {
        Ok(fates) => {
            (StatusCode::MULTI_STATUS, Json(answer(&events, &fates, errors))).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// Spans: each is an event.
async fn export(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if !shared.keys.are_shown(&headers) {
        return unauthorized();
    }
    let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !is_plain || kind != Some(PROTOBUF.as_bytes()) {
        let answer = json!({ "error": format!("only {PROTOBUF} is taken, not compressed") });
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Json(answer)).into_response();
    }
    let spans = match WrittenSpan::split(body) {
        Ok(spans) => spans,
        Err(error) => {
            let answer = json!({ "error": error.to_string() });
            return (StatusCode::BAD_REQUEST, Json(answer)).into_response();
        }
    };
    let writer = SpanWriter::of(&headers);
    let events: Vec<Event> = spans.iter().map(|span| parcel::event(span, &writer)).collect();
    let calls: Vec<String> = spans.iter().filter_map(parcel::call).collect();
    match shared.take(&events, &calls).await {
        Ok(fates) => {
            let dropped = fates.iter().filter(|fate| **fate == Fate::Dropped).count();
            ([(header::CONTENT_TYPE, PROTOBUF)], export_answer(dropped, FULL)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

impl Shared {
    /// Puts events on disk, and notes that the traces of these calls have come: what is refused is counted as such.
    async fn take(&self, events: &[Event], calls: &[String]) -> Result<Vec<Fate>, StoreError> {
        let fates = self.store.take(events).await?;
        self.news.notify_one();
        calls.iter().try_for_each(|call| self.calls.traced(call))?;
        Ok(fates)
    }
}

fn unauthorized() -> Response {
    let message = "the project's keys were not sent";
    let answer = json!({ "error": "UnauthorizedError", "message": message });
    (StatusCode::UNAUTHORIZED, Json(answer)).into_response()
}

fn unavailable(error: &StoreError) -> Response {
    let answer = json!({ "message": error.to_string(), "error": "SpoolError" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
}

fn answer(events: &[Event], fates: &[Fate], mut errors: Vec<Value>) -> Value {
    let mut successes = Vec::new();
    for (event, fate) in events.iter().zip(fates) {
        match fate {
            Fate::Dropped => errors.push(verdict(&event.id, 507, FULL)),
            _ => successes.push(json!({ "id": event.id, "status": 201 })),
        }
    }
    json!({ "successes": successes, "errors": errors })
}

fn verdict(id: &str, status: u16, message: &str) -> Value {
    json!({ "id": id, "status": status, "message": message })
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "OK", "version": "2.0.0-spool" }))
}

/// What became of events, and of traces that should have come.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    untraced: Untraced,
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let counts = async {
        let (counts, untraced) = (shared.store.counts().await?, shared.calls.untraced()?);
        Ok::<_, StoreError>(Status { counts, untraced })
    };
    match counts.await {
        Ok(status) => Json(status).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

impl ProjectKeys {
    /// Whether the headers show both keys, as Basic authentication.
    fn are_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let encoded = shown.and_then(|value| value.strip_prefix("Basic "));
        let Some(pair) = encoded.and_then(|text| STANDARD.decode(text.trim()).ok()) else {
            return false;
        };
        let expected = format!("{}:{}", self.public.expose(), self.secret.expose());
        pair.ct_eq(expected.as_bytes()).into()
    }
}
