//! Keys of tasks at the deployed services: what they open, what they don't, what they may spend; traces of their calls.

use std::{collections::BTreeMap, time::Duration};

use goat_keys::{Claims, SigningKeys};
use goat_services::app::{Access, OWN_ROUTES, Route, langfuse_routes, litellm_routes};
use it::Machine;
use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

const MODEL: &str = "gpt-5-nano";

/// The services as somebody outside sees them.
pub(crate) struct Outside<'m> {
    machine: &'m Machine,
    values: BTreeMap<String, String>,
    litellm: String,
    langfuse: String,
    http: Client,
    runtime: tokio::runtime::Runtime,
}

/// The run whose budget ends, and the budget in US dollars.
const POOR: &str = "run-poor";
const BUDGET: f64 = 0.00002;

/// What a request shows.
#[derive(Clone)]
enum Shown {
    Nothing,
    Key(String),
    Login(String, String),
}

impl<'m> Outside<'m> {
    pub(crate) fn new(machine: &'m Machine, values: &[(String, String)], urls: &Value) -> Self {
        let builder =
            Client::builder().tls_backend_preconfigured(tls_config::client_config()).no_proxy();
        let url = |name: &str| urls[name].as_str().unwrap().to_owned();
        Self {
            machine,
            values: values.iter().cloned().collect(),
            litellm: url("litellm"),
            langfuse: url("langfuse"),
            http: builder.timeout(Duration::from_secs(60)).build().unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn value(&self, name: &str) -> String {
        self.values[name].clone()
    }

    fn send(&self, request: RequestBuilder, shown: &Shown) -> (StatusCode, Value) {
        let request = match shown {
            Shown::Nothing => request,
            Shown::Key(key) => request.bearer_auth(key),
            Shown::Login(name, password) => request.basic_auth(name, Some(password)),
        };
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status(), answer.json().await.unwrap_or_default())
        })
    }

    fn status(&self, url: &str, method: &Method, path: &str, shown: &Shown) -> StatusCode {
        let request = self.http.request(method.clone(), format!("{url}{path}"));
        let request = if *method == Method::GET { request } else { request.json(&json!({})) };
        self.send(request, shown).0
    }

    fn call(&self, key: &str, model: &str) -> (StatusCode, Value) {
        self.send(self.chat(model, &json!({})), &Shown::Key(key.to_owned()))
    }

    /// A question that a recording answers, with these fields, too.
    fn chat(&self, model: &str, more: &Value) -> RequestBuilder {
        let request = self.http.post(format!("{}/v1/chat/completions", self.litellm));
        let question = "Answer with one word: which animal bleats?";
        let mut body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": question }],
            "max_tokens": 16,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request.json(&body)
    }

    /// Calls until the budget is spent; answers how many were answered.
    fn calls_until_refused(&self, key: &str) -> u32 {
        for calls in 0..100 {
            let (status, answer) = self.call(key, MODEL);
            if status != 200 {
                // The door's own, or what LiteLLM 1.109 says; neither is sent again by clients.
                assert!([402, 422].contains(&status.as_u16()), "{status}: {answer}");
                assert_eq!(answer["error"]["type"], "budget_exceeded", "{answer}");
                return calls;
            }
        }
        panic!("the budget never ends");
    }

    /// US dollars that the tasks of a run have spent, by the door's account.
    fn spent(&self, run: &str) -> f64 {
        let request = self.http.get(format!("{}/goat/keys/spent", self.litellm));
        let (_, answer) = self.send(request, &Shown::Key(self.value("LITELLM_MASTER_KEY")));
        let tasks = answer["spent"].as_array().unwrap().iter();
        tasks.filter(|task| task["run"] == run).map(|task| task["usd"].as_f64().unwrap()).sum()
    }

    /// What `keys issue` prints.
    fn issue(&self, run: &str, more: &[&str]) -> String {
        let args = ["--target", "local", "keys", "issue", "--run", run, "--task", "try"];
        let said = self.machine.succeed(&[&args[..], &["--model", MODEL], more].concat());
        said.trim().to_owned()
    }

    fn signed(&self, signing: &SigningKeys, at: Timestamp) -> String {
        let run = "run-signed".parse().unwrap();
        let claims = Claims::for_trial(run, "try".parse().unwrap(), Duration::from_secs(60), at);
        signing.issue(&claims.with_models([MODEL])).unwrap().expose().to_owned()
    }
}

/// Requests for routes, one for each method.
fn requests(routes: Vec<Route>, is_meant: impl Fn(Access) -> bool) -> Vec<(Method, String)> {
    let of = |route: Route| {
        let any = vec!["GET".to_owned()];
        let methods = if route.methods.is_empty() { any } else { route.methods };
        let path = route.path.replace('*', "status");
        methods.into_iter().map(move |method| (method.parse().unwrap(), path.clone()))
    };
    routes.into_iter().filter(|route| is_meant(route.access)).flat_map(of).collect()
}

fn own() -> impl Iterator<Item = (Method, String)> {
    OWN_ROUTES.into_iter().map(|(method, path)| (method.parse().unwrap(), path.to_owned()))
}

/// What Langfuse itself guards, behind routes of its door that take any credentials: its API and its pages.
fn langfuses() -> Vec<(Method, String)> {
    let reads = [
        "/",
        "/project/goat-evals/traces/any",
        "/api/public/projects",
        "/api/public/traces",
        "/api/public/traces/any",
        "/api/public/observations",
        "/api/public/observations/any",
        "/api/public/sessions",
        "/api/public/scores",
        "/api/public/v2/datasets",
        "/api/public/dataset-items",
        "/api/public/metrics/daily",
        "/api/public/models",
        "/api/public/v2/prompts",
    ];
    let writes = [
        "/api/public/ingestion",
        "/api/public/traces",
        "/api/public/scores",
        "/api/public/v2/datasets",
        "/api/public/dataset-items",
        "/api/public/dataset-run-items",
        "/api/public/models",
        "/api/public/v2/prompts",
    ];
    let of = |method: Method, path: &str| (method, path.to_owned());
    let reads = reads.into_iter().map(|path| of(Method::GET, path));
    reads.chain(writes.into_iter().map(|path| of(Method::POST, path))).collect()
}

/// A key that was issued calls its model and no other; every route refuses whoever has no right to it.
/// Answers the revoked key.
pub(crate) fn keys_open_what_they_grant_and_nothing_else(outside: &Outside<'_>) -> String {
    let key = outside.issue("run-one", &["--budget", "0.5"]);
    let (status, answer) = outside.call(&key, MODEL);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], "Goat.");
    assert_eq!(outside.call(&key, "gpt-5-mini").0, 403);

    let revoked = outside.issue("run-two", &[]);
    assert_eq!(outside.call(&revoked, MODEL).0, 200);
    outside.machine.succeed(&["--target", "local", "keys", "revoke", "run-two"]);
    let signing = SigningKeys::parse(&outside.value("GOAT_TASK_SIGNING_KEY")).unwrap();
    let foreign = SigningKeys::generate().unwrap();
    let now = Timestamp::now();
    let yesterday = now - Duration::from_secs(24 * 3600);
    let strangers = [
        ("no key", Shown::Nothing),
        ("a wrong key", Shown::Key("sk-wrong".to_owned())),
        ("a login", Shown::Login("admin".to_owned(), "admin".to_owned())),
        ("a revoked key", Shown::Key(revoked.clone())),
        ("an expired key", Shown::Key(outside.signed(&signing, yesterday))),
        ("a foreign key", Shown::Key(outside.signed(&foreign, now))),
    ];
    let guarded = requests(litellm_routes(), |access| access != Access::Open);
    let guarded: Vec<_> = guarded.into_iter().chain(own()).collect();
    assert!(guarded.len() > 15, "{guarded:?}");
    for (method, path) in &guarded {
        for (who, shown) in &strangers {
            let status = outside.status(&outside.litellm, method, path, shown);
            assert_eq!(status, 401, "{method} {path} with {who}");
        }
    }
    let task = Shown::Key(key.clone());
    let admin = requests(litellm_routes(), |access| access == Access::Admin);
    for (method, path) in admin.into_iter().chain(own()) {
        let status = outside.status(&outside.litellm, &method, &path, &task);
        assert_eq!(status, 403, "{method} {path} with a task's key");
    }
    // The revoked run was one alone.
    assert_eq!(outside.call(&key, MODEL).0, 200);

    // Keys of the proxy open nothing of Langfuse's, whoever has them, and its own ones not the database.
    let master = Shown::Key(outside.value("LITELLM_MASTER_KEY"));
    let project = Shown::Login(
        outside.value("LANGFUSE_INIT_PROJECT_PUBLIC_KEY"),
        outside.value("LANGFUSE_INIT_PROJECT_SECRET_KEY"),
    );
    let database = requests(langfuse_routes(), |access| access == Access::Admin);
    let proxys = [("the master key", master), ("a task's key", task)];
    for (who, shown) in strangers.iter().chain(&proxys) {
        for (method, path) in database.iter().chain(&langfuses()) {
            let status = outside.status(&outside.langfuse, method, path, shown);
            assert_eq!(status, 401, "{method} {path} with {who}");
        }
    }
    for (method, path) in &database {
        assert_eq!(outside.status(&outside.langfuse, method, path, &project), 401, "{path}");
    }
    revoked
}

/// What one answer costs more than a budget has is the last; answers the key.
pub(crate) fn a_budget_ends(outside: &Outside<'_>) -> String {
    let key = outside.issue(POOR, &["--budget", &BUDGET.to_string()]);
    let calls = outside.calls_until_refused(&key);
    assert!(calls > 0, "the first call is paid for");
    let spent = outside.spent(POOR);
    assert!(spent > 0.0 && spent < 2.0 * BUDGET, "{spent}");
    key
}

/// A stream is counted by what it cost, and not by what is assumed where that is not said.
pub(crate) fn a_stream_is_counted(outside: &Outside<'_>) {
    let run = "run-stream";
    let key = outside.issue(run, &["--budget", "0.5"]);
    let body = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let request = outside.chat(MODEL, &body).bearer_auth(&key);
    let text = outside.runtime.block_on(async { request.send().await.unwrap().text().await });
    assert!(text.unwrap().trim_end().ends_with("data: [DONE]"));
    let spent = outside.spent(run);
    assert!(spent > 0.0 && spent < 0.01, "{spent}");
}

/// Another container of the proxy knows what was revoked and what was spent.
pub(crate) fn the_next_container_remembers(outside: &Outside<'_>, revoked: &str, poor: &str) {
    let (status, answer) = outside.call(revoked, MODEL);
    assert_eq!(status, 401, "{answer}");
    let before = outside.spent(POOR);
    assert!(before > 0.0, "nothing was kept");
    // LiteLLM knows nothing of it any more, and lets calls through; the door ends them at the same budget.
    outside.calls_until_refused(poor);
    let spent = outside.spent(POOR);
    assert!(spent >= before && spent < 2.0 * BUDGET, "{before}, then {spent}");
}

/// `traces verify` finds its own call, `list` and `show` what it found.
pub(crate) fn traces_are_verified_listed_and_shown(outside: &Outside<'_>) {
    let traces = |args: &[&str]| -> Value {
        let args = [&["--target", "local", "--output", "json", "traces"], args].concat();
        serde_json::from_str(&outside.machine.succeed(&args)).unwrap()
    };
    let verified = traces(&["verify"]);
    assert_eq!(verified["problems"], json!([]), "{verified}");
    let id = verified["trace"]["id"].as_str().unwrap();
    let session = verified["trace"]["session"].as_str().unwrap();
    let listed = traces(&["list", "--session", session]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["id"], id);
    let shown = traces(&["show", id]);
    let call = &shown["observations"][0];
    let is_more_than_nothing = |name: &str| call[name].as_f64().unwrap_or_default() > 0.0;
    for name in ["input_tokens", "output_tokens", "cost_usd"] {
        assert!(is_more_than_nothing(name), "{name} of {call}");
    }
    let nowhere = ["--target", "local", "traces", "show", "0123456789abcdef0123456789abcdef"];
    assert_eq!(outside.machine.run(&nowhere).status.code(), Some(1));
}
