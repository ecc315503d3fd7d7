//! Conversations over HTTP: replayed, missed, recorded and replayed again.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{net::Ipv4Addr, path::PathBuf};

use llm_replay::{
    Answer, Entry, Failure, Library, Origin, OriginKind, RecordConfig, RecordServer, Recording,
    ReplayConfig, ReplayServer, ToolCall, ToolResult,
};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn scripted(conversation: Vec<Entry>) -> Recording {
    let mut recording =
        Recording::new(Origin { kind: OriginKind::Scripted, note: None, upstream: None });
    recording.conversation = conversation;
    recording
}

fn listing() -> Recording {
    scripted(vec![
        Entry::User("List {{dir}}".into()),
        Entry::Assistant(Answer {
            tool_calls: vec![ToolCall { name: "Bash".into(), arguments: json!({"command": "ls"}) }],
            ..Answer::default()
        }),
        Entry::Tool(ToolResult { matches: Some(r"(?P<file>\w+\.txt)".into()), recorded: None }),
        Entry::Assistant(Answer { text: "{{dir}} holds {{file}}".into(), ..Answer::default() }),
    ])
}

async fn serve(recordings: Vec<Recording>) -> ReplayServer {
    let named = recordings.into_iter().enumerate().map(|(i, r)| (format!("r{i}.json"), r));
    let library = Library::from_recordings(named.collect());
    ReplayServer::start_with(library, ReplayConfig::new([])).await.unwrap()
}

async fn ask(url: &str, body: &Value) -> (u16, String) {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config::client_config())
        .build()
        .unwrap();
    let response = http.post(format!("{url}/chat/completions")).json(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// A failure that happens once and says nothing.
fn failure_of(status: u16) -> Failure {
    serde_json::from_value(json!({"status": status})).unwrap()
}

#[tokio::test]
async fn a_failure_can_last_until_the_request_changes_and_a_stream_be_sent_as_written() {
    let refusal = json!({"detail": "no temperature"});
    let failure = Failure {
        body: Some(refusal.clone()),
        unless: json!({"temperature": null}).as_object().unwrap().clone(),
        ..failure_of(400)
    };
    let cut = Failure { chunks: vec![json!({"error": "gone"}), json!("[END]")], ..failure_of(200) };
    let answer = Answer { text: "hi".into(), chunks: vec![json!({"odd": 1})], ..Answer::default() };
    let server = serve(vec![scripted(vec![
        Entry::User("go".into()),
        Entry::Failure(failure),
        Entry::Failure(cut),
        Entry::Assistant(answer),
    ])])
    .await;
    let mut request = json!({"model": "m", "stream": true, "temperature": 1,
        "messages": [{"role": "user", "content": "go"}]});
    for _ in 0..2 {
        assert_eq!(ask(&server.url(), &request).await, (400, refusal.to_string()));
    }
    request.as_object_mut().unwrap().remove("temperature");
    let (_, body) = ask(&server.url(), &request).await;
    assert_eq!(body, "data: {\"error\":\"gone\"}\n\ndata: [END]\n\n");
    let (_, body) = ask(&server.url(), &request).await;
    assert_eq!(body, "data: {\"odd\":1}\n\ndata: [DONE]\n\n");
}

fn first_turn() -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "List\n/tmp"}]},
    ]})
}

fn second_turn(result: &str) -> Value {
    let mut request = first_turn();
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "x", "type": "function", "function": {"name": "Bash", "arguments": "{ \"command\" : \"ls\"}"}}]}));
    messages.push(json!({"role": "tool", "tool_call_id": "x", "content": result}));
    request
}

#[tokio::test]
async fn values_of_the_last_tool_result_are_inserted() {
    let server = serve(vec![listing()]).await;
    let (status, body) = ask(&server.url(), &second_turn("planted_7f3.txt\n")).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "/tmp holds planted_7f3.txt");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_stream_says_the_same_in_pieces() {
    let server = serve(vec![listing()]).await;
    let mut request = first_turn();
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let (_, body) = ask(&server.url(), &request).await;
    let chunks: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let arguments: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"command":"ls"}"#);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    assert!(chunks[chunks.len() - 1]["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert!(body.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_miss_names_the_nearest_recording_and_the_difference() {
    let other = scripted(vec![
        Entry::User("Something else".into()),
        Entry::Assistant(Answer { text: "no".into(), ..Answer::default() }),
    ]);
    let server = serve(vec![other, listing()]).await;
    let (status, body) = ask(&server.url(), &second_turn("nothing here")).await;
    assert_eq!(status, 422);
    let body: Value = serde_json::from_str(&body).unwrap();
    insta::assert_snapshot!(body["error"]["message"].as_str().unwrap(), @r"
    no recording answers this request; the nearest, `r1.json`, differs at message 2:
      recorded:  tool: a result that matches /(?P<file>\w+\.txt)/
      requested: tool: nothing here
    ");
}

#[tokio::test]
async fn a_recorded_failure_happens_as_often_as_it_says() {
    let mut recording = listing();
    let failure = Failure {
        status: 429,
        retry_after: Some(0),
        message: "slow down".into(),
        times: 2,
        ..failure_of(429)
    };
    recording.conversation.insert(1, Entry::Failure(failure));
    let server = serve(vec![recording]).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(ask(&server.url(), &first_turn()).await.0);
    }
    assert_eq!(seen, [429, 429, 200]);
    assert_eq!(ask(&server.url(), &second_turn("a.txt")).await.0, 200);
}

#[tokio::test]
async fn a_key_is_asked_for_where_one_is_set() {
    let library = Library::from_recordings(vec![("r.json".into(), listing())]);
    let config = ReplayConfig { key: Some("right".into()), ..ReplayConfig::new([]) };
    let server = ReplayServer::start_with(library, config).await.unwrap();
    assert_eq!(ask(&server.url(), &first_turn()).await.0, 401);
}

/// What was said is no template, whatever it looks like.
#[tokio::test]
async fn braces_of_a_conversation_are_recorded_as_they_are() {
    let said = "What is ${{ github.ref }} and {{x}}, {{x}}?";
    let answer = Answer { text: r"A template: \{{x}}".into(), ..Answer::default() };
    let upstream =
        serve(vec![scripted(vec![Entry::User("{{said}}".into()), Entry::Assistant(answer)])]).await;
    let directory = tempfile::tempdir().unwrap();
    let recorder = RecordServer::start(RecordConfig {
        upstream: upstream.url().parse().unwrap(),
        key: None,
        token: None,
        directory: directory.path().to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
    })
    .await
    .unwrap();
    let request = json!({"model": "m", "messages": [{"role": "user", "content": said}]});
    ask(&recorder.url(), &request).await;
    wait_for_answers(directory.path(), 1).await;
    let config = ReplayConfig::new([directory.path().to_owned()]);
    let server = ReplayServer::start(config).await.unwrap();
    let (status, body) = ask(&server.url(), &request).await;
    assert!(status == 200 && body.contains("A template: {{x}}"), "{body}");
    let other =
        json!({"model": "m", "messages": [{"role": "user", "content": said.replace("x", "y")}]});
    assert_eq!(ask(&server.url(), &other).await.0, 422);
}

#[tokio::test]
async fn the_recorder_asks_for_its_token() {
    let upstream = serve(vec![listing()]).await;
    let directory = tempfile::tempdir().unwrap();
    let recorder = RecordServer::start(RecordConfig {
        upstream: upstream.url().parse().unwrap(),
        key: None,
        token: Some("right".to_owned().into()),
        directory: directory.path().to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
    })
    .await
    .unwrap();
    assert_eq!(ask(&recorder.url(), &first_turn()).await.0, 401);
}

#[tokio::test]
async fn what_is_recorded_replays_and_holds_no_key() {
    let upstream = serve(vec![listing()]).await;
    let directory = tempfile::tempdir().unwrap();
    let recorder = RecordServer::start(RecordConfig {
        upstream: upstream.url().parse().unwrap(),
        key: Some("sk-planted-4711".to_owned().into()),
        token: None,
        directory: directory.path().to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
    })
    .await
    .unwrap();
    ask(&recorder.url(), &first_turn()).await;
    let mut last = second_turn("a.txt sk-planted-4711");
    last["stream"] = json!(true);
    let (_, live) = ask(&recorder.url(), &last).await;
    assert!(live.contains("[DONE]"));
    let text = wait_for_answers(directory.path(), 2).await;
    assert!(!text.contains("sk-planted"), "{text}");

    let server =
        ReplayServer::start(ReplayConfig::new([directory.path().to_owned()])).await.unwrap();
    let (status, body) = ask(&server.url(), &second_turn("something else")).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("/tmp holds a.txt"), "{body}");
}

/// The one file of `directory` once it holds `count` answers: it is written after the answer was sent.
async fn wait_for_answers(directory: &std::path::Path, count: usize) -> String {
    for _ in 0..500 {
        let files: Vec<_> = directory.read_dir().unwrap().map(|f| f.unwrap().path()).collect();
        if let [file] = files.as_slice() {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.matches("\"assistant\"").count() == count {
                return text;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no recording with {count} answers appeared");
}

#[tokio::test]
async fn every_task_of_the_benchmarks_has_a_conversation() {
    let server =
        ReplayServer::start(ReplayConfig::new([fixtures().join("llm/smoke")])).await.unwrap();
    for name in ["smoke", "example"] {
        let text =
            std::fs::read_to_string(fixtures().join(format!("benchmarks/{name}.json"))).unwrap();
        let tasks: Vec<Value> = serde_json::from_str(&text).unwrap();
        for task in tasks {
            let request = json!({"model": "m",
                "messages": [{"role": "user", "content": task["prompt"]}]});
            let (status, body) = ask(&server.url(), &request).await;
            assert_eq!(status, 200, "{}: {body}", task["id"]);
        }
    }
}

#[test]
fn a_file_that_is_no_recording_is_named_with_its_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"format": "llm-replay/1", "origin": {"kind": "dreamt"}}"#)
        .unwrap();
    let error = Recording::read(file.path()).unwrap_err();
    assert!(error.to_string().contains("is not a recording"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("dreamt"));
}
