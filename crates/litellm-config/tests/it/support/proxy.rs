//! Real proxies.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    upstream::{Seens, Upstream},
    venv,
};

/// The proxies' master key in the tests.
pub(crate) const MASTER_KEY: &str = "sk-proof-0123456789abcdef";

/// How long a proxy may take to start on a busy machine.
const START_UP: Duration = Duration::from_secs(120);

/// LiteLLM of one version set, imported once.
pub(crate) struct LiteLlm {
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Mutex<Child>,
    home: TempDir,
}

impl LiteLlm {
    pub(crate) fn start(set: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(venv::python(set))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/zygote.py"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut pipe = (stdin, BufReader::new(stdout));
        assert_eq!(line(&mut pipe.1)["ready"], true);
        Self { pipe: Mutex::new(pipe), child: Mutex::new(child), home }
    }

    fn ask(&self, order: &Value) -> Value {
        let mut pipe = self.pipe.lock().unwrap();
        writeln!(pipe.0, "{order}").unwrap();
        line(&mut pipe.1)
    }

    /// Starts a proxy on a configuration in a directory of its own, and waits until it answers or ends.
    pub(crate) async fn boot<'l>(&'l self, directory: &Path, setup: &Setup) -> Boot<'l> {
        loop {
            match self.boot_at(free_port(), directory, setup).await {
                // Another program took the port meanwhile; LiteLLM can't be told to take a free one.
                Boot::Exited { log, .. } if log.contains("address already in use") => {}
                boot => return boot,
            }
        }
    }

    async fn boot_at<'l>(&'l self, port: u16, directory: &Path, setup: &Setup) -> Boot<'l> {
        fs::write(directory.join("config.yaml"), &setup.config).unwrap();
        let mut env = setup.env.clone();
        env.entry("HOME".to_owned()).or_insert_with(|| self.home.path().display().to_string());
        let args = ["--config", "config.yaml", "--host", "127.0.0.1", "--port"];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.push(port.to_string());
        args.extend(setup.args.iter().map(|arg| (*arg).to_owned()));
        let hidden = setup.hidden;
        let order = json!({"do": "start", "env": env, "directory": directory, "args": args, "hidden": hidden});
        let pid = self.ask(&order)["pid"].as_u64().unwrap();
        let log = directory.join("proxy.log");
        let read_log = || fs::read_to_string(&log).unwrap_or_default();
        let client = client();
        let url = format!("http://127.0.0.1:{port}");
        let begun = Instant::now();
        loop {
            if let Some(code) = self.ask(&json!({"do": "poll", "pid": pid}))["code"].as_i64() {
                return Boot::Exited { code, log: read_log() };
            }
            let alive =
                client.get(format!("{url}/health/liveliness")).timeout(Duration::from_secs(2));
            if alive.send().await.is_ok_and(|answer| answer.status().is_success()) {
                let log = directory.join("proxy.log");
                return Boot::Up(Proxy { litellm: self, pid, url, client, log });
            }
            assert!(
                begun.elapsed() < START_UP,
                "the proxy neither starts nor ends:\n{}",
                read_log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for LiteLlm {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ended = child.kill();
        let _reaped = child.wait();
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("LiteLLM ended: {error}: {line:?}"))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a proxy is started with.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) config: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) args: &'static [&'static str],
    pub(crate) hidden: &'static [&'static str],
}

/// How a start ended.
pub(crate) enum Boot<'l> {
    Up(Proxy<'l>),
    Exited { code: i64, log: String },
}

/// A proxy that answers.
pub(crate) struct Proxy<'l> {
    litellm: &'l LiteLlm,
    pid: u64,
    pub(crate) url: String,
    client: reqwest::Client,
    log: std::path::PathBuf,
}

impl Proxy<'_> {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The same proxy by a connection of its own: with several workers perhaps another one.
    pub(crate) fn fresh(&self) -> Caller {
        Caller { url: self.url.clone(), client: client() }
    }

    /// A chat of one message; the answer's status and text.
    pub(crate) async fn chat(&self, model: &str) -> (u16, String) {
        self.chat_as(MASTER_KEY, &json!({"model": model, "max_tokens": 20})).await
    }

    pub(crate) async fn chat_as(&self, key: &str, extra: &Value) -> (u16, String) {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let url = format!("{}/v1/chat/completions", self.url);
        self.send(self.client.post(url).bearer_auth(key).json(&body)).await
    }

    /// What the proxy counts for a chat, in US dollars.
    pub(crate) async fn cost(&self, model: &str) -> Option<f64> {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20});
        let url = format!("{}/v1/chat/completions", self.url);
        let request = self.client.post(url).bearer_auth(MASTER_KEY).json(&body);
        let answer = request.timeout(Duration::from_secs(90)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.headers().get("x-litellm-response-cost")?.to_str().ok()?.parse().ok()
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> (u16, String) {
        self.send(self.client.get(format!("{}{path}", self.url)).bearer_auth(key)).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, String) {
        self.send(self.client.post(format!("{}{path}", self.url)).bearer_auth(key).json(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (u16, String) {
        let answer = request.timeout(Duration::from_secs(90)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Another client of a proxy.
pub(crate) struct Caller {
    url: String,
    client: reqwest::Client,
}

impl Caller {
    pub(crate) async fn chat(&self, model: &str) -> (u16, String) {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20});
        let url = format!("{}/v1/chat/completions", self.url);
        let answer =
            self.client.post(url).bearer_auth(MASTER_KEY).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Caller {
    /// The status of a request that shows no key.
    pub(crate) async fn without_key(&self, url: &str) -> u16 {
        let body = json!({"model": "m", "messages": []});
        self.client.post(url).json(&body).send().await.unwrap().status().as_u16()
    }
}

fn client() -> reqwest::Client {
    let tls = tls_config::client_config();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        self.litellm.ask(&json!({"do": "stop", "pid": self.pid}));
    }
}

/// Variables that every case has.
pub(crate) fn environment(upstream: &Upstream) -> BTreeMap<String, String> {
    let pairs = [
        ("LITELLM_MASTER_KEY", MASTER_KEY),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("HTTPS_PROXY", &upstream.outside),
        ("HTTP_PROXY", &upstream.outside),
        ("NO_PROXY", "127.0.0.1,localhost"),
        // Without it a handler of LiteLLM's own would pass the machine's proxy by.
        ("DISABLE_AIOHTTP_TRANSPORT", "True"),
        ("UP", &upstream.url),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Waits until something was seen; what was seen last, where it was not.
pub(crate) async fn until(seen: &Seens, limit: Duration, wanted: impl Fn(&Seens) -> bool) -> bool {
    let begun = Instant::now();
    while !wanted(seen) {
        if begun.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}
