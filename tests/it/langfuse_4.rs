//! A server of this machine that takes spans and shows them as observations, as Langfuse 4 does.
//!
//! Routes, fields and answers are those of Langfuse 4.16.0 in its default mode: `GET /traces` is not there, lists go on
//! by cursor (here one page has all), and every span names its trace itself.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use langfuse_client::otlp::WrittenSpan;
use prost::Message as _;
use serde_json::{Value, json};

/// The project's public and secret key.
pub(crate) const KEYS: [&str; 2] = ["pk-lf-planted-31c9", "sk-lf-planted-8d02aa71"];
/// `pk:sk`, as Basic authentication has it.
const BASIC: &str = "Basic cGstbGYtcGxhbnRlZC0zMWM5OnNrLWxmLXBsYW50ZWQtOGQwMmFhNzE=";
/// Traces may be on their way for so long.
const PATIENCE: Duration = Duration::from_secs(60);
const METADATA: &str = "langfuse.observation.metadata.";

/// What the server has, and how it behaves.
#[derive(Default)]
pub(crate) struct Langfuse {
    spans: Mutex<Vec<WrittenSpan>>,
    pub(crate) is_down: Mutex<bool>,
}

impl Langfuse {
    /// Starts it; it ends with the runtime.
    pub(crate) fn start(runtime: &tokio::runtime::Runtime) -> (Arc<Self>, String) {
        let langfuse = Arc::new(Self::default());
        let router = Router::new()
            .route(
                "/api/public/health",
                get(|| async { Json(json!({ "status": "OK", "version": "4.16.0" })) }),
            )
            .route("/api/public/projects", get(projects))
            .route("/api/public/v2/observations", get(observations))
            .route("/api/public/otel/v1/traces", post(export))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&langfuse));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        runtime.spawn(async move { axum::serve(listener, router).await });
        (langfuse, url)
    }

    pub(crate) fn spans(&self) -> MutexGuard<'_, Vec<WrittenSpan>> {
        self.spans.lock().unwrap()
    }

    /// Waits for spans of a session: their names.
    pub(crate) fn of_session(&self, session: &str, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let spans = self.spans().clone();
            let of = spans.iter().filter(|span| span.text("session.id") == Some(session));
            let names: Vec<_> =
                of.filter_map(|span| span.text("langfuse.trace.name")).map(str::to_owned).collect();
            if names.len() >= count {
                return names;
            }
            assert!(began.elapsed() < PATIENCE, "{names:?} of {count}; {} in all", spans.len());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_known(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == BASIC)
}

fn stranger() -> Response {
    (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Invalid credentials" }))).into_response()
}

async fn projects(headers: HeaderMap) -> Response {
    match is_known(&headers) {
        true => Json(json!({ "data": [{ "id": "p", "name": "P" }] })).into_response(),
        false => stranger(),
    }
}

async fn export(
    State(langfuse): State<Arc<Langfuse>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if *langfuse.is_down.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !is_known(&headers) {
        return stranger();
    }
    let is_json = headers["content-type"].as_bytes().starts_with(b"application/json");
    if is_json && serde_json::from_slice::<Value>(&body).is_ok_and(|body| body == json!({})) {
        return Json(json!({})).into_response();
    }
    assert_eq!(headers["x-langfuse-ingestion-version"], "4");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
    langfuse.spans().extend(WrittenSpan::split(plain.into()).unwrap());
    Json(json!({ "id": "job" })).into_response()
}

/// All that are asked for, newest first.
async fn observations(
    State(langfuse): State<Arc<Langfuse>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !is_known(&headers) {
        return stranger();
    }
    let mut rows: Vec<Value> = langfuse.spans().iter().map(row).collect();
    rows.retain(|row| {
        let is = |parameter: &str, field: &str| {
            query.get(parameter).is_none_or(|wanted| row[field] == wanted.as_str())
        };
        let is_root = row["parentObservationId"].is_null();
        let wants_root = query.get("isRootObservation").is_some_and(|it| it == "true");
        is("traceId", "traceId") && is("sessionId", "sessionId") && (is_root || !wants_root)
    });
    rows.sort_by_key(|row| std::cmp::Reverse(row["startTime"].as_str().unwrap().to_owned()));
    rows.truncate(query["limit"].parse().unwrap());
    Json(json!({ "data": rows, "meta": {} })).into_response()
}

/// A span as an observation with every group of fields.
fn row(written: &WrittenSpan) -> Value {
    let request = Request::decode(&*written.request).unwrap();
    let span = &request.resources[0].scopes[0].spans[0];
    let values: BTreeMap<&str, &AnyValue> =
        span.attributes.iter().map(|it| (&*it.key, it.value.as_ref().unwrap())).collect();
    let text = |key: &str| values.get(key).and_then(|value| value.text.clone());
    let object = |key: &str| -> Value {
        text(key).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    };
    let metadata: BTreeMap<_, _> = values
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(METADATA)?, value.text.clone()?)))
        .collect();
    let tags = values.get("langfuse.trace.tags").and_then(|value| value.array.clone());
    let tags: Vec<_> = tags.unwrap_or_default().values.into_iter().map(|it| it.text).collect();
    let costs = object("langfuse.observation.cost_details");
    let kind = text("langfuse.observation.type").unwrap_or_else(|| "span".to_owned());
    let parent = Some(hex(&span.parent)).filter(|it| !it.is_empty());
    json!({
        "id": written.span_id,
        "traceId": written.trace_id,
        "parentObservationId": parent,
        "type": kind.to_uppercase(),
        "name": span.name,
        "startTime": moment(span.start),
        "endTime": moment(span.end),
        "metadata": metadata,
        "providedModelName": text("langfuse.observation.model.name"),
        "usageDetails": object("langfuse.observation.usage_details"),
        "totalCost": costs["total"],
        "costDetails": costs,
        "sessionId": text("session.id"),
        "userId": text("user.id"),
        "traceName": text("langfuse.trace.name"),
        "tags": tags,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Langfuse shows milliseconds.
fn moment(nanoseconds: u64) -> String {
    let milliseconds = i64::try_from(nanoseconds / 1_000_000).unwrap();
    format!("{:.3}", Timestamp::from_millisecond(milliseconds).unwrap())
}

/// As much of OTLP's export request as is shown.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(message, optional, tag = "5")]
    array: Option<ArrayValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}
