//! The proxy for a Langfuse that is there already, of version 4: the real LiteLLM of its version set, and a server of
//! this machine that takes spans as version 4 does.

use std::{
    io::Read as _,
    process::Output,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use it::Machine;
use langfuse_client::otlp::WrittenSpan;
use serde_json::{Value, json};

use crate::keys::{self, Outside};

/// Whoever is told the other's number is wrong.
const KEYS: [&str; 2] = ["pk-lf-planted-31c9", "sk-lf-planted-8d02aa71"];
/// `pk:sk`, as Basic authentication has it.
const BASIC: &str = "Basic cGstbGYtcGxhbnRlZC0zMWM5OnNrLWxmLXBsYW50ZWQtOGQwMmFhNzE=";
/// Traces may be on their way for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server has, and how it behaves.
#[derive(Default)]
struct Langfuse {
    spans: Mutex<Vec<WrittenSpan>>,
    is_down: Mutex<bool>,
}

impl Langfuse {
    /// Starts it; it ends with the runtime.
    fn start(runtime: &tokio::runtime::Runtime) -> (Arc<Self>, String) {
        let langfuse = Arc::new(Self::default());
        let router = Router::new()
            .route(
                "/api/public/health",
                get(|| async { Json(json!({ "status": "OK", "version": "4.16.0" })) }),
            )
            .route("/api/public/projects", get(projects))
            .route("/api/public/otel/v1/traces", post(export))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&langfuse));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        runtime.spawn(async move { axum::serve(listener, router).await });
        (langfuse, url)
    }

    fn spans(&self) -> MutexGuard<'_, Vec<WrittenSpan>> {
        self.spans.lock().unwrap()
    }

    /// Waits for spans of a session: their names.
    fn of_session(&self, session: &str, count: usize) -> Vec<String> {
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

async fn projects(headers: HeaderMap) -> Response {
    match is_known(&headers) {
        true => Json(json!({ "data": [{ "id": "p", "name": "P" }] })).into_response(),
        false => (StatusCode::UNAUTHORIZED, Json(json!({ "message": "Invalid credentials" })))
            .into_response(),
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
    if !is_known(&headers) || headers["x-langfuse-ingestion-version"] != "4" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
    langfuse.spans().extend(WrittenSpan::split(plain.into()).unwrap());
    Json(json!({ "id": "job" })).into_response()
}

fn run(machine: &Machine, keys: Option<[&str; 2]>, args: &[&str]) -> Output {
    let mut command = machine.xtask(&[&["--target", "local", "--output", "json"], args].concat());
    if let Some([public, secret]) = keys {
        command.env("LANGFUSE_PUBLIC_KEY", public).env("LANGFUSE_SECRET_KEY", secret);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(machine: &Machine, args: &[&str]) -> Value {
    let output = run(machine, Some(KEYS), args);
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn traces_go_to_an_existing_langfuse_through_the_spool_and_by_its_version_set() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (langfuse, url) = Langfuse::start(&runtime);
    let machine = Machine::new();
    let file = machine.path().join("values.env").display().to_string();
    let machine = machine.with("GOAT_ENV_FILE", file).with("NO_PROXY", "127.0.0.1,localhost");
    // The same programs in half the time: what is measured here is not their speed.
    let machine = machine.with("CARGO_PROFILE_SERVICE_OPT_LEVEL", "0");
    succeed(&machine, &["setup", "--yes"]);

    // What would lose traces is told before anything is built.
    let deploy = ["deploy", "--wait", "--langfuse-url", &url];
    let refused = |keys, more: &[&str], wanted: &str| {
        let output = run(&machine, keys, &[&deploy[..], more].concat());
        assert!(
            !output.status.success() && stderr(&output).contains(wanted),
            "{}",
            stderr(&output)
        );
        assert_eq!(run(&machine, None, &["urls"]).status.code(), Some(1), "something was deployed");
    };
    refused(None, &[], "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY not set");
    refused(Some([KEYS[0], "sk-lf-wrong"]), &[], "takes no traces with these keys");
    refused(Some(KEYS), &["--set", "langfuse-2"], "which Langfuse 4 does not");
    refused(Some(KEYS), &["--only", "langfuse"], "is not sent");

    let deployed = succeed(&machine, &deploy);
    assert_eq!(deployed["traces_to"], Value::from(url.clone()), "{deployed}");
    let names: Vec<_> =
        deployed["functions"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["litellm"]);
    let again = succeed(&machine, &deploy);
    assert_eq!(again["unchanged"], true, "{again}");

    // Calls of an evaluation, while Langfuse is away: their traces wait on disk.
    *langfuse.is_down.lock().unwrap() = true;
    let eval = succeed(&machine, &["eval", "--batch", "fixtures/benchmarks/smoke.json"]);
    let run_id = eval["run_id"].as_str().unwrap_or_else(|| panic!("{eval}"));
    let trials = eval["results"].as_array().unwrap();
    assert!(langfuse.spans().is_empty());
    *langfuse.is_down.lock().unwrap() = false;
    let traced = langfuse.of_session(run_id, trials.len());
    for trial in trials {
        let task = trial["id"].as_str().unwrap();
        assert!(traced.iter().any(|name| name == task), "{task} is missing: {traced:?}");
        let link = trial["attempts"][0]["trace_id"].as_str().unwrap();
        assert!(langfuse.spans().iter().any(|span| span.trace_id == link), "{task}: {link}");
    }
    let spans = langfuse.spans().clone();
    for span in &spans {
        let usage = span.text("langfuse.observation.usage_details").unwrap_or_default();
        let usage: Value = serde_json::from_str(usage).unwrap();
        assert!(usage["input"].as_u64() > Some(0) && usage["output"].as_u64() > Some(0), "{usage}");
        let claims = span.text("langfuse.observation.metadata.user_api_key_auth_metadata").unwrap();
        let claims: Value = serde_json::from_str(claims).unwrap();
        assert_eq!(claims["run"], Value::from(run_id), "run and task are the token's");
    }
    let mut ids: Vec<_> = spans.iter().map(|span| &span.span_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "a span came twice");

    // Each call was answered and its trace came: nothing is missing, nothing was lost.
    let counts = settled(&machine);
    assert_eq!(counts["delivered"], Value::from(spans.len()), "{counts}");
    for name in ["refused", "dropped", "untraced", "awaited"] {
        assert_eq!(counts[name], 0, "{counts}");
    }

    // The door counts what this LiteLLM says that answers cost, streams too.
    let text = std::fs::read_to_string(machine.path().join("values.env")).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let values: Vec<_> = text.lines().filter_map(pair).collect();
    let mut urls = succeed(&machine, &["urls"]);
    urls["langfuse"] = Value::from(url.clone());
    let outside = Outside::new(&machine, &values, &urls);
    keys::a_budget_ends(&outside);
    keys::a_stream_is_counted(&outside);

    // Without the flag they would go elsewhere, and that is said.
    let dry = run(&machine, None, &["deploy", "--dry-run"]);
    assert!(
        stderr(&dry).contains(&format!("traces went to {url}; from now on")),
        "{}",
        stderr(&dry)
    );
    let logs = run(&machine, None, &["logs", "--tail", "20000"]);
    let said = String::from_utf8_lossy(&logs.stdout);
    assert!(!said.contains(KEYS[1]), "the key is in the log");
    succeed(&machine, &["stop", "--yes"]);
}

/// The spool's counts, as soon as nothing is under way.
fn settled(machine: &Machine) -> Value {
    let began = Instant::now();
    loop {
        let counts = succeed(machine, &["traces", "status"]);
        if counts["waiting"] == 0 && counts["awaited"] == 0 {
            return counts;
        }
        assert!(began.elapsed() < PATIENCE, "{counts}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
