//! Traces through the spool, to a Langfuse of the test that can be down or in a bad mood.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use langfuse_client::otlp::WrittenSpan;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::harness::{Supervisor, idle};

/// What the server has, and how it behaves.
#[derive(Default)]
struct Langfuse {
    taken: Mutex<Vec<String>>,
    down: Mutex<bool>,
    /// Ids that it never takes.
    refuses: Mutex<BTreeSet<String>>,
    /// Ids that it fails at, once each.
    stumbles: Mutex<BTreeSet<String>>,
    /// Which life of a container it is in, as a door would say.
    life: Mutex<&'static str>,
    /// Versions of the SDK, and of the ingestion, that spans came with.
    writers: Mutex<BTreeSet<(String, String)>>,
    /// Whether it is a version 2: without OTLP.
    is_old: Mutex<bool>,
    news: Notify,
}

impl Langfuse {
    async fn start() -> (Arc<Self>, SocketAddr) {
        let langfuse = Arc::new(Self::default());
        let router = Router::new()
            .route("/api/public/ingestion", post(ingest))
            .route("/api/public/otel/v1/traces", post(export))
            .route("/api/public/health", get(health))
            .with_state(Arc::clone(&langfuse));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (langfuse, address)
    }

    /// Waits until it has so many events, and answers their ids.
    async fn has(&self, number: usize) -> Vec<String> {
        loop {
            let news = self.news.notified();
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= number {
                return taken;
            }
            tokio::time::timeout(std::time::Duration::from_secs(60), news)
                .await
                .unwrap_or_else(|_| panic!("only {} of {number} came", taken.len()));
        }
    }
}

async fn health(State(langfuse): State<Arc<Langfuse>>) -> Response {
    let life = *langfuse.life.lock().unwrap();
    ([("x-goat-life", life)], Json(json!({ "status": "OK", "version": "2.95.12" }))).into_response()
}

async fn ingest(State(langfuse): State<Arc<Langfuse>>, Json(body): Json<Value>) -> Response {
    if *langfuse.down.lock().unwrap() {
        return (StatusCode::SERVICE_UNAVAILABLE, "down").into_response();
    }
    let (mut successes, mut errors) = (Vec::new(), Vec::new());
    for event in body["batch"].as_array().unwrap() {
        let id = event["id"].as_str().unwrap().to_owned();
        if langfuse.refuses.lock().unwrap().contains(&id) {
            errors.push(json!({ "id": id, "status": 400, "message": "bad" }));
        } else if langfuse.stumbles.lock().unwrap().remove(&id) {
            errors.push(json!({ "id": id, "status": 500, "message": "oops" }));
        } else {
            successes.push(json!({ "id": id, "status": 201 }));
            langfuse.taken.lock().unwrap().push(id);
        }
    }
    langfuse.news.notify_waiters();
    let answer = json!({ "successes": successes, "errors": errors });
    (StatusCode::MULTI_STATUS, Json(answer)).into_response()
}

/// Spans, as versions 3 and 4 take them: all of a request or none.
async fn export(
    State(langfuse): State<Arc<Langfuse>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if *langfuse.down.lock().unwrap() {
        return (StatusCode::SERVICE_UNAVAILABLE, "down").into_response();
    }
    if *langfuse.is_old.lock().unwrap() {
        return (StatusCode::NOT_FOUND, "<html>").into_response();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
    let spans = WrittenSpan::split(plain.into()).unwrap();
    let ids: Vec<_> = spans.into_iter().map(|span| span.span_id).collect();
    if ids.iter().any(|id| langfuse.refuses.lock().unwrap().contains(id)) {
        return (StatusCode::BAD_REQUEST, r#"{"error":"bad span"}"#).into_response();
    }
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let writer = (header("x-langfuse-sdk-version"), header("x-langfuse-ingestion-version"));
    langfuse.writers.lock().unwrap().insert(writer);
    langfuse.taken.lock().unwrap().extend(ids);
    langfuse.news.notify_waiters();
    Json(json!({ "id": "job" })).into_response()
}

fn plan(directory: &Path, max_bytes: u64) -> Value {
    json!({
        "services": [idle()],
        "spools": [{
            "name": "traces",
            "port": 0,
            "directory": directory,
            "max_bytes": max_bytes,
            "url": "LANGFUSE_HOST",
            "public_key": "LANGFUSE_PUBLIC_KEY",
            "secret_key": "LANGFUSE_SECRET_KEY",
            "drain": 60,
        }],
    })
}

async fn start(directory: &Path, max_bytes: u64, langfuse: SocketAddr) -> (Supervisor, SocketAddr) {
    let url = format!("http://{langfuse}");
    let env = [
        ("LANGFUSE_HOST", url.as_str()),
        ("LANGFUSE_PUBLIC_KEY", "pk"),
        ("LANGFUSE_SECRET_KEY", "sk"),
    ];
    let mut supervisor = Supervisor::start(&plan(directory, max_bytes), &env);
    let line = supervisor.line("takes traces at").await;
    let address = line.split(" at ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    (supervisor, address)
}

/// Status and body of a request.
async fn ask(to: SocketAddr, line: &str, keys: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: spool\r\nConnection: close\r\nAuthorization: Basic {keys}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// `pk:sk`
const KEYS: &str = "cGs6c2s=";

async fn send(to: SocketAddr, ids: impl IntoIterator<Item = String>) -> Value {
    let event =
        |id| json!({ "id": id, "type": "trace-create", "body": { "name": "x".repeat(50) } });
    let batch: Vec<Value> = ids.into_iter().map(event).collect();
    let body = json!({ "batch": batch }).to_string();
    let (status, answer) = ask(to, "POST /api/public/ingestion", KEYS, &body).await;
    assert_eq!(status, 207, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn counts(to: SocketAddr) -> Value {
    let (status, text) = ask(to, "GET /goat/traces/status", KEYS, "").await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("event-{number}")).collect()
}

#[tokio::test]
async fn what_was_taken_arrives_once_in_order_though_both_ends_were_killed() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.down.lock().unwrap() = true;
    let (mut supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    for first in (0..500).step_by(50) {
        send(spool, ids(first..first + 50)).await;
    }
    supervisor.line("traces wait on disk").await;
    supervisor.signal(Signal::KILL);

    *langfuse.down.lock().unwrap() = false;
    let (mut supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    // The sender was not answered, so it thinks, and sends the last ones again.
    send(spool, ids(480..510)).await;
    assert_eq!(langfuse.has(510).await, ids(0..510));
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    assert_eq!(langfuse.has(510).await.len(), 510);
}

#[tokio::test]
async fn events_that_wait_are_handed_on_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    let (mut supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    send(spool, ids(0..250)).await;
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    assert_eq!(langfuse.has(250).await, ids(0..250));
}

#[tokio::test]
async fn one_bad_event_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    langfuse.refuses.lock().unwrap().insert("event-1".into());
    langfuse.stumbles.lock().unwrap().insert("event-2".into());
    let (mut supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    send(spool, ids(0..5)).await;
    let mut taken = langfuse.has(4).await;
    taken.sort();
    assert_eq!(taken, ["event-0", "event-2", "event-3", "event-4"]);
    supervisor.line("event event-1 was refused: bad").await;
    loop {
        let counts = counts(spool).await;
        if counts["waiting"] == 0 {
            let (delivered, refused) = (&counts["delivered"], &counts["refused"]);
            assert_eq!((delivered, refused), (&json!(4), &json!(1)));
            break;
        }
    }
}

#[tokio::test]
async fn what_has_no_room_is_told_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.down.lock().unwrap() = true;
    let (_supervisor, spool) = start(directory.path(), 250, address).await;
    let answer = send(spool, ids(0..3)).await;
    assert_eq!(answer["successes"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer["errors"],
        json!([{ "id": "event-2", "status": 507, "message": "the spool of traces is full" }])
    );
    let counts = counts(spool).await;
    assert_eq!((&counts["waiting"], &counts["dropped"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn nobody_else_may_write_and_nonsense_is_refused_by_piece() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    let (_supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    let post = "POST /api/public/ingestion";
    assert_eq!(ask(spool, post, "cGs6eHg=", "{}").await.0, 401);
    assert_eq!(ask(spool, post, "", "{}").await.0, 401);
    assert_eq!(ask(spool, post, KEYS, "{}").await.0, 400);
    let (status, answer) =
        ask(spool, post, KEYS, r#"{"batch":[{"no":"id"},{"id":"event-7"}]}"#).await;
    assert_eq!(status, 207);
    assert!(answer.contains(r#""id":"unknown","status":400"#), "{answer}");
    assert_eq!(langfuse.has(1).await, ["event-7"]);
    assert_eq!(ask(spool, "GET /api/public/traces", KEYS, "").await.0, 404);
}

/// A plan whose events outlive the container, and are handed on once more where Langfuse starts anew.
fn kept(plan: &Value, directory: &Path) -> Value {
    let mut plan = plan.clone();
    plan["spools"][0]["kept"] = json!(directory);
    plan["spools"][0]["again_within"] = json!(600);
    plan
}

async fn start_kept(volume: &Path, langfuse: SocketAddr) -> (Supervisor, SocketAddr) {
    let url = format!("http://{langfuse}");
    let keys = [("LANGFUSE_PUBLIC_KEY", "pk"), ("LANGFUSE_SECRET_KEY", "sk")];
    let env = [("LANGFUSE_HOST", url.as_str()), keys[0], keys[1]];
    // Each on a disk of its own: the path is the supervisor's.
    let plan = kept(&plan(Path::new("spool"), 1 << 20), volume);
    let mut supervisor = Supervisor::start(&plan, &env);
    let line = supervisor.line("takes traces at").await;
    let address = line.split(" at ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    (supervisor, address)
}

#[tokio::test]
async fn what_was_taken_outlives_the_container() {
    let volume = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    let (mut supervisor, spool) = start_kept(volume.path(), address).await;
    send(spool, ids(0..3)).await;
    langfuse.has(3).await;
    *langfuse.down.lock().unwrap() = true;
    send(spool, ids(3..100)).await;
    send(spool, ids(100..120)).await;
    supervisor.line("traces wait on disk").await;
    supervisor.signal(Signal::KILL);
    supervisor.gone().await;
    drop(supervisor);

    *langfuse.down.lock().unwrap() = false;
    let (mut supervisor, spool) = start_kept(volume.path(), address).await;
    // The sender was not answered, so it thinks.
    send(spool, ids(110..121)).await;
    let taken = langfuse.has(124).await;
    // The first three may have been lost by Langfuse, for all that the new container knows.
    assert_eq!(taken, [ids(0..3), ids(0..121)].concat());
    let counts = loop {
        let counts = counts(spool).await;
        if counts["waiting"] == 0 {
            break counts;
        }
    };
    let (taken, delivered) = (&counts["taken"], &counts["delivered"]);
    assert_eq!((taken, delivered), (&json!(121), &json!(121)), "each is counted once: {counts}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
}

#[tokio::test]
async fn two_containers_that_overlap_lose_nothing() {
    let volume = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.down.lock().unwrap() = true;
    let (mut first, old) = start_kept(volume.path(), address).await;
    send(old, ids(0..10)).await;
    let (mut second, new) = start_kept(volume.path(), address).await;
    send(old, ids(10..20)).await;
    send(new, ids(20..30)).await;
    *langfuse.down.lock().unwrap() = false;
    for supervisor in [&mut first, &mut second] {
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.end().await, 0);
    }
    let taken: BTreeSet<_> = langfuse.has(30).await.into_iter().collect();
    assert_eq!(taken, ids(0..30).into_iter().collect());
}

#[tokio::test]
async fn a_langfuse_that_starts_anew_gets_the_last_minutes_once_more() {
    let volume = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.life.lock().unwrap() = "1";
    let (mut supervisor, spool) = start_kept(volume.path(), address).await;
    send(spool, ids(0..5)).await;
    langfuse.has(5).await;
    *langfuse.life.lock().unwrap() = "2";
    supervisor.line("Langfuse has started anew: 5 events are handed on once more").await;
    assert_eq!(langfuse.has(10).await, [ids(0..5), ids(0..5)].concat());
    let counts = counts(spool).await;
    assert_eq!((&counts["taken"], &counts["waiting"]), (&json!(5), &json!(0)), "{counts}");
}

/// What LiteLLM's newer callback sends of one call, recorded.
const RECORDED: &[u8] = include_bytes!("../../../../fixtures/litellm/otlp-1.109.1.bin");

/// Spans as LiteLLM writes them, each with an id of its own.
fn spans(range: std::ops::Range<u64>) -> Vec<u8> {
    let [recorded] = &WrittenSpan::split(RECORDED.into()).unwrap()[..] else { panic!() };
    let id = u64::from_str_radix(&recorded.span_id, 16).unwrap().to_be_bytes();
    let at = RECORDED.windows(8).position(|window| window == id).unwrap();
    let span = |number: u64| [&RECORDED[..at], &number.to_be_bytes(), &RECORDED[at + 8..]].concat();
    range.flat_map(span).collect()
}

fn span_ids(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("{number:016x}")).collect()
}

/// Posts spans with the headers of LiteLLM's callback, and these; answers status and body.
async fn export_to(to: SocketAddr, body: Vec<u8>, more: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls_config::client_config());
    let client = client.no_proxy().build().unwrap();
    let mut headers = HeaderMap::new();
    let own = [
        ("authorization", "Basic cGs6c2s="),
        ("content-type", "application/x-protobuf"),
        ("x-langfuse-sdk-name", "python"),
        ("x-langfuse-sdk-version", "4.18.0"),
        ("x-langfuse-ingestion-version", "4"),
    ];
    for (name, value) in own.iter().chain(more) {
        headers.insert(axum::http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let url = format!("http://{to}/api/public/otel/v1/traces");
    let answer = client.post(url).headers(headers).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn spans_arrive_once_in_order_and_as_they_were_sent_though_both_ends_were_killed() {
    let volume = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.down.lock().unwrap() = true;
    let (mut supervisor, spool) = start_kept(volume.path(), address).await;
    for number in 0..150 {
        assert_eq!(export_to(spool, spans(number..number + 1), &[]).await, (200, Vec::new()));
    }
    supervisor.line("traces wait on disk").await;
    supervisor.signal(Signal::KILL);
    supervisor.gone().await;
    drop(supervisor);

    // A new container, with an empty disk: what is on the volume is all that it has.
    *langfuse.down.lock().unwrap() = false;
    let (mut supervisor, spool) = start_kept(volume.path(), address).await;
    assert_eq!(export_to(spool, spans(140..160), &[]).await.0, 200);
    assert_eq!(langfuse.has(160).await, span_ids(0..160));
    let writers = BTreeSet::from([("4.18.0".to_owned(), "4".to_owned())]);
    assert_eq!(*langfuse.writers.lock().unwrap(), writers);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    assert_eq!(langfuse.has(160).await.len(), 160);
}

#[tokio::test]
async fn a_bad_span_holds_up_no_other_and_what_has_no_room_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    langfuse.refuses.lock().unwrap().extend(span_ids(1..2));
    let (_supervisor, spool) = start(directory.path(), 20_000, address).await;
    assert_eq!(export_to(spool, spans(0..3), &[]).await, (200, Vec::new()));
    assert_eq!(langfuse.has(2).await, [span_ids(0..1), span_ids(2..3)].concat());
    *langfuse.down.lock().unwrap() = true;
    let (status, answer) = export_to(spool, spans(10..16), &[]).await;
    // As OTLP has it: some were rejected, and why.
    assert_eq!((status, &answer[..1]), (200, &[10][..]));
    assert!(String::from_utf8_lossy(&answer).contains("the spool of traces is full"));
    let counts = counts(spool).await;
    assert_eq!((&counts["delivered"], &counts["refused"]), (&json!(2), &json!(1)), "{counts}");
    let (waiting, dropped) = (counts["waiting"].as_u64(), counts["dropped"].as_u64());
    assert_eq!(waiting.zip(dropped).map(|(a, b)| a + b), Some(6), "{counts}");
    assert!(dropped > Some(0), "{counts}");
}

#[tokio::test]
async fn spans_that_no_version_2_takes_are_told_as_lost_and_hold_up_no_event() {
    let directory = tempfile::tempdir().unwrap();
    let (langfuse, address) = Langfuse::start().await;
    *langfuse.is_old.lock().unwrap() = true;
    let (mut supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    assert_eq!(export_to(spool, spans(0..1), &[]).await.0, 200);
    send(spool, ids(0..3)).await;
    assert_eq!(langfuse.has(3).await, ids(0..3));
    supervisor.line("was refused").await;
    assert_eq!(counts(spool).await["refused"], json!(1));
}

#[tokio::test]
async fn only_the_projects_own_spans_are_taken_and_only_as_the_callback_sends_them() {
    let directory = tempfile::tempdir().unwrap();
    let (_langfuse, address) = Langfuse::start().await;
    let (_supervisor, spool) = start(directory.path(), 1 << 20, address).await;
    let export = |body: Vec<u8>, header| async move { export_to(spool, body, &[header]).await.0 };
    assert_eq!(export(spans(0..1), ("authorization", "Basic cGs6eHg=")).await, 401);
    assert_eq!(export(spans(0..1), ("content-type", "application/json")).await, 415);
    assert_eq!(export(spans(0..1), ("content-encoding", "gzip")).await, 415);
    assert_eq!(export(b"{\"resourceSpans\":[]}".to_vec(), ("x-other", "1")).await, 400);
    assert_eq!(counts(spool).await["taken"], json!(0));
}
