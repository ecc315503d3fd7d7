use std::{collections::BTreeMap, fs, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::ingestion::Level;

#[test]
fn an_id_that_protobuf_cannot_carry_is_refused_with_the_way_out() {
    let trace = TraceBody::new("trace of version 2");
    let observation = ObservationBody::new("trace of version 2", "00f067aa0ba902b7");
    let kind = ObservationKind::Span;
    let record = SpanRecord { trace: &trace, kind, observation: &observation, experiment: None };
    let span = span::Span::from(&record);
    let error = proto::span(&span).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the id `trace of version 2` is not of 32 hex digits; send such ids as JSON: `Encoding::Json`"
    );
    assert_eq!(json::span(&span)["traceId"], "trace of version 2");
}

/// The three spans of a recording, built from the same job by this crate.
fn records(spans: &[Value]) -> (TraceBody, Vec<(ObservationKind, ObservationBody)>) {
    let text = |span: &Value, key: &str| span[key].as_str().unwrap().to_owned();
    let time = |span: &Value, key: &str| {
        let nanoseconds: i128 = text(span, key).parse().unwrap();
        Some(Timestamp::from_nanosecond(nanoseconds).unwrap())
    };
    let mut trace = TraceBody::new(text(&spans[0], "traceId"));
    trace.user_id = Some("u1".into());
    trace.session_id = Some("sess-1".into());
    trace.metadata = Some(json!({ "k": "1" }));
    trace.version = Some("v1".into());
    trace.release = Some("rel-1".into());
    trace.environment = Some("staging".into());
    trace.tags = Some(vec!["b".into(), "a".into()]);
    trace.name = Some("eval-run".into());
    let observations = spans.iter().map(|span| {
        let mut body = ObservationBody::new(text(span, "traceId"), text(span, "spanId"));
        body.parent_observation_id = Some(text(span, "parentSpanId").into());
        body.start_time = time(span, "startTimeUnixNano");
        body.end_time = time(span, "endTimeUnixNano");
        body.name = Some(text(span, "name"));
        let kind = match body.name.as_deref().unwrap() {
            "llm" => generation(&mut body, span),
            "evt" => {
                body.input = Some("x".into());
                (body.level, body.status_message) = (Some(Level::Warning), Some("slow".into()));
                ObservationKind::Event
            }
            _ => {
                body.input = Some(json!({ "a": 1 }));
                body.output = Some(json!({ "b": 2 }));
                ObservationKind::Span
            }
        };
        (kind, body)
    });
    let observations = observations.collect();
    (trace, observations)
}

fn generation(body: &mut ObservationBody, span: &Value) -> ObservationKind {
    body.input = Some(json!([{ "role": "user", "content": "hi" }]));
    body.output = Some(json!({ "role": "assistant", "content": "hello" }));
    body.model = Some("gpt-4o".into());
    let parameters = [("temperature", json!(0.5)), ("max_tokens", json!(100))];
    let named = parameters.map(|(key, value)| (key.to_owned(), value));
    body.model_parameters = Some(named.into());
    body.metadata = Some(json!({ "n": 1, "s": "x" }));
    let tokens = [("input", 10), ("output", 5), ("total", 15), ("cache_read_input_tokens", 7)];
    body.usage_details = Some(tokens.map(|(key, count)| (key.to_owned(), count)).into());
    let dollars = [("input", 0.001), ("output", 0.002), ("total", 0.003)];
    body.cost_details = Some(dollars.map(|(key, cost)| (key.to_owned(), cost)).into());
    let first = &attributes_of(span)["langfuse.observation.completion_start_time"];
    body.completion_start_time = Some(first.as_str().unwrap().parse().unwrap());
    ObservationKind::Generation
}

/// Attributes by name. JSON in text is compared as JSON: SDKs put blanks into it, SDK 5 also quotes metadata.
fn attributes_of(span: &Value) -> BTreeMap<String, Value> {
    let attributes = span["attributes"].as_array().unwrap().iter();
    fn decoded(text: &str) -> Value {
        match serde_json::from_str(text) {
            Ok(Value::String(inner)) => decoded(&inner),
            Ok(value) => value,
            Err(_) => text.into(),
        }
    }
    let value =
        |value: &Value| value["stringValue"].as_str().map_or_else(|| value.clone(), decoded);
    // SDKs 3 and 4 write numbers of metadata as numbers, SDK 5 as text.
    let plain = |value: Value| match value["intValue"].as_str() {
        Some(number) => number.parse::<i64>().unwrap().into(),
        None => value,
    };
    attributes
        .map(|it| (it["key"].as_str().unwrap().to_owned(), plain(value(&it["value"]))))
        // The SDK's own notes on which span began the trace; ours says so of a span without a parent.
        .filter(|(key, _)| !key.starts_with("langfuse.internal."))
        // One SDK call of the recorded job made the trace public after its first spans had gone.
        .filter(|(key, _)| key != "langfuse.trace.public")
        // SDK 3 leaves the release to the resource.
        .filter(|(key, _)| key != "langfuse.release")
        .collect()
}

#[test]
fn spans_are_what_the_sdks_send() {
    for sdk in ["3.15.0", "4.12.0", "5.0.4"] {
        let file = format!("python-sdk-{sdk}/001_POST_api_public_otel_v1_traces.json");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/langfuse-sdk");
        let recording: Value = serde_json::from_slice(&fs::read(root.join(file)).unwrap()).unwrap();
        let scope = &recording["body"]["resourceSpans"][0]["scopeSpans"][0];
        assert_eq!(scope["scope"]["name"], "langfuse-sdk");
        let theirs = scope["spans"].as_array().unwrap();
        let (trace, observations) = records(theirs);
        for ((kind, observation), theirs) in observations.iter().zip(theirs) {
            let record = SpanRecord { trace: &trace, kind: *kind, observation, experiment: None };
            let span = span::Span::from(&record);
            let ours = json::span(&span);
            assert_eq!(attributes_of(&ours), attributes_of(theirs), "{sdk}");
            let fields = [
                "traceId",
                "spanId",
                "parentSpanId",
                "name",
                "startTimeUnixNano",
                "endTimeUnixNano",
                "flags",
                "status",
            ];
            for field in fields {
                assert_eq!(ours[field], theirs[field], "{sdk} {field}");
            }
            assert_eq!(proto::decoded(&proto::span(&span).unwrap()), ours, "{sdk}");
        }
    }
}

#[test]
fn a_run_of_sdk_5_is_written_by_the_same_attributes() {
    let file = "python-sdk-5.0.4/008_POST_api_public_otel_v1_traces.json";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/langfuse-sdk");
    let recording: Value = serde_json::from_slice(&fs::read(root.join(file)).unwrap()).unwrap();
    let theirs = &recording["body"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let experiment = Experiment {
        id: "f7ca1d716ac01843".into(),
        name: "run-1".into(),
        description: Some("first".into()),
        metadata: Some(json!({ "model": "m" })),
        dataset_id: Some("dsid-ds-sdk5".into()),
        item_id: "item-sdk5-1".into(),
        item_expected_output: Some(json!({ "a": 1 })),
        item_metadata: Some(json!({ "m": 1 })),
        root_observation_id: "8b2cacfb7c6c9f29".into(),
    };
    let trace = TraceBody::new("2763053b6e79f5f9e6dbf2a64b74f612");
    let observation = ObservationBody::new(trace.id.clone(), "8b2cacfb7c6c9f29");
    let kind = ObservationKind::Span;
    let experiment = Some(&experiment);
    let record = SpanRecord { trace: &trace, kind, observation: &observation, experiment };
    let only = |span: &Value| -> BTreeMap<String, Value> {
        let all = attributes_of(span).into_iter();
        all.filter(|(key, _)| key.starts_with("langfuse.experiment.")).collect()
    };
    assert_eq!(only(&json::span(&span::Span::from(&record))), only(theirs));
}
