//! A scripted model and a way to run the agent against it.
//!
//! The model gives one [`Reply`] after the other and keeps what it was asked. A request that no real server would
//! take (no key, a tool result without its call) is answered with 400, so that no test passes with one.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command, sync::watch};

/// The key that every test plants.
pub(crate) const KEY: &str = "sk-planted-0123456789";

/// What the model does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Streams a text.
    Text(&'static str),
    /// Streams a text and calls of tools: name and arguments.
    Calls(&'static str, Vec<(&'static str, String)>),
    /// Streams these chunks and ends properly.
    Chunks(Vec<Value>),
    /// Answers in one piece.
    Whole(&'static str),
    /// Fails, with `Retry-After: 0` where it is said.
    Status(u16, Value, bool),
    /// Streams the beginning of a text, then breaks the connection.
    Breaks(&'static str),
    /// Answers with these bytes: status, type, body.
    Raw(u16, &'static str, Vec<u8>),
    /// Fails, with this `Retry-After`.
    Later(u16, &'static str),
    /// Streams the beginning of a text, then nothing more.
    Stalls(&'static str),
    /// Never answers.
    Hangs,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) body: Value,
    pub(crate) headers: HeaderMap,
}

impl Request {
    /// The content of the tool results, in order, without the marks around foreign text.
    pub(crate) fn tool_results(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array().unwrap();
        let results = messages.iter().filter(|message| message["role"] == "tool");
        results.map(|message| unmarked(message["content"].as_str().unwrap())).collect()
    }
}

/// What is between the marks of a result, if it has any. The id of a mark is the hash of the text as it was.
fn unmarked(content: &str) -> String {
    let Some(rest) = content.strip_prefix("<tool_output ") else { return content.to_owned() };
    let (id, rest) = rest.split_once(">\n").unwrap();
    let inside = rest.strip_suffix(&format!("</tool_output {id}>")).unwrap();
    let is_it = |text: &str| {
        let hash = Sha256::digest(text);
        hash[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>() == id
    };
    let without = inside.strip_suffix('\n').unwrap();
    if is_it(without) { without.to_owned() } else { inside.to_owned() }
}

/// Decides on a reply: the request's body, and how many requests came before it.
type Respond = Box<dyn Fn(&Value, usize) -> Reply + Send + Sync>;

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    /// Asked where there are no replies beforehand. Its tokens are counted: four bytes of the request are one.
    respond: Option<Respond>,
    requests: Mutex<Vec<Request>>,
    seen: watch::Sender<usize>,
}

/// A scripted model on a free port.
pub(crate) struct Model {
    script: Arc<Script>,
    pub(crate) url: String,
}

impl Model {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::serve(replies.into_iter().collect(), None).await
    }

    /// A model that decides on each reply when it is asked.
    pub(crate) async fn answering(
        respond: impl Fn(&Value, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(VecDeque::new(), Some(Box::new(respond))).await
    }

    async fn serve(replies: VecDeque<Reply>, respond: Option<Respond>) -> Self {
        let script = Arc::new(Script {
            replies: Mutex::new(replies),
            respond,
            requests: Mutex::default(),
            seen: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Model { script, url }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script.requests.lock().unwrap().clone()
    }

    /// Waits until `count` requests have arrived.
    pub(crate) async fn asked(&self, count: usize) {
        self.script.seen.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let complaint = complaint(&headers, &body);
    let count = script.requests.lock().unwrap().len();
    let (usage, decided) = match &script.respond {
        Some(respond) => {
            let tokens = (body["messages"].to_string().len() + body["tools"].to_string().len()) / 4;
            (json!({"prompt_tokens": tokens, "completion_tokens": 10}), Some(respond(&body, count)))
        }
        None => (
            json!({"prompt_tokens": 100, "completion_tokens": 10,
                   "prompt_tokens_details": {"cached_tokens": 50}}),
            None,
        ),
    };
    script.requests.lock().unwrap().push(Request { body, headers });
    script.seen.send_modify(|seen| *seen += 1);
    if let Some(complaint) = complaint {
        return failure(
            400,
            json!({"error": {"message": format!("test server: {complaint}")}}),
            false,
        );
    }
    let reply = decided.or_else(|| script.replies.lock().unwrap().pop_front());
    let with_usage = |mut chunks: Vec<Value>| {
        chunks.push(json!({"choices": [], "usage": usage}));
        chunks
    };
    match reply {
        Some(Reply::Text(text)) => stream(with_usage(text_chunks(text, &[], "stop")), false),
        Some(Reply::Calls(text, calls)) => {
            stream(with_usage(text_chunks(text, &calls, "tool_calls")), false)
        }
        Some(Reply::Raw(status, kind, body)) => (
            StatusCode::from_u16(status).unwrap(),
            [(header::CONTENT_TYPE, kind), (header::RETRY_AFTER, "0")],
            body,
        )
            .into_response(),
        Some(Reply::Chunks(chunks)) => stream(chunks, false),
        Some(Reply::Breaks(text)) => stream(text_chunks(text, &[], "stop")[..1].to_vec(), true),
        Some(Reply::Whole(text)) => {
            Json(json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                        "finish_reason": "stop"}]}))
            .into_response()
        }
        Some(Reply::Status(status, body, retry)) => failure(status, body, retry),
        Some(Reply::Later(status, when)) => {
            (StatusCode::from_u16(status).unwrap(), [(header::RETRY_AFTER, when)], "later")
                .into_response()
        }
        Some(Reply::Stalls(text)) => {
            let first = &text_chunks(text, &[], "stop")[0];
            let first = Ok::<_, std::io::Error>(Bytes::from(format!("data: {first}\n\n")));
            let body = futures::stream::iter([first]).chain(futures::stream::pending());
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
        }
        Some(Reply::Hangs) => std::future::pending().await,
        None => {
            failure(400, json!({"error": {"message": "test server: the script is over"}}), false)
        }
    }
}

/// What a real server would refuse.
fn complaint(headers: &HeaderMap, body: &Value) -> Option<String> {
    if !headers.get(header::AUTHORIZATION)?.to_str().ok()?.starts_with("Bearer ") {
        return Some("no bearer token".into());
    }
    let mut open: Vec<&str> = Vec::new();
    for message in body["messages"].as_array()? {
        match message["role"].as_str()? {
            "tool" => {
                let id = message["tool_call_id"].as_str()?;
                let Some(at) = open.iter().position(|known| *known == id) else {
                    return Some(format!("a result without its call {id}"));
                };
                open.remove(at);
            }
            role if !open.is_empty() => {
                return Some(format!("{role} before the results of {open:?}"));
            }
            "assistant" => {
                let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                for call in calls {
                    let arguments = call["function"]["arguments"].as_str()?;
                    if serde_json::from_str::<Value>(arguments).is_err() {
                        return Some("arguments that are no JSON".into());
                    }
                    open.push(call["id"].as_str()?);
                }
            }
            _ => {}
        }
    }
    None
}

fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn text_chunks(text: &str, calls: &[(&'static str, String)], finish: &str) -> Vec<Value> {
    let half = text.len() / 2;
    let mut chunks = vec![
        chunk(json!({"role": "assistant", "content": &text[..half]}), Value::Null),
        chunk(json!({"content": &text[half..]}), Value::Null),
    ];
    for (index, (name, _)) in calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let call = json!({"index": index, "id": format!("call-{name}-{index}"), "type": "function", "function": function});
        chunks.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    }
    // Pieces of all calls take turns.
    let longest = calls.iter().map(|(_, arguments)| arguments.len()).max().unwrap_or(0);
    for start in (0..longest).step_by(7) {
        for (index, (_, arguments)) in
            calls.iter().enumerate().filter(|(_, (_, it))| start < it.len())
        {
            let piece = &arguments[start..arguments.len().min(start + 7)];
            let call = json!({"index": index, "function": {"arguments": piece}});
            chunks.push(chunk(json!({"tool_calls": [call]}), Value::Null));
        }
    }
    chunks.push(chunk(json!({}), json!(finish)));
    chunks
}

fn stream(chunks: Vec<Value>, breaks: bool) -> Response {
    let mut pieces: Vec<Result<Bytes, std::io::Error>> =
        chunks.iter().map(|chunk| Ok(Bytes::from(format!("data: {chunk}\n\n")))).collect();
    pieces.push(match breaks {
        true => Err(std::io::Error::other("cut")),
        false => Ok(Bytes::from("data: [DONE]\n\n")),
    });
    let body = Body::from_stream(futures::stream::iter(pieces));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn failure(status: u16, body: Value, retry: bool) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
    if retry {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, "0".parse::<header::HeaderValue>().unwrap());
    }
    response
}

/// A directory to work in, and one for the files of the run.
pub(crate) struct Agent {
    pub(crate) workspace: TempDir,
    pub(crate) files: TempDir,
    command: Command,
}

impl Agent {
    /// The agent, set up to ask `model`; add arguments before it is run.
    pub(crate) fn new(model: &Model) -> Self {
        Self::at(&model.url)
    }

    /// The agent, set up to ask a model at `url`.
    pub(crate) fn at(url: &str) -> Self {
        let (workspace, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_goat-eval"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("OPENAI_BASE_URL", url)
            .env("OPENAI_API_KEY", KEY)
            .env("EVAL_MODEL", "scripted");
        command.env("TMPDIR", files.path());
        command.arg("--cwd").arg(workspace.path());
        command.arg("--transcript").arg(files.path().join("transcript.jsonl"));
        command.arg("--summary").arg(files.path().join("summary.json"));
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Agent { workspace, files, command }
    }

    pub(crate) fn prompt(mut self, prompt: &str) -> Self {
        self.command.args(["-prompt", prompt]);
        self
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.path(name), content).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.workspace.path().join(name)
    }

    pub(crate) fn spawn(&mut self) -> tokio::process::Child {
        self.command.spawn().unwrap()
    }

    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    pub(crate) async fn run(mut self) -> Finished {
        let output = self.spawn().wait_with_output().await.unwrap();
        self.finished(output)
    }

    pub(crate) fn finished(self, output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            agent: self,
        }
    }
}

/// A run that has ended.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) agent: Agent,
}

impl Finished {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.agent.files.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.read("summary.json")).expect("a summary is written at every end")
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.read("transcript.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// `value` with what differs from run to run replaced.
    pub(crate) fn stable(&self, value: &Value) -> Value {
        let workspace = self.agent.workspace.path();
        match value {
            Value::String(text) => Value::from(stable_text(text, workspace)),
            Value::Array(items) => items.iter().map(|item| self.stable(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| match name.as_str() {
                    "time" | "elapsed_ms" | "elapsed_s" | "delay_ms" | "base_url"
                    | "prompt_sha256" | "body_sha256" | "full_sha256" | "full_bytes" => {
                        (name.clone(), Value::from(format!("[{name}]")))
                    }
                    // Their own snapshot has them.
                    "parameters" | "description" => {
                        (name.clone(), Value::from(format!("[{name}]")))
                    }
                    _ => (name.clone(), self.stable(value)),
                });
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }

    /// Processes that still work in the run's directory, and files beside its transcript and summary.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let workspace = self.agent.workspace.path();
        let works_there = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(workspace))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(works_there);
        let files = std::fs::read_dir(self.agent.files.path()).unwrap().flatten();
        let left = processes.chain(files).map(|it| it.path().display().to_string());
        left.filter(|it| !it.ends_with("/transcript.jsonl") && !it.ends_with("/summary.json"))
            .collect()
    }

    /// Everything that the run wrote anywhere.
    pub(crate) fn everything(&self) -> String {
        [&self.stdout, &self.stderr, &self.read("transcript.jsonl"), &self.read("summary.json")]
            .map(String::as_str)
            .join("\n")
    }
}

fn stable_text(text: &str, workspace: &Path) -> String {
    let text = text.replace(&workspace.display().to_string(), "[workspace]");
    // The id of a mark is made from the text, which holds the directory.
    let mut parts = text.split("tool_output ");
    let first = parts.next().unwrap_or_default().to_owned();
    let is_id = |id: &&str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.fold(first, |text, part| {
        text + "tool_output "
            + &match part.get(..12).filter(is_id) {
                Some(_) => format!("[id]{}", &part[12..]),
                None => part.to_owned(),
            }
    })
}

/// The content of a file, as soon as it ends with a line break.
pub(crate) async fn wait_for(path: &Path) -> String {
    for _ in 0..3_000 {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
    panic!("{} was never written", path.display());
}
