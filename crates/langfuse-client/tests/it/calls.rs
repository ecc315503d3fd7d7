//! Versions, pages, cursors, errors, and what is sent again.

use axum::response::IntoResponse as _;
use futures::TryStreamExt as _;
use langfuse_client::{
    ApiVersion, Encoding, Error, NewDatasetRunItem, ObservationBody, ObservationFilter,
    ObservationKind, QueueConfig, TraceBody, TraceFilter,
    otlp::{SpanRecord, SpanWriter},
};
use serde_json::{Value, json};

use crate::server::{Server, code};

#[tokio::test]
async fn the_version_is_found_out_once() {
    for (version, api) in
        [("2.95.12", ApiVersion::V2), ("3.225.4", ApiVersion::V3), ("4.16.0", ApiVersion::V4)]
    {
        let server = Server::of_version(version).await;
        let client = server.client();
        assert_eq!(client.api().await.unwrap(), api);
        assert_eq!(client.server().await.unwrap().version, version);
        assert_eq!(server.seen()[0].header("authorization"), None);
        assert_eq!(server.seen().len(), if api == ApiVersion::V2 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn version_4_in_the_write_mode_of_3_is_read_as_3() {
    let server = Server::start().await;
    server.then(200, json!({ "status": "OK", "version": "4.16.0" }));
    server.then(404, json!({ "message": "only available in a Langfuse v4 write mode" }));
    assert_eq!(server.client().api().await.unwrap(), ApiVersion::V3);
}

fn row(id: u32) -> Value {
    json!({ "id": format!("t{id}"), "timestamp": "2026-01-02T03:04:05.678Z", "observations": ["o"], "new": id })
}

#[tokio::test]
async fn pages_follow_each_other_and_unknown_fields_stay() {
    let server = Server::of_version("2.95.12").await;
    let page = |page: u32, rows: Vec<Value>| {
        let meta = json!({ "page": page, "limit": 100, "totalItems": 3, "totalPages": 2 });
        json!({ "data": rows, "meta": meta })
    };
    server.then(200, page(1, vec![row(1), row(2)]));
    server.then(200, page(2, vec![row(3)]));
    let filter = TraceFilter { tags: vec!["a b".into(), "c".into()], ..TraceFilter::default() };
    let traces: Vec<_> = server.client().traces(filter).try_collect().await.unwrap();
    let ids: Vec<_> = traces.iter().map(|trace| trace.id.as_str()).collect();
    assert_eq!(ids, ["t1", "t2", "t3"]);
    assert_eq!(traces[2].extra["new"], 3);
    let sent = server.sent();
    assert_eq!(sent[0].target, "/api/public/traces?tags=a+b&tags=c&page=1&limit=100");
    assert_eq!(sent[1].target, "/api/public/traces?tags=a+b&tags=c&page=2&limit=100");
}

#[tokio::test]
async fn cursors_are_followed_to_the_end_and_an_error_ends_a_stream() {
    let server = Server::of_version("4.16.0").await;
    let row = |id: &str| json!({ "id": id, "traceId": "t", "type": "SPAN", "startTime": "2026-01-02T03:04:05Z" });
    server.then(200, json!({ "data": [row("a")], "meta": { "cursor": "next" } }));
    server.then(200, json!({ "data": [row("b")], "meta": {} }));
    let client = server.client();
    let filter = ObservationFilter::of_trace("t".into());
    let rows: Vec<_> = client.observations(filter.clone()).try_collect().await.unwrap();
    assert_eq!(rows.len(), 2);
    let target = &server.sent()[1].target;
    assert!(target.contains("expand") || target.contains("fields=core%2Cbasic"), "{target}");
    assert!(target.ends_with("limit=1000&cursor=next"), "{target}");
    server.then(400, json!({ "message": "Invalid request data", "error": [] }));
    let mut stream = client.observations(filter);
    let error = stream.try_next().await.unwrap_err();
    assert_eq!(
        format!("{error}: {}", std::error::Error::source(&error).unwrap()),
        "failed to list observations: the server refused the request: the server answered 400: Invalid request data; []"
    );
    assert!(stream.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_version_lacks_is_an_error_with_the_way_out() {
    let server = Server::of_version("4.16.0").await;
    let client = server.client();
    let error = client.traces(TraceFilter::default()).try_next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to list traces: Langfuse 4 has no such endpoint; list observations and group them by trace"
    );
    let server = Server::of_version("2.95.12").await;
    let error = server.client().spans(QueueConfig::default(), Encoding::Json).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { version: ApiVersion::V2, .. }), "{error}");
}

#[tokio::test]
async fn ids_and_names_are_encoded_once() {
    let server = Server::start().await;
    server.then(404, json!({ "message": "Dataset not found", "error": "LangfuseNotFoundError" }));
    let error = server.client().dataset("folder/d 2%").await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(server.seen()[0].target, "/api/public/v2/datasets/folder%2Fd%202%25");
}

#[tokio::test]
async fn what_would_be_made_twice_is_not_sent_again() {
    let server = Server::of_version("2.95.12").await;
    let client = server.client();
    let link = NewDatasetRunItem {
        run_name: "r".into(),
        run_description: None,
        metadata: None,
        dataset_item_id: "i".into(),
        trace_id: "t".into(),
        observation_id: None,
    };
    client.server().await.unwrap();
    server.then_with(|_| (code(502), "bad gateway").into_response());
    let error = client.create_dataset_run_item(&link).await.unwrap_err();
    assert_eq!(error.status(), Some(502));
    assert_eq!(server.sent().len(), 1);
}

#[tokio::test]
async fn no_error_shows_a_key() {
    let server = Server::start().await;
    server.then(401, json!({ "message": "Invalid credentials" }));
    let error = server.client().projects().await.unwrap_err();
    assert!(matches!(error, Error::Auth { .. }));
    assert!(!format!("{error:?}").contains("sk-lf"), "{error:?}");
    drop(server);
}

#[tokio::test]
async fn spans_go_zipped_with_the_header_of_version_4_only() {
    for (version, header) in [("3.225.4", None), ("4.16.0", Some("4"))] {
        let server = Server::of_version(version).await;
        let spans = server.client().spans(QueueConfig::default(), Encoding::Json).await.unwrap();
        let (trace, observation) = (TraceBody::new("t"), ObservationBody::new("t", "o"));
        let kind = ObservationKind::Tool;
        let span = SpanRecord { trace: &trace, kind, observation: &observation, experiment: None };
        // The server answers with its queue's job, whatever it was asked.
        server.then(200, json!({ "payload": { "data": {} } }));
        spans.send(&span).await.unwrap();
        let report = spans.shutdown(std::time::Duration::from_secs(10)).await;
        assert!(report.is_complete() && report.delivered == 1, "{report:?}");
        let seen = server.sent().remove(0);
        assert_eq!(seen.target, "/api/public/otel/v1/traces");
        assert_eq!(seen.header("content-encoding"), Some("gzip"));
        assert_eq!(seen.header("x-langfuse-ingestion-version"), header);
    }
}

#[tokio::test]
async fn spans_of_others_go_on_with_the_headers_of_who_wrote_them() {
    let server = Server::start().await;
    server.then(200, json!({ "id": "job" }));
    let writer = SpanWriter {
        sdk_name: Some("python".into()),
        sdk_version: Some("4.18.0".into()),
        ingestion_version: Some("4".into()),
    };
    server.client().export_written(&["ab".into(), "c".into()], &writer).await.unwrap();
    let sent = &server.sent()[0];
    assert_eq!(sent.target, "/api/public/otel/v1/traces");
    let header = |name: &str| sent.header(name).unwrap();
    assert_eq!(header("x-langfuse-sdk-name"), "python");
    assert_eq!(header("x-langfuse-sdk-version"), "4.18.0");
    assert_eq!(header("x-langfuse-ingestion-version"), "4");
    assert_eq!(header("content-encoding"), "gzip");
    assert!(header("authorization").starts_with("Basic "));
}
