//! A server that answers from a recording of the official SDK and compares what it is asked with what
//! the SDK asked.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    body::Bytes as Body,
    extract::{self, Path as UrlPath},
    routing::{get, put},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderName, header::ETAG};
use md5::Md5;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::raw::{self, Answer, Call};

/// What may differ: the method (`*` is any), the field as a JSON pointer, `deadline`, `headers`, or `extra` for
/// calls that the SDK does not make, and why.
pub type Exceptions = &'static [(&'static str, &'static str, &'static str)];

/// The server, and what it found.
pub struct Replay {
    /// Where the server is.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    pool: DescriptorPool,
    exceptions: Exceptions,
    state: Mutex<State>,
    blocks: Mutex<HashMap<String, Bytes>>,
}

#[derive(Default)]
struct State {
    /// The recorded calls that were not made yet, by method.
    calls: HashMap<String, VecDeque<Value>>,
    problems: Vec<String>,
}

impl Replay {
    /// Serves `fixtures/wire/<name>.jsonl`.
    pub async fn start(name: &str, exceptions: Exceptions) -> Self {
        let shared = Arc::new(Shared {
            pool: DescriptorPool::decode(modal_proto::DESCRIPTORS).unwrap(),
            exceptions,
            state: Mutex::default(),
            blocks: Mutex::default(),
        });
        let blocks = serve_blocks(Arc::clone(&shared)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        shared.state.lock().unwrap().calls = read(name, &url, &blocks);
        let handler = Arc::clone(&shared);
        raw::serve_on(listener, Arc::new(move |call| answer(Arc::clone(&handler), call).boxed()));
        Self { url, shared }
    }

    /// The file that the SDK uploaded and that begins so.
    pub fn uploaded(&self, beginning: &str) -> Vec<u8> {
        let state = self.shared.state.lock().unwrap();
        let uploads = state.calls["MountPutFile"].iter();
        let mut files = uploads
            .filter_map(|call| STANDARD.decode(call["requests"][0]["msg"]["data"].as_str()?).ok());
        files.find(|file| file.starts_with(beginning.as_bytes())).unwrap()
    }

    /// Fails unless every call was compared without a difference and all recorded ones were made, but
    /// those of `unused`: method, a part of the request, and why.
    pub fn finish(self, unused: Exceptions) {
        let state = self.shared.state.lock().unwrap();
        let mut text = state.problems.join("\n");
        for (method, calls) in &state.calls {
            for call in calls {
                let request = call["requests"].to_string();
                let is_expected =
                    |(name, part, _): &(&str, &str, &str)| name == method && request.contains(part);
                if !unused.iter().any(is_expected) {
                    let _ = write!(text, "\n{method} was called by the SDK only: {request}");
                }
            }
        }
        assert!(text.is_empty(), "{text}");
    }
}

fn read(name: &str, url: &str, blocks: &str) -> HashMap<String, VecDeque<Value>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire");
    let text = std::fs::read_to_string(fixtures.join(name).with_extension("jsonl")).unwrap();
    let mut calls: HashMap<String, VecDeque<Value>> = HashMap::new();
    for line in text.lines() {
        let mut call: Value = serde_json::from_str(line).unwrap();
        let Some(method) =
            call["method"].as_str().filter(|_| call["ev"].is_null()).map(str::to_owned)
        else {
            continue;
        };
        redirect(&mut call["responses"], url, blocks);
        calls.entry(method).or_default().push_back(call);
    }
    calls
}

/// Points addresses of the recording's servers to ours.
fn redirect(value: &mut Value, url: &str, blocks: &str) {
    match value {
        Value::String(text) => {
            let Some(rest) = text.strip_prefix("http://127.0.0.1:") else { return };
            let path = rest.find('/').map_or("", |slash| &rest[slash..]);
            *text = if path.is_empty() { url.to_owned() } else { format!("{blocks}{path}") };
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, url, blocks)),
        Value::Object(fields) => fields.values_mut().for_each(|field| redirect(field, url, blocks)),
        _ => {}
    }
}

async fn answer(shared: Arc<Shared>, mut call: Call) -> Answer {
    let mut sent = Vec::new();
    while let Some(Ok(message)) = call.messages.next().await {
        sent.push(message);
    }
    let Some(recorded) = take(&shared, &call, &sent) else {
        return Answer::fail(Status::unimplemented(format!(
            "{} is not in the recording",
            call.method
        )));
    };
    compare(&shared, &call, &sent, &recorded);
    let (_, output) = types(&shared.pool, &call.method);
    let messages: Vec<Bytes> = recorded["responses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|response| {
            let mut json = response["msg"].clone();
            // The recorder keeps the first 600 characters of long bytes.
            if let Some(kept) = json["data"].as_str().and_then(|data| data.split_once('.')) {
                json["data"] = json!(kept.0);
            }
            if json["token"] == "<jwt>" {
                json["token"] = json!("e30.e30.sig");
            }
            normalise(&mut json);
            DynamicMessage::deserialize(output.clone(), json).unwrap().encode_to_vec().into()
        })
        .collect();
    match recorded["status"].as_str().unwrap() {
        "OK" => Answer::many(messages),
        status => Answer::many(messages)
            .then(Status::new(code(status), recorded["message"].as_str().unwrap_or(""))),
    }
}

/// The recorded call that this one is compared with: the first of the method that is the same, else the first.
fn take(shared: &Shared, call: &Call, sent: &[Bytes]) -> Option<Value> {
    let mut state = shared.state.lock().unwrap();
    let ours = to_json(shared, &call.method, sent);
    let is_extra =
        shared.exceptions.iter().any(|(of, what, _)| *of == call.method && *what == "extra");
    let calls = state.calls.entry(call.method.clone()).or_default();
    let same = calls.iter().position(|recorded| {
        without(shared, &call.method, &ours) == without(shared, &call.method, &requests(recorded))
    });
    match same {
        Some(same) => calls.remove(same),
        None if is_extra => None,
        None if calls.is_empty() => {
            let problem = format!("{} was called by us only: {}", call.method, json!(ours));
            state.problems.push(problem);
            None
        }
        None => calls.pop_front(),
    }
}

fn compare(shared: &Shared, call: &Call, sent: &[Bytes], recorded: &Value) {
    let mut problems = Vec::new();
    let ours = without(shared, &call.method, &to_json(shared, &call.method, sent));
    let theirs = without(shared, &call.method, &requests(recorded));
    if ours != theirs {
        problems.push(format!(
            "{}:\n  ours {}\n  SDK  {}",
            call.method,
            json!(ours),
            json!(theirs)
        ));
    }
    let (mut ours, theirs) = (headers(call), recorded_headers(recorded));
    // Recordings of this repository keep the names of headers and no value.
    for (name, value) in theirs.iter().filter(|(_, value)| *value == "<kept out>") {
        ours.entry(name.clone()).and_modify(|ours| ours.clone_from(value));
    }
    let is_free = |what: &str| {
        let mut exceptions = shared.exceptions.iter();
        exceptions.any(|(of, field, _)| (*of == call.method || *of == "*") && *field == what)
    };
    if ours != theirs && !is_free("headers") {
        problems.push(format!("{}:\n  headers {ours:?}\n  of SDK  {theirs:?}", call.method));
    }
    let deadline = recorded["deadline_s"].as_f64();
    if let Some(problem) = (!is_free("deadline"))
        .then_some(())
        .and_then(|()| deadline_problem(call.header("grpc-timeout"), deadline))
    {
        problems.push(format!("{}: {problem}", call.method));
    }
    shared.state.lock().unwrap().problems.extend(problems);
}

fn requests(recorded: &Value) -> Vec<Value> {
    let requests = recorded["requests"].as_array().unwrap();
    requests.iter().map(request).collect()
}

/// A recorded message; bytes that the recorder left out are known by length and hash.
fn request(recorded: &Value) -> Value {
    let mut message = recorded["msg"].clone();
    if let Some(long) = recorded["long_bytes"].as_object() {
        for (field, about) in long {
            message[field.as_str()] = json!(format!("{} bytes of any kind", about["bytes_len"]));
        }
    }
    message
}

fn to_json(shared: &Shared, method: &str, sent: &[Bytes]) -> Vec<Value> {
    let (input, _) = types(&shared.pool, method);
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let json = |bytes: &Bytes| {
        let message = DynamicMessage::decode(input.clone(), bytes.clone()).unwrap();
        let mut value =
            message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        // As the recorder does with long bytes.
        if let Some(data) = value["data"].as_str().and_then(|data| STANDARD.decode(data).ok())
            && data.len() > 65_536
        {
            value["data"] = json!(format!("{} bytes of any kind", data.len()));
        }
        value
    };
    sent.iter().map(json).collect()
}

/// Messages without what may differ.
fn without(shared: &Shared, method: &str, messages: &[Value]) -> Vec<Value> {
    let mut messages = messages.to_vec();
    for message in &mut messages {
        for (of, pointer, _) in shared.exceptions {
            if *of != method && *of != "*" {
                continue;
            }
            let Some((parent, field)) = pointer.rsplit_once('/') else { continue };
            if let Some(object) = message.pointer_mut(parent).and_then(Value::as_object_mut) {
                object.remove(field);
            }
        }
        normalise(message);
    }
    messages
}

/// JSON inside of strings is compared as JSON: its spaces mean nothing.
fn normalise(message: &mut Value) {
    for argument in message["command_args"].as_array_mut().into_iter().flatten() {
        let inner = argument.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(inner) = inner.filter(Value::is_object) {
            *argument = inner;
        }
    }
    // Addresses of web functions are of their moment.
    for value in message["env_dict"].as_object_mut().into_iter().flat_map(|it| it.values_mut()) {
        let is_here = value.as_str().is_some_and(|text| text.starts_with("http://127.0.0.1:"));
        if is_here {
            *value = json!("http://127.0.0.1:PORT");
        }
    }
    // Hashed at once in the SDK: in the order in which that ends.
    if let Some(hashes) = message["sha256_hex_hashes"].as_array_mut() {
        hashes.sort_by_key(ToString::to_string);
    }
    if let Some(files) = message["files"].as_array_mut() {
        files.sort_by_key(ToString::to_string);
    }
    // A set in the SDK: it sends them in no order.
    if let Some(mounts) = message.pointer_mut("/function/mount_ids").and_then(Value::as_array_mut) {
        mounts.sort_by_key(ToString::to_string);
    }
    // Indexing above adds nulls where there was nothing.
    if let Some(object) = message.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
}

fn types(pool: &DescriptorPool, method: &str) -> (MessageDescriptor, MessageDescriptor) {
    let mut methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let found = methods.find(|found| found.name() == method).unwrap();
    (found.input(), found.output())
}

/// Headers whose values are of their moment or of their machine: only that they are there is compared.
const OF_THE_MOMENT: &[&str] = &[
    "authorization",
    "x-idempotency-key",
    "x-modal-auth-token",
    "x-modal-node",
    "x-modal-platform",
    "x-modal-timestamp",
];

/// Modal's own headers.
fn headers(call: &Call) -> BTreeMap<String, String> {
    let pairs = call.metadata.iter().filter_map(|entry| match entry {
        tonic::metadata::KeyAndValueRef::Ascii(name, value) => {
            Some((name.as_str(), value.to_str().unwrap()))
        }
        tonic::metadata::KeyAndValueRef::Binary(..) => None,
    });
    pairs
        .filter(|(name, _)| name.starts_with("x-") || *name == "authorization")
        .map(compared)
        .collect()
}

fn recorded_headers(recorded: &Value) -> BTreeMap<String, String> {
    let pairs = recorded["metadata"].as_object().unwrap().iter();
    pairs.map(|(name, value)| compared((name, value.as_str().unwrap()))).collect()
}

fn compared((name, value): (&str, &str)) -> (String, String) {
    let value = match name {
        "authorization" => value.split(' ').next().unwrap(),
        name if OF_THE_MOMENT.contains(&name) => "",
        _ => value,
    };
    (name.to_owned(), value.to_owned())
}

/// The recorder saw what was left of a deadline; ours is in milliseconds or so and must be a little more.
fn deadline_problem(ours: Option<&str>, theirs: Option<f64>) -> Option<String> {
    let seconds = ours.map(|text| {
        let (number, unit) = text.split_at(text.len() - 1);
        let number: f64 = number.parse().unwrap();
        number
            * match unit {
                "H" => 3600.0,
                "M" => 60.0,
                "S" => 1.0,
                "m" => 1e-3,
                "u" => 1e-6,
                _ => 1e-9,
            }
    });
    match (seconds, theirs) {
        (None, None) => None,
        (Some(ours), Some(theirs)) if (theirs..=theirs + 1.5).contains(&ours) => None,
        (ours, theirs) => Some(format!("deadline {ours:?}, of the SDK {theirs:?}")),
    }
}

fn code(name: &str) -> Code {
    match name {
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        other => panic!("status {other} of a recording"),
    }
}

/// The HTTP server of blocks: keeps what is PUT, and gives it back by its hash.
async fn serve_blocks(shared: Arc<Shared>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new()
        .route("/block/{name}", get(get_block).put(put_block))
        // Blobs of recordings made against `modal-local`.
        .route("/_granted/{grant}", put(put_blob))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(shared);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn put_block(extract::State(shared): extract::State<Arc<Shared>>, body: Body) -> String {
    let hash = hex::encode(Sha256::digest(&body));
    shared.blocks.lock().unwrap().insert(hash.clone(), body);
    format!("test-put-response:{hash}")
}

/// A blob is not read back; the store answers with the MD5 of what came.
async fn put_blob(body: Body) -> [(HeaderName, String); 1] {
    [(ETAG, format!("\"{}\"", hex::encode(Md5::digest(&body))))]
}

/// `test-get-request:v2:<hash>:<start>:<end>`.
async fn get_block(
    extract::State(shared): extract::State<Arc<Shared>>,
    UrlPath(name): UrlPath<String>,
) -> Body {
    let hash = name.split(':').nth(2).unwrap_or_default().to_owned();
    shared.blocks.lock().unwrap().get(&hash).cloned().unwrap_or_default()
}
