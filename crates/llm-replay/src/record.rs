//! The server that forwards to an upstream and keeps what was said.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt as _;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::{
    Error, Redactor, Result, access,
    openai::{self, ChatRequest},
    recording::{Answer, Entry, Origin, OriginKind, Recording, ToolCall, ToolResult, Usage},
    template,
};

/// What to record, and where to.
#[derive(Clone)]
pub struct RecordConfig {
    /// The upstream's base URL, with its `/v1`.
    pub upstream: Url,
    /// The upstream's key, which the recorder adds.
    pub key: Option<Zeroizing<String>>,
    /// Where set, requests must carry it as bearer token. Without one, whoever reaches the address
    /// uses the upstream's key.
    pub token: Option<Zeroizing<String>>,
    /// Where recordings are written, one file a conversation.
    pub directory: PathBuf,
    /// The address to listen on.
    pub listen: SocketAddr,
}

impl std::fmt::Debug for RecordConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordConfig")
            .field("upstream", &self.upstream.as_str())
            .field("directory", &self.directory)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// A running recorder; it stops when dropped.
#[derive(Debug)]
pub struct RecordServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl RecordServer {
    /// Listens and forwards.
    pub async fn start(config: RecordConfig) -> Result<Self> {
        let http = http_client(&config.upstream)?;
        std::fs::create_dir_all(&config.directory)
            .map_err(|source| Error::Io { path: config.directory.clone(), source })?;
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let redactor = Redactor::new(config.key.iter().map(|key| key.to_string()));
        let token = config.token.clone();
        let state = Arc::new(Recorder { http, config, redactor, writing: Mutex::new(()) });
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(state)
            .layer(middleware::from_fn_with_state(token, access::check));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the recorder stopped");
            }
        });
        Ok(Self { address, task })
    }

    /// The base URL for clients: `http://…/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

fn http_client(upstream: &Url) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls_config::client_config());
    let is_local = match upstream.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    // A proxy of the environment is for the outside.
    let client = if is_local { client.no_proxy() } else { client };
    client.build().map_err(|error| Error::HttpClient(error.into()))
}

impl Drop for RecordServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Recorder {
    http: reqwest::Client,
    config: RecordConfig,
    redactor: Redactor,
    /// Held while files are compared and replaced.
    writing: Mutex<()>,
}

async fn models(State(recorder): State<Arc<Recorder>>) -> Response {
    let request = recorder.http.get(recorder.address("models"));
    match recorder.authorised(request).send().await {
        Ok(response) => pass_on(response),
        Err(error) => unreachable_upstream(&error),
    }
}

async fn chat(State(recorder): State<Arc<Recorder>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = recorder.http.post(recorder.address("chat/completions")).body(body.clone());
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/json"));
    let request = recorder.authorised(request).header(header::CONTENT_TYPE, content_type);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return unreachable_upstream(&error),
    };
    let asked: Option<ChatRequest> = serde_json::from_slice(&body).ok();
    match asked {
        Some(asked) if response.status().is_success() => tee(recorder, asked, response),
        _ => pass_on(response),
    }
}

impl Recorder {
    fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.config.upstream.as_str().trim_end_matches('/'))
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.config.key {
            Some(key) => request.bearer_auth(key.as_str()),
            None => request,
        }
    }

    async fn keep(&self, asked: &ChatRequest, answered: &[u8]) {
        let Some(answer) = assemble(answered) else {
            tracing::warn!("an answer was not complete and is not recorded");
            return;
        };
        let Some(recording) = self.recording(asked, answer) else {
            tracing::error!("a conversation is not recorded: keys could not be cut out of it");
            return;
        };
        let _writing = self.writing.lock().await;
        match store(&self.config.directory, &recording) {
            Ok(path) => tracing::info!(path = %path.display(), "recorded"),
            Err(error) => tracing::error!(%error, "can't keep a recording"),
        }
    }

    /// What was said, keys cut out, in a form that stands for itself alone.
    fn recording(&self, asked: &ChatRequest, answer: Answer) -> Option<Recording> {
        let mut recording = Recording::new(Origin {
            kind: OriginKind::Recorded,
            note: None,
            upstream: self.config.upstream.host_str().map(str::to_owned),
        });
        recording.model = Some(asked.model.clone());
        for message in asked.conversation() {
            let text = self.redactor.text(&message.text());
            recording.conversation.push(match message.role.as_str() {
                "user" => Entry::User(template::escape(&text)),
                "tool" => Entry::Tool(ToolResult { matches: None, recorded: Some(text) }),
                _ => Entry::Assistant(escape(Answer {
                    text,
                    tool_calls: message.tool_calls(),
                    ..Answer::default()
                })),
            });
        }
        recording.conversation.push(Entry::Assistant(escape(answer)));
        redact(recording, &self.redactor)
    }
}

/// The recording without keys; none where that can't be made.
fn redact(recording: Recording, redactor: &Redactor) -> Option<Recording> {
    let redacted = serde_json::to_value(&recording).map(|value| redactor.json(&value));
    redacted.and_then(serde_json::from_value).ok()
}

/// The answer as a recording holds it: no text of it is a template.
fn escape(answer: Answer) -> Answer {
    let calls = answer.tool_calls.into_iter().map(|call| ToolCall {
        name: call.name,
        arguments: template::escape_json(&call.arguments),
    });
    Answer { text: template::escape(&answer.text), tool_calls: calls.collect(), ..answer }
}

/// Passes the answer on as it comes and keeps it once it is complete.
fn tee(recorder: Arc<Recorder>, asked: ChatRequest, response: reqwest::Response) -> Response {
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::OK);
    let headers = kept_headers(response.headers());
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut answered = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            if let Ok(bytes) = &chunk {
                answered.extend_from_slice(bytes);
            }
            let broken = chunk.is_err();
            if sender.send(chunk).await.is_err() || broken {
                return;
            }
        }
        recorder.keep(&asked, &answered).await;
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    (status, headers, body).into_response()
}

fn pass_on(response: reqwest::Response) -> Response {
    let status =
        StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = kept_headers(response.headers());
    (status, headers, Body::from_stream(response.bytes_stream())).into_response()
}

fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    const KEPT: [HeaderName; 2] = [header::CONTENT_TYPE, header::RETRY_AFTER];
    let kept = KEPT.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    kept.collect()
}

fn unreachable_upstream(error: &reqwest::Error) -> Response {
    tracing::warn!(error = %error, "the upstream can't be reached");
    let body = openai::error_body("the upstream can't be reached", "upstream_unreachable");
    (StatusCode::BAD_GATEWAY, axum::Json(body)).into_response()
}

/// The answer that a body holds, whole or as a stream of events; `None` where it is cut off.
fn assemble(body: &[u8]) -> Option<Answer> {
    if let Ok(whole) = serde_json::from_slice::<Value>(body) {
        return from_whole(&whole);
    }
    let text = std::str::from_utf8(body).ok()?;
    let mut assembly = Assembly::default();
    for line in text.lines() {
        match line.strip_prefix("data:").map(str::trim) {
            Some("[DONE]") => return assembly.finish(),
            Some(data) => assembly.add(&serde_json::from_str(data).ok()?),
            None => {}
        }
    }
    assembly.finish()
}

fn from_whole(whole: &Value) -> Option<Answer> {
    let choice = whole["choices"].get(0)?;
    let mut assembly = Assembly::default();
    assembly.delta(choice["message"].as_object()?);
    assembly.answer.finish_reason = choice["finish_reason"].as_str().map(str::to_owned);
    assembly.answer.usage = usage(&whole["usage"]);
    assembly.finish()
}

/// An answer put together from the chunks of a stream.
#[derive(Default)]
struct Assembly {
    answer: Answer,
    /// Name and argument text of each call, by its index.
    calls: Vec<(String, String)>,
}

impl Assembly {
    fn add(&mut self, chunk: &Value) {
        if let Some(usage) = usage(&chunk["usage"]) {
            self.answer.usage = Some(usage);
        }
        let Some(choice) = chunk["choices"].get(0) else { return };
        if let Some(delta) = choice["delta"].as_object() {
            self.delta(delta);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.answer.finish_reason = Some(reason.to_owned());
        }
    }

    fn delta(&mut self, delta: &Map<String, Value>) {
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("role", _) | (_, Value::Null) => {}
                ("content", value) => self.answer.text.push_str(value.as_str().unwrap_or_default()),
                ("tool_calls", Value::Array(calls)) => self.tool_calls(calls),
                (name, value) => append(&mut self.answer.extra, name, value),
            }
        }
    }

    fn tool_calls(&mut self, calls: &[Value]) {
        for (position, call) in calls.iter().enumerate() {
            let index = call["index"].as_u64().map_or(position, |index| index.min(1_000) as usize);
            if self.calls.len() <= index {
                self.calls.resize_with(index + 1, Default::default);
            }
            let (name, arguments) = &mut self.calls[index];
            name.push_str(call["function"]["name"].as_str().unwrap_or_default());
            arguments.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }

    /// `None` where no finish reason came: the stream was cut.
    fn finish(mut self) -> Option<Answer> {
        self.answer.finish_reason.as_ref()?;
        let calls = self.calls.iter();
        self.answer.tool_calls = calls.map(|(name, args)| openai::tool_call(name, args)).collect();
        Some(self.answer)
    }
}

fn append(extra: &mut Map<String, Value>, name: &str, value: &Value) {
    match (extra.get_mut(name), value) {
        (Some(Value::String(known)), Value::String(more)) => known.push_str(more),
        _ => {
            extra.insert(name.to_owned(), value.clone());
        }
    }
}

fn usage(value: &Value) -> Option<Usage> {
    Some(Usage {
        prompt_tokens: value["prompt_tokens"].as_u64()?,
        completion_tokens: value["completion_tokens"].as_u64()?,
    })
}

/// Writes a recording under a name made from its first message, over an earlier part of itself.
fn store(directory: &Path, recording: &Recording) -> Result<PathBuf> {
    let stem = stem(recording);
    for number in 1.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{stem}{suffix}.json"));
        let replaces = match Recording::read(&path) {
            Ok(known) => continues(&known, recording),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if replaces {
            return write(&path, directory, recording);
        }
    }
    unreachable!("the numbers do not end")
}

fn write(path: &Path, directory: &Path, recording: &Recording) -> Result<PathBuf> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(recording.to_text().as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(path.to_owned())
}

/// Whether `longer` is `known` and more, or the same again.
fn continues(known: &Recording, longer: &Recording) -> bool {
    let skeleton = |recording: &Recording| -> Vec<Value> {
        recording.conversation.iter().map(what_matters).collect()
    };
    known.model == longer.model && skeleton(longer).starts_with(&skeleton(known))
}

fn what_matters(entry: &Entry) -> Value {
    match entry {
        Entry::User(text) => Value::String(text.clone()),
        Entry::Assistant(answer) => serde_json::to_value(&answer.tool_calls).unwrap_or_default(),
        Entry::Tool(_) | Entry::Failure(_) => Value::Null,
    }
}

fn stem(recording: &Recording) -> String {
    let first = match recording.conversation.first() {
        Some(Entry::User(text)) => text.as_str(),
        _ => "",
    };
    let words = first.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.take(6).collect::<Vec<_>>().join("-").to_lowercase();
    let hash = Sha256::digest(first.as_bytes());
    let slug: String = slug.chars().take(48).collect();
    format!("{slug}-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_put_together() {
        let body = concat!(
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"Hm\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\".\",\"content\":\"Let \"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"me.\",\"tool_calls\":[{\"index\":0,\"id\":\"a\",",
            "\"function\":{\"name\":\"Read\",\"arguments\":\"{\\\"file\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"_path\\\":1}\"}}]},",
            "\"finish_reason\":\"tool_calls\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        );
        insta::assert_json_snapshot!(assemble(body.as_bytes()).unwrap(), @r#"
        {
          "text": "Let me.",
          "tool_calls": [
            {
              "name": "Read",
              "arguments": {
                "file_path": 1
              }
            }
          ],
          "finish_reason": "tool_calls",
          "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2
          },
          "extra": {
            "reasoning_content": "Hm."
          }
        }
        "#);
    }

    #[test]
    fn a_stream_that_is_cut_is_not_an_answer() {
        assert_eq!(assemble(b"data: {\"choices\":[{\"delta\":{\"content\":\"Let\"}}]}\n\n"), None);
        assert_eq!(assemble(b"data: {\"choices\":[{\"del"), None);
    }
}
