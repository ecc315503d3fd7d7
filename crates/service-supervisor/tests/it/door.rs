//! Requests through the door, to a server of the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use goat_keys::{Claims, GRACE, SigningKeys};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Supervisor, idle};

/// 32 bytes in hexadecimal.
const SIGNING: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEYS: [(&str, &str); 3] =
    [("USER_KEY", "sk-user"), ("ADMIN_KEY", "sk-admin"), ("SIGNING_KEY", SIGNING)];

/// A service whose streamed answer the test writes.
struct Upstream {
    address: SocketAddr,
    pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

type Pieces = Arc<Mutex<Option<mpsc::Receiver<Result<Bytes, std::io::Error>>>>>;

impl Upstream {
    async fn start() -> Self {
        let (pieces, receiver) = mpsc::channel(8);
        let shared: Pieces = Arc::new(Mutex::new(Some(receiver)));
        let router = Router::new().fallback(answer).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, pieces }
    }
}

async fn answer(State(pieces): State<Pieces>, request: Request) -> Response {
    match request.uri().path() {
        "/stream" => {
            let pieces = pieces.lock().await.take().unwrap();
            Body::from_stream(ReceiverStream::new(pieces)).into_response()
        }
        "/never" => std::future::pending().await,
        // As LiteLLM says it.
        "/cost/header" => ([("x-litellm-response-cost", "0.4")], "{}").into_response(),
        "/cost/refused" => {
            let said = json!({ "error": { "type": "budget_exceeded", "message": "no room" } });
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], said.to_string())
                .into_response()
        }
        "/cost/busy" => {
            let said = json!({ "error": { "type": "rate_limit", "message": "later" } });
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], said.to_string())
                .into_response()
        }
        "/call" => {
            let name = request.headers().get("x-goat-call").map(|it| it.to_str().unwrap());
            ([("x-litellm-call-id", "1")], name.unwrap_or_default().to_owned()).into_response()
        }
        "/cost/stream" => {
            let events =
                "data: {\"choices\":[]}\n\ndata: {\"usage\":{\"cost\":0.4}}\n\ndata: [DONE]\n\n";
            ([("content-type", "text/event-stream")], events).into_response()
        }
        "/echo" => {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            let mut names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
            names.sort();
            let line = format!("{} {} {} {names:?}\n", head.method, head.uri, body.len());
            ([("x-upstream", "yes"), ("connection", "x-private"), ("x-private", "1")], line)
                .into_response()
        }
        path => format!("reached {path}").into_response(),
    }
}

fn plan(upstream: SocketAddr, limits: &Value) -> Value {
    let route = |path: &str, access: &str| json!({ "path": path, "access": access });
    json!({
        "services": [idle()],
        "doors": [{
            "name": "web",
            "listen": "127.0.0.1",
            "port": 0,
            "upstream": upstream.port(),
            "routes": [
                route("/health", "open"),
                route("/echo", "user"),
                route("/stream", "user"),
                route("/never", "user"),
                route("/cost/*", "user"),
                route("/admin/*", "admin"),
                route("/api/*", "credentials"),
            ],
            "user_keys": ["USER_KEY"],
            "admin_keys": ["ADMIN_KEY"],
            "task_keys": { "signing_keys": "SIGNING_KEY", "revoked": "revoked-runs", "spent": "spent" },
            "limits": limits,
        }],
    })
}

async fn start(limits: Value) -> (Upstream, Supervisor, SocketAddr) {
    let upstream = Upstream::start().await;
    let mut supervisor = Supervisor::start(&plan(upstream.address, &limits), &KEYS);
    let door = supervisor.door().await;
    (upstream, supervisor, door)
}

/// Sends text as it is and answers all that comes until the other end closes.
async fn raw(door: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn status(door: SocketAddr, line: &str, headers: &str) -> u16 {
    let request = format!("{line} HTTP/1.1\r\nHost: door\r\nConnection: close\r\n{headers}\r\n");
    let answer = raw(door, &request).await;
    answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default()
}

const USER: &str = "Authorization: Bearer sk-user\r\n";
const ADMIN: &str = "x-api-key: sk-admin\r\n";
const OTHER: &str = "Authorization: Basic c2stdXNlcg==\r\n";
const WRONG: &str = "Authorization: Bearer sk-user2\r\n";

#[tokio::test]
async fn every_route_asks_for_its_key_and_nothing_else_passes() {
    let (_upstream, mut supervisor, door) = start(json!({})).await;
    let mut table = String::new();
    for line in [
        "GET /health",
        "GET /echo",
        "GET /admin/config",
        "GET /api/traces",
        "GET /",
        "GET /admin",
        "GET /echo/",
        "GET /ECHO",
        "GET /health/../admin/x",
        "GET /api/%2e%2e/admin/x",
        "GET /api/..%2fadmin/x",
        "GET //admin/x",
        "GET http://elsewhere/admin/x",
    ] {
        table.push_str(line);
        for headers in ["", WRONG, OTHER, USER, ADMIN] {
            table.push_str(&format!(" {}", status(door, line, headers).await));
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    let text = supervisor.text();
    assert!(!text.contains("sk-"), "{text}");
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_less_what_is_the_connection_s() {
    let (_upstream, _supervisor, door) = start(json!({})).await;
    let request = format!(
        "POST /echo?a=b%20c&d HTTP/1.1\r\nHost: door.example\r\n{USER}Connection: close, x-mine\r\n\
         X-Mine: 1\r\nKeep-Alive: 5\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    );
    let answer = raw(door, &request).await;
    let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kept = head.to_lowercase();
    assert!(kept.contains("x-upstream: yes") && !kept.contains("x-private"), "{head}");
    assert!(
        body.contains("POST /echo?a=b%20c&d 5 [\"authorization\", \"content-length\", \"host\"]"),
        "{body}"
    );
}

#[tokio::test]
async fn pieces_of_an_answer_pass_as_they_come() {
    let (upstream, _supervisor, door) = start(json!({})).await;
    let mut stream = TcpStream::connect(door).await.unwrap();
    let request = format!("GET /stream HTTP/1.1\r\nHost: door\r\n{USER}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for number in 0..5 {
        // The next piece is written only when this one has arrived.
        upstream.pieces.send(Ok(format!("data: {number}\n\n").into())).await.unwrap();
        let wanted = format!("data: {number}\n\n");
        while !seen.contains(&wanted) {
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

#[tokio::test]
async fn requests_under_way_end_well_after_a_stop_and_new_ones_are_not_taken() {
    let (upstream, mut supervisor, door) = start(json!({ "drain": 60 })).await;
    let mut stream = TcpStream::connect(door).await.unwrap();
    let request = format!("GET /stream HTTP/1.1\r\nHost: door\r\n{USER}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    upstream.pieces.send(Ok("first".into())).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("first") {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    supervisor.signal(Signal::TERM);
    supervisor.line("told to stop").await;
    while TcpStream::connect(door).await.is_ok() {
        tokio::task::yield_now().await;
    }
    upstream.pieces.send(Ok("second".into())).await.unwrap();
    drop(upstream);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("second") && rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(supervisor.end().await, 0);
}

#[tokio::test]
async fn what_is_too_much_is_refused() {
    let limits = json!({ "body_bytes": 10, "answer_within": 0.3, "concurrent": 1 });
    let (_upstream, _supervisor, door) = start(limits).await;
    let post =
        |body: &str| format!("POST /echo HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{USER}{body}");
    let known = raw(door, &post("Content-Length: 11\r\n\r\nhello world")).await;
    assert!(known.starts_with("HTTP/1.1 413"), "{known}");
    let chunked = post("Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n");
    let chunked = raw(door, &chunked).await;
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
    assert_eq!(status(door, "GET /never", USER).await, 504);

    let mut first = TcpStream::connect(door).await.unwrap();
    let request = format!("GET /stream HTTP/1.1\r\nHost: d\r\n{USER}\r\n");
    first.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(first.read(&mut [0; 1024]).await.unwrap(), 0);
    assert_eq!(status(door, "GET /echo", USER).await, 429);
    drop(first);
    // The place is free as soon as the door sees that nobody listens any more.
    while status(door, "GET /echo", USER).await == 429 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_bad_gateway() {
    // Bound and not listening: refuses connections, and no other test gets the port meanwhile.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let upstream = held.local_addr().unwrap();
    let mut supervisor = Supervisor::start(&plan(upstream, &json!({})), &KEYS);
    let door = supervisor.door().await;
    assert_eq!(status(door, "GET /health", "").await, 502);
    supervisor.line("web: GET /health: the service can't be reached: Connection refused").await;
}

/// A token as a header.
fn token(run: &str, lives: Duration) -> String {
    let now = Timestamp::now().checked_sub(GRACE).unwrap();
    let claims = Claims::for_trial(run.parse().unwrap(), "task".parse().unwrap(), lives, now);
    let token = SigningKeys::parse(SIGNING).unwrap().issue(&claims).unwrap();
    format!("Authorization: Bearer {}\r\n", token.expose())
}

#[tokio::test]
async fn a_task_s_token_opens_users_routes_until_it_expires_or_is_revoked() {
    let (_upstream, mut supervisor, door) = start(json!({})).await;
    let (first, second) =
        (token("run-1", Duration::from_secs(600)), token("run-2", Duration::from_secs(600)));
    let forged = first.replace("sk-goat1.", "sk-goat1.x");
    assert_eq!(status(door, "GET /echo", &first).await, 200);
    assert_eq!(status(door, "GET /admin/x", &first).await, 403);
    assert_eq!(status(door, "GET /echo", &forged).await, 401);
    assert_eq!(status(door, "GET /echo", &token("run-1", Duration::ZERO)).await, 401);

    let revoke = |keys: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "POST /goat/keys/revoke HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{keys}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        async move { raw(door, &text).await.split(' ').nth(1).unwrap_or_default().to_owned() }
    };
    let run = r#"{"run":"run-1"}"#;
    assert_eq!(revoke("", run).await, "401");
    assert_eq!(revoke(USER, run).await, "403");
    assert_eq!(revoke(&first, run).await, "403");
    assert_eq!(revoke(ADMIN, "{}").await, "400");
    assert_eq!(revoke(ADMIN, run).await, "200");
    assert_eq!(status(door, "GET /echo", &first).await, 401);
    assert_eq!(status(door, "GET /echo", &second).await, 200);
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.end().await, 0);
    assert!(!supervisor.text().contains("sk-goat1"), "{}", supervisor.text());

    // Another process reads what this one wrote.
    let kept = std::fs::read_to_string(supervisor.directory.path().join("revoked-runs")).unwrap();
    assert!(kept.starts_with("run-1 "), "{kept}");
}

/// A token with a budget, as a header.
fn token_with(task: &str, budget: f64) -> String {
    let (run, task) = ("run-1".parse().unwrap(), task.parse().unwrap());
    let claims = Claims::for_trial(run, task, Duration::from_secs(600), Timestamp::now());
    let claims = claims.with_budget_usd(budget);
    let token = SigningKeys::parse(SIGNING).unwrap().issue(&claims).unwrap();
    format!("Authorization: Bearer {}\r\n", token.expose())
}

#[tokio::test]
async fn a_budget_ends_and_is_kept_across_a_restart() {
    let (upstream, supervisor, door) = start(json!({})).await;
    let token = token_with("spender", 1.0);
    // It may overspend by the call that was under way.
    for path in ["header", "stream", "header"] {
        assert_eq!(status(door, &format!("POST /cost/{path}"), &token).await, 200);
    }
    let head = format!("POST /cost/header HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{token}\r\n");
    let refused = raw(door, &head).await;
    assert!(refused.starts_with("HTTP/1.1 402"), "{refused}");
    insta::assert_snapshot!(
        refused.split("\r\n\r\n").nth(1).unwrap(),
        @r#"{"error":{"message":"the budget of this key is spent: 1.20 of 1.00 US dollars","type":"budget_exceeded","param":null,"code":"402"}}"#
    );
    assert_eq!(status(door, "POST /cost/header", &token_with("other", 1.0)).await, 200);
    assert_eq!(status(door, "POST /cost/header", USER).await, 200, "no budget, no count");

    supervisor.signal(Signal::KILL);
    // Another container, which has nothing but the directory.
    let spent = supervisor.directory.path().join("spent");
    let again = Supervisor::start_with(&plan(upstream.address, &json!({})), &KEYS, |directory| {
        std::fs::rename(&spent, directory.join("spent")).unwrap();
    });
    drop(supervisor);
    let mut supervisor = again;
    let door = supervisor.door().await;
    assert_eq!(status(door, "POST /cost/header", &token).await, 402);
    let asked = "GET /goat/keys/spent HTTP/1.1\r\nHost: d\r\nConnection: close\r\n";
    let answer = raw(door, &format!("{asked}{ADMIN}\r\n")).await;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let of = |index: usize| {
        (body["spent"][index]["task"].as_str(), body["spent"][index]["usd"].as_f64())
    };
    assert_eq!(
        (of(0), of(1)),
        ((Some("other"), Some(0.4)), (Some("spender"), Some(0.4 + 0.4 + 0.4)))
    );
    assert!(raw(door, &format!("{asked}{token}\r\n")).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn a_refusal_for_a_budget_is_final_and_one_for_a_rate_is_not() {
    let (_upstream, _supervisor, door) = start(json!({})).await;
    let token = token_with("spender", 1.0);
    let ask = async |path: &str| {
        let head = format!("POST /cost/{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
        raw(door, &format!("{head}{token}\r\n")).await
    };
    let refused = ask("refused").await;
    assert!(refused.starts_with("HTTP/1.1 402") && refused.contains("no room"), "{refused}");
    assert!(!refused.contains("retry-after"), "{refused}");
    let busy = ask("busy").await;
    assert!(busy.starts_with("HTTP/1.1 429") && busy.contains("retry-after"), "{busy}");
}

#[tokio::test]
async fn a_call_is_not_free_for_who_leaves_before_its_end() {
    let (upstream, supervisor, door) = start(json!({})).await;
    let token = token_with("leaver", 0.1);
    let mut stream = TcpStream::connect(door).await.unwrap();
    let request =
        format!("POST /stream HTTP/1.1\r\nHost: door\r\nContent-Length: 0\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    upstream.pieces.send(Ok("data: {}\n\n".into())).await.unwrap();
    assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
    drop(stream);
    upstream.pieces.send(Ok("data: {\"usage\":{\"cost\":0.2}}\n\n".into())).await.unwrap();
    drop(upstream);
    let spent = supervisor.directory.path().join("spent");
    let said = || {
        let files = std::fs::read_dir(&spent).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>()
    };
    while !said().contains("0.2") {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(door, "POST /cost/header", &token).await, 402);
}

/// A door whose calls are traced by a spool that nobody empties.
async fn traced(volume: &std::path::Path) -> (Supervisor, SocketAddr, SocketAddr) {
    let upstream = Upstream::start().await;
    let mut plan = plan(upstream.address, &json!({}));
    plan["doors"][0]["routes"][0] = json!({ "path": "/call", "access": "user" });
    plan["doors"][0]["traced_by"] = json!("traces");
    plan["doors"][0]["task_keys"]["revoked"] = json!(volume.join("revoked"));
    plan["spools"] = json!([{
        "name": "traces", "port": 0, "directory": "spool", "kept": volume.join("spool"), "max_bytes": 1 << 20,
        "url": "URL", "public_key": "USER_KEY", "secret_key": "ADMIN_KEY", "drain": 0.1,
    }]);
    let env = [&KEYS[..], &[("URL", "http://127.0.0.1:9")]].concat();
    let mut supervisor = Supervisor::start(&plan, &env);
    let line = supervisor.line("takes traces at").await;
    let spool = line.split(" at ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let door = supervisor.door().await;
    (supervisor, door, spool)
}

async fn call(door: SocketAddr) -> String {
    let head = format!(
        "POST /call HTTP/1.1\r\nHost: d\r\nConnection: close\r\nx-goat-call: forged\r\n{USER}\r\n"
    );
    raw(door, &head).await.rsplit("\r\n").next().unwrap().to_owned()
}

/// Calls that await their traces, and calls whose traces are lost.
async fn untraced(spool: SocketAddr) -> (u64, u64) {
    let asked = "GET /goat/traces/status HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let answer = raw(spool, asked).await;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    (body["awaited"].as_u64().unwrap(), body["untraced"].as_u64().unwrap())
}

#[tokio::test]
async fn calls_whose_traces_died_with_the_proxy_are_counted() {
    let volume = tempfile::tempdir().unwrap();
    let (mut supervisor, door, spool) = traced(volume.path()).await;
    let names = [call(door).await, call(door).await, call(door).await];
    assert!(names.iter().all(|name| !name.is_empty() && name != "forged"), "{names:?}");
    assert_eq!(untraced(spool).await, (3, 0));
    let auth = json!({ "user_api_key_auth_metadata": { "call": names[1] } });
    let batch = json!({ "batch": [{ "id": "e", "body": { "metadata": auth } }] }).to_string();
    // sk-user:sk-admin
    let keys = "Authorization: Basic c2stdXNlcjpzay1hZG1pbg==\r\n";
    let post = format!(
        "POST /api/public/ingestion HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{keys}Content-Length: {}\r\n\r\n{batch}",
        batch.len()
    );
    assert!(raw(spool, &post).await.starts_with("HTTP/1.1 207"));
    assert_eq!(untraced(spool).await, (2, 0));
    supervisor.signal(Signal::KILL);
    supervisor.gone().await;
    let (_supervisor, _, spool) = traced(volume.path()).await;
    assert_eq!(untraced(spool).await, (0, 2));
}

#[tokio::test]
async fn a_revoked_run_is_revoked_in_the_next_container() {
    let volume = tempfile::tempdir().unwrap();
    let (mut supervisor, door, _) = traced(volume.path()).await;
    let body = r#"{"run": "run-1"}"#;
    let head = format!(
        "POST /goat/keys/revoke HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{ADMIN}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let token = token_with("task", 1.0);
    assert_eq!(status(door, "POST /call", &token).await, 200);
    assert!(raw(door, &head).await.starts_with("HTTP/1.1 200"));
    supervisor.signal(Signal::KILL);
    supervisor.gone().await;
    let (_supervisor, door, _) = traced(volume.path()).await;
    assert_eq!(status(door, "POST /call", &token).await, 401);
}
