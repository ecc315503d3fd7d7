//! What we send for a job, beside what the official SDK 2.60.10 sent for the same job, field by field.

use std::{collections::BTreeMap, fs, path::Path};

use axum::response::IntoResponse as _;
use jiff::Timestamp;
use langfuse_client::{
    Event, Level, NewDataset, NewDatasetItem, NewDatasetRunItem, ObservationBody, ObservationKind,
    ScoreBody, TraceBody, Usage,
};
use serde_json::{Value, json};

use crate::server::{Server, takes_all};

fn recorded(sdk: &str, file: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/langfuse-sdk");
    let text = fs::read_to_string(root.join(sdk).join(format!("{file}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn at(second: u32, millisecond: u32) -> Option<Timestamp> {
    Some(format!("2026-01-02T03:04:{second:02}.{millisecond:03}Z").parse().unwrap())
}

fn observation(id: &str, name: &str) -> ObservationBody {
    let mut body = ObservationBody::new("trace-sdk2-1", id);
    body.name = Some(name.into());
    body.environment = Some("staging".into());
    body
}

fn change(id: &str) -> ObservationBody {
    ObservationBody::new("trace-sdk2-1", id)
}

/// The job that the SDK did.
fn events() -> Vec<Event> {
    let mut trace = TraceBody::new("trace-sdk2-1");
    trace.timestamp = at(5, 678);
    trace.name = Some("eval-run".into());
    trace.user_id = Some("u1".into());
    trace.input = Some(json!({ "q": "hi" }));
    trace.session_id = Some("sess-1".into());
    trace.release = Some("rel-1".into());
    trace.version = Some("v1".into());
    trace.metadata = Some(json!({ "k": 1 }));
    trace.tags = Some(vec!["b".into(), "a".into()]);
    trace.environment = Some("staging".into());

    let mut span = observation("span-sdk2-1", "retrieval");
    (span.start_time, span.input) = (at(6, 678), Some(json!({ "a": 1 })));
    let mut span_end = change("span-sdk2-1");
    (span_end.end_time, span_end.output) = (at(7, 678), Some(json!({ "b": 2 })));

    let mut generation = observation("gen-sdk2-1", "llm");
    generation.start_time = at(6, 678);
    generation.completion_start_time = at(6, 928);
    generation.input = Some(json!([{ "role": "user", "content": "hi" }]));
    generation.parent_observation_id = Some("span-sdk2-1".into());
    generation.model = Some("gpt-4o".into());
    let parameters = [("temperature", json!("0.5")), ("max_tokens", json!(100))];
    generation.model_parameters =
        Some(parameters.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    let mut generation_end = change("gen-sdk2-1");
    generation_end.end_time = at(7, 678);
    generation_end.output = Some(json!({ "role": "assistant", "content": "hello" }));
    generation_end.usage = Some(Usage {
        input: Some(10.0),
        output: Some(5.0),
        total: Some(15.0),
        unit: Some("TOKENS".into()),
        input_cost: Some(0.001),
        output_cost: Some(0.002),
        total_cost: Some(0.003),
        ..Usage::default()
    });

    let mut second = observation("gen-sdk2-2", "llm2");
    (second.start_time, second.end_time) = (at(7, 678), at(9, 678));
    (second.input, second.output) = (Some(json!("in")), Some(json!("out")));
    (second.level, second.status_message) = (Some(Level::Warning), Some("slow".into()));
    second.model = Some("gpt-4o".into());
    let tokens = [("input", 100), ("output", 50), ("cache_read_input_tokens", 7)];
    second.usage_details = Some(tokens.map(|(key, count)| (key.to_owned(), count)).into());
    let dollars = [("input", 0.01), ("output", 0.02), ("total", 0.03)];
    second.cost_details = Some(dollars.map(|(key, cost)| (key.to_owned(), cost)).into());

    let mut event = observation("ev-sdk2-1", "evt");
    (event.start_time, event.input) = (at(8, 678), Some(json!("x")));
    let mut trace_end = TraceBody::new("trace-sdk2-1");
    trace_end.output = Some(json!({ "ans": "hello" }));

    let score = |id: &str, mut score: ScoreBody| {
        score.id = id.into();
        score.environment = Some("staging".into());
        Event::score(score)
    };
    let mut accuracy = ScoreBody::numeric("accuracy", 0.9).of_trace("trace-sdk2-1");
    accuracy.comment = Some("ok".into());
    let verdict =
        ScoreBody::categorical("verdict", "good").of_observation("trace-sdk2-1", "gen-sdk2-1");
    let passed = ScoreBody::boolean("passed", true).of_trace("trace-sdk2-1");
    use ObservationKind::{Event as Moment, Generation, Span};
    vec![
        Event::trace(trace),
        Event::create(Span, span),
        Event::update(Span, span_end),
        Event::create(Generation, generation),
        Event::update(Generation, generation_end),
        Event::create(Generation, second),
        Event::create(Moment, event),
        Event::trace(trace_end),
        score("score-sdk2-1", accuracy),
        score("score-sdk2-2", verdict),
        score("score-sdk2-3", passed),
    ]
}

/// Event ids and times of sending are each sender's own; everything else must be equal.
fn without_own(mut body: Value) -> Value {
    for event in body["batch"].as_array_mut().unwrap() {
        let id = event["id"].as_str().unwrap();
        assert_eq!(id.len(), 36, "an event's id is a UUID: {id}");
        let time = event["timestamp"].as_str().unwrap();
        assert_eq!(time.len(), "2026-11-23T09:11:52.811021Z".len(), "{time}");
        event["id"] = "own".into();
        event["timestamp"] = "own".into();
    }
    body["metadata"]["sdk_name"] = "own".into();
    body["metadata"]["sdk_version"] = "own".into();
    body
}

/// Header names that matter to the server, with `_` as `-`: SDK 2 writes underscores, which proxies drop.
fn identity(headers: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let ours = |name: &str| name.starts_with("x-langfuse") || name == "content-type";
    headers
        .map(|(name, value)| (name.to_lowercase().replace('_', "-"), value))
        .filter(|(name, _)| ours(name))
        .filter(|(name, _)| name != "x-langfuse-sdk-name" && name != "x-langfuse-sdk-version")
        .collect()
}

fn recorded_headers(recording: &Value) -> BTreeMap<String, String> {
    let headers = recording["headers"].as_object().unwrap().iter();
    identity(headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())))
}

#[tokio::test]
async fn ingestion_is_what_sdk_2_sends() {
    let recording = recorded("python-sdk-2.60.10", "001_POST_api_public_ingestion");
    let server = Server::start().await;
    server.then_with(takes_all);
    let answer = server.client().ingest(&events()).await.unwrap();
    assert_eq!((answer.successes.len(), answer.errors.len()), (11, 0));
    let seen = server.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/api/public/ingestion"));
    assert_eq!(without_own(seen.json()), without_own(recording["body"].clone()));
    let basic = "Basic cGstbGYtcmVzZWFyY2g6c2stbGYtcmVzZWFyY2g=";
    assert_eq!(seen.header("authorization"), Some(basic));
    assert_eq!(identity(seen.headers.clone().into_iter()), recorded_headers(&recording));
}

/// The SDK writes `null` where it has nothing; absent means the same.
fn without_nulls(mut body: Value) -> Value {
    body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    body
}

#[tokio::test]
async fn datasets_are_what_sdk_2_sends() {
    let server = Server::of_version("2.95.12").await;
    let client = server.client();
    // What is answered does not matter here; what is asked does.
    for _ in 0..6 {
        server.then_with(|_| axum::Json(json!({})).into_response());
    }
    let dataset = NewDataset {
        name: "ds-sdk2".into(),
        description: Some("d".into()),
        metadata: Some(json!({ "x": 1 })),
    };
    client.server().await.unwrap();
    let _ = client.create_dataset(&dataset).await;
    let mut item = NewDatasetItem::new("ds-sdk2", "item-sdk2-B");
    item.input = Some(json!({ "q": 1 }));
    item.expected_output = Some(json!({ "a": 1 }));
    item.metadata = Some(json!({ "m": 1 }));
    let _ = client.create_dataset_item(&item).await;
    let _ = client.dataset("ds-sdk2").await;
    let link = NewDatasetRunItem {
        run_name: "run-1".into(),
        run_description: Some("first".into()),
        metadata: Some(json!({ "model": "m" })),
        dataset_item_id: "item-sdk2-B".into(),
        trace_id: "trace-sdk2-1".into(),
        observation_id: None,
    };
    let _ = client.create_dataset_run_item(&link).await;
    let _ = client.projects().await;

    let files = [
        "002_POST_api_public_v2_datasets",
        "003_POST_api_public_dataset_items",
        "004_GET_api_public_v2_datasets_ds_sdk2",
        "006_POST_api_public_dataset_run_items",
        "007_GET_api_public_projects",
    ];
    let sent = server.sent();
    assert_eq!(sent.len(), files.len());
    for (seen, file) in sent.iter().zip(files) {
        let recording = recorded("python-sdk-2.60.10", file);
        assert_eq!(seen.method, recording["method"]);
        assert_eq!(seen.target, recording["raw_target"]);
        assert_eq!(
            identity(seen.headers.clone().into_iter()),
            recorded_headers(&recording),
            "{file}"
        );
        if seen.method == "POST" {
            assert_eq!(
                without_nulls(seen.json()),
                without_nulls(recording["body"].clone()),
                "{file}"
            );
        }
    }
}

/// Scores of SDK 4 go by ingestion; its events differ from SDK 2's in nothing but the fields that version 3 added.
#[tokio::test]
async fn scores_are_what_sdk_4_sends() {
    let recording = recorded("python-sdk-4.12.0", "002_POST_api_public_ingestion");
    let batch = recording["body"]["batch"].as_array().unwrap();
    let id = |index: usize, key: &str| batch[index]["body"][key].as_str().unwrap().to_owned();
    let mut verdict = ScoreBody::categorical("verdict", "good")
        .of_observation(id(0, "traceId"), id(0, "observationId"));
    verdict.id = id(0, "id").into();
    let mut accuracy = ScoreBody::numeric("accuracy", 0.9).of_trace(id(1, "traceId"));
    accuracy.id = id(1, "id").into();
    (accuracy.comment, accuracy.metadata) = (Some("ok".into()), Some(json!({ "m": 1 })));
    let mut passed = ScoreBody::boolean("passed", true).of_trace(id(2, "traceId"));
    passed.id = id(2, "id").into();
    let mut session = ScoreBody::numeric("sess", 0.1).of_session("sess-1");
    (session.id, session.data_type) = (id(3, "id").into(), None);
    let scores = [verdict, accuracy, passed, session].map(|mut score| {
        score.environment = Some("staging".into());
        Event::score(score)
    });

    let server = Server::start().await;
    server.then_with(takes_all);
    server.client().ingest(&scores).await.unwrap();
    let bodies = |batch: &Value| -> Vec<Value> {
        batch.as_array().unwrap().iter().map(|event| event["body"].clone()).collect()
    };
    let sent = server.seen().remove(0).json();
    assert_eq!(bodies(&sent["batch"]), bodies(&recording["body"]["batch"]));
}
