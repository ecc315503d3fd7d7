//! The transcript alone: every request can be rebuilt from it, and a model made from it leads to the same calls.

use llm_replay::{
    Answer, Entry, Library, Origin, OriginKind, Recording, ReplayConfig, ReplayServer, ToolCall,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Agent, Finished, KEY, Model, Reply};

fn call(text: &'static str, calls: &[(&'static str, Value)]) -> Reply {
    Reply::Calls(text, calls.iter().map(|(name, it)| (*name, it.to_string())).collect())
}

/// A model that works on a file, makes a mistake, writes broken JSON and floods.
fn script(_: &Value, turn: usize) -> Reply {
    match turn {
        0 => call(
            "I look.",
            &[
                ("Bash", json!({"command": "echo one > a; cd /; pwd"})),
                ("Glob", json!({"pattern": "*"})),
            ],
        ),
        1 => call(
            "",
            &[("Edit", json!({"file_path": "a", "old_string": "one", "new_string": "two"}))],
        ),
        2 => Reply::Calls(
            "",
            vec![
                ("Read", "{\"file_path\": \"a\",}".into()),
                ("Read", "{\"file_path".into()),
                ("fly", "{}".into()),
            ],
        ),
        3 => Reply::Text(""),
        4..12 => call("", &[("Bash", json!({"command": format!("seq -f 'line %g' {turn} 600")}))]),
        _ => Reply::Text("done"),
    }
}

async fn recorded() -> Finished {
    let model = Model::answering(script).await;
    let arguments = ["--context-tokens", "12000", "--temperature", "0.1"];
    let run = Agent::new(&model).prompt("go").args(&arguments).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done"), "{}", run.stderr);
    let sent: Vec<Value> = model.requests().into_iter().map(|it| it.body).collect();
    assert_eq!(rebuilt(&run.events()), sent);
    run
}

/// Every request of a run, from its transcript, checked against the hashes in it.
pub(crate) fn rebuilt(events: &[Value]) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    let (mut tools, mut extra) = (Value::Null, None);
    // Conversations that were put aside for one of a skill: its call, their messages and tools.
    let mut aside: Vec<(Value, Vec<Value>, Value)> = Vec::new();
    let mut requests = Vec::new();
    for (position, event) in events.iter().enumerate() {
        match event["event"].as_str().unwrap() {
            "tools" => tools = event["tools"].as_array().unwrap().iter().map(wire).collect(),
            "message" if event["role"] == "assistant" => {
                messages.push(assistant(event, &events[position + 1..]));
            }
            "message" => {
                // An empty answer leaves the conversation when the model is told of it.
                let empty = json!({"role": "assistant", "content": null});
                messages.pop_if(|last| *last == empty);
                messages.push(json!({"role": event["role"], "content": event["content"]}));
            }
            "fork" => aside.push((
                event["id"].clone(),
                std::mem::take(&mut messages),
                std::mem::take(&mut tools),
            )),
            "tool_result" => {
                if let Some((_, before, with)) = aside.pop_if(|(id, ..)| *id == event["id"]) {
                    (messages, tools) = (before, with);
                }
                add_result(&mut messages, event);
            }
            "summarise" => extra = Some(json!({"role": "user", "content": event["instruction"]})),
            "compaction" => compact(&mut messages, event),
            "request" => {
                let messages: Vec<Value> = messages.iter().cloned().chain(extra.take()).collect();
                assert_eq!(event["messages"], messages.len());
                requests.push(body(event, messages, &tools));
            }
            _ => {}
        }
    }
    requests
}

/// Results of calls that ran at once come in the order in which they were ready; the conversation has that of the calls.
fn add_result(messages: &mut Vec<Value>, result: &Value) {
    let asked = messages.iter().rposition(|it| it["role"] == "assistant").unwrap();
    let calls = messages[asked]["tool_calls"].as_array().unwrap();
    let place = |id: &Value| calls.iter().position(|call| call["id"] == *id).unwrap();
    let own = place(&result["id"]);
    let later = |it: &&Value| place(&it["tool_call_id"]) > own;
    let surplus = messages[asked + 1..].iter().rev().take_while(later).count();
    let message =
        json!({"role": "tool", "tool_call_id": result["id"], "content": result["output"]});
    messages.insert(messages.len() - surplus, message);
}

fn wire(tool: &Value) -> Value {
    json!({"type": "function", "function": tool})
}

/// The body in the order in which it was sent, so that its hash is the same.
fn body(request: &Value, messages: Vec<Value>, tools: &Value) -> Value {
    let mut body = Map::new();
    for (name, value) in request["parameters"].as_object().unwrap() {
        body.insert(name.clone(), value.clone());
        if name == "model" {
            body.insert("messages".into(), messages.clone().into());
            body.insert("tools".into(), tools.clone());
        }
    }
    let hash = Sha256::digest(serde_json::to_vec(&body).unwrap());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request["body_sha256"], hash, "turn {}", request["turn"]);
    body.into()
}

/// A message of the model as it is sent back: the calls as they were understood.
fn assistant(message: &Value, rest: &[Value]) -> Value {
    let content = message["content"].as_str().filter(|it| !it.trim().is_empty());
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| {
            let understood = |it: &&Value| it["event"] == "tool_call" && it["id"] == call["id"];
            let understood = rest.iter().find(understood).unwrap();
            let arguments = understood["arguments"].as_str().unwrap();
            let is_object = serde_json::from_str::<Map<String, Value>>(arguments).is_ok();
            let arguments = if is_object { arguments } else { "{}" };
            json!({"id": call["id"], "type": "function",
                   "function": {"name": sent_name(&understood["name"]), "arguments": arguments}})
        })
        .collect();
    let mut sent = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        sent["tool_calls"] = calls.into();
    }
    sent
}

/// Servers refuse names with other characters, longer ones, and none.
fn sent_name(name: &Value) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.as_str().unwrap().chars().take(64).map(plain).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

fn compact(messages: &mut Vec<Value>, event: &Value) {
    for shortened in event["shortened"].as_array().into_iter().flatten() {
        let message =
            &mut messages[usize::try_from(shortened["message"].as_u64().unwrap()).unwrap()];
        assert_eq!(message["tool_call_id"], shortened["tool_call_id"]);
        message["content"] = shortened["content"].clone();
    }
    if let Some(count) = event["replaced"].as_u64() {
        let summary = json!({"role": "user", "content": event["summary"]});
        messages.splice(1..=usize::try_from(count).unwrap(), [summary]);
    }
}

/// A recording in which the model says again what the transcript says that it said.
fn model_of(events: &[Value]) -> Recording {
    let mut recording =
        Recording::new(Origin { kind: OriginKind::Recorded, note: None, upstream: None });
    for event in events {
        match (event["event"].as_str().unwrap(), event["role"].as_str()) {
            ("message", Some("user")) => {
                // An empty answer and what was said to it are no part of what a new run has to hear.
                let conversation = &mut recording.conversation;
                if conversation.last() == Some(&Entry::Assistant(Answer::default())) {
                    conversation.pop();
                } else {
                    conversation.push(Entry::User(event["content"].as_str().unwrap().into()));
                }
            }
            ("message", Some("assistant")) => {
                recording.conversation.push(Entry::Assistant(answer(event, events)))
            }
            ("tool_result", _) => recording.conversation.push(Entry::Tool(Default::default())),
            _ => {}
        }
    }
    recording
}

fn answer(message: &Value, events: &[Value]) -> Answer {
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tool_calls = calls.iter().map(|call| {
        let understood =
            events.iter().find(|it| it["event"] == "tool_call" && it["id"] == call["id"]).unwrap();
        let arguments = serde_json::from_str(understood["arguments"].as_str().unwrap());
        let name = understood["name"].as_str().unwrap().to_owned();
        ToolCall { name, arguments: arguments.unwrap_or(json!({})) }
    });
    Answer {
        text: message["content"].as_str().unwrap().into(),
        tool_calls: tool_calls.collect(),
        ..Answer::default()
    }
}

fn calls(run: &Finished) -> Vec<(Value, Value)> {
    let broken = |it: &Value| {
        let text = it.as_str().unwrap();
        if serde_json::from_str::<Value>(text).is_ok() { Value::from(text) } else { json!("{}") }
    };
    run.events_of("tool_call")
        .iter()
        .map(|it| (it["name"].clone(), broken(&it["arguments"])))
        .collect()
}

#[tokio::test]
async fn every_request_can_be_rebuilt_from_the_transcript() {
    let run = recorded().await;
    assert!(!run.events_of("compaction").is_empty());
}

/// A call with this id.
fn with_id(id: &str, name: &str, arguments: Value) -> Reply {
    let function = json!({"name": name, "arguments": arguments.to_string()});
    let call = json!({"index": 0, "id": id, "type": "function", "function": function});
    let delta = json!({"role": "assistant", "tool_calls": [call]});
    Reply::Chunks(vec![
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ])
}

#[tokio::test]
async fn conversations_apart_and_further_prompts_can_be_rebuilt_too() {
    let look = || json!({"skill": "look", "args": "around"});
    let bash = |word: &str| json!({"command": format!("echo {word}")});
    // A server that gives every call the same id, and a model that calls what a skill may not.
    let model = Model::start([
        with_id("same", "Skill", look()),
        with_id("same", "Bash", bash("inside")),
        with_id("same", "Skill", look()),
        Reply::Text("I looked."),
        with_id("same", "Bash", bash("outside")),
        Reply::Text("One."),
        with_id("same", "Skill", look()),
        Reply::Text("Again."),
        Reply::Text("Two."),
    ])
    .await;
    let skill = "---\nname: look\ndescription: Looks\ncontext: fork\nallowed-tools: Bash\n---\nLook $ARGUMENTS.\n";
    let agent = Agent::new(&model).prompt("first").file("SKILL.md", skill);
    let folder = agent.workspace.path().display().to_string();
    let mut agent = agent.args(&["--skills-dir", &folder, "--multi-turn"]);
    agent.command().stdin(std::process::Stdio::piped());
    let mut child = agent.spawn();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"second\n").await.unwrap();
    drop(stdin);
    let run = agent.finished(child.wait_with_output().await.unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "One.\nTwo.\n"), "{}", run.stderr);
    let sent: Vec<Value> = model.requests().into_iter().map(|it| it.body).collect();
    assert_eq!(rebuilt(&run.events()), sent);
    let ids: Vec<Value> = run.events_of("tool_call").iter().map(|it| it["id"].clone()).collect();
    let unique: std::collections::HashSet<&Value> = ids.iter().collect();
    assert_eq!((ids.len(), unique.len()), (5, 5), "{ids:?}");
}

#[tokio::test]
async fn a_model_made_from_the_transcript_leads_to_the_same_calls() {
    let run = recorded().await;
    let library = Library::from_recordings(vec![("again.json".into(), model_of(&run.events()))]);
    let config = ReplayConfig { key: Some(KEY.into()), ..ReplayConfig::new([]) };
    let server = ReplayServer::start_with(library, config).await.unwrap();
    let again = Agent::at(&server.url()).prompt("go").run().await;
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "done"), "{}", again.stderr);
    assert_eq!(calls(&again), calls(&run));
}
