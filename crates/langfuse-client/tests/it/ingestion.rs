//! The queue against servers that refuse, fail, limit and disappear.

use std::time::Duration;

use axum::response::IntoResponse as _;
use langfuse_client::{Error, Event, QueueConfig, ScoreBody, TraceBody};
use serde_json::{Value, json};

use crate::server::{Seen, Server, code, takes_all};

fn trace(id: &str) -> Event {
    Event::trace(TraceBody::new(id))
}

fn ids(seen: &Seen) -> Vec<String> {
    let batch = seen.json()["batch"].as_array().unwrap().clone();
    batch.iter().map(|event| event["body"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn refused_items_are_reported_and_failed_ones_sent_again() {
    let server = Server::of_version("2.95.12").await;
    let queue = server.client().ingestion(QueueConfig::default()).await.unwrap();
    server.then_with(|seen| {
        let id = |index: usize| seen.json()["batch"][index]["id"].clone();
        let body = json!({
            "successes": [{ "id": id(0), "status": 201 }],
            "errors": [
                { "id": id(1), "status": 400, "message": "Invalid request data", "error": "no" },
                { "id": id(2), "status": 500, "error": "Internal Server Error" },
            ],
        });
        (code(207), axum::Json(body)).into_response()
    });
    server.then_with(takes_all);
    for id in ["taken", "refused", "failed once"] {
        queue.send(&trace(id)).await.unwrap();
    }
    let report = queue.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.taken, report.delivered, report.failed, report.pending), (3, 2, 1, 0));
    assert_eq!(report.failures[0].status, Some(400));
    assert_eq!(report.failures[0].message, "Invalid request data: no");
    assert_eq!(ids(&server.sent()[1]), ["failed once"]);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_in_order() {
    let server = Server::of_version("2.95.12").await;
    let queue = server.client().ingestion(QueueConfig::default()).await.unwrap();
    server.then_with(|_| (code(413), "Body exceeded 4.5mb limit").into_response());
    server.then_with(takes_all);
    server.then_with(takes_all);
    for id in ["a", "b", "c"] {
        queue.send(&trace(id)).await.unwrap();
    }
    let report = queue.shutdown(Duration::from_secs(10)).await;
    assert!(report.is_complete(), "{report:?}");
    let sent: Vec<_> = server.sent().iter().map(ids).collect();
    assert_eq!(sent, [vec!["a", "b", "c"], vec!["a"], vec!["b", "c"]]);
}

#[tokio::test]
async fn retry_after_is_waited_for_and_the_same_events_go_again() {
    let server = Server::of_version("2.95.12").await;
    let queue = server.client().ingestion(QueueConfig::default()).await.unwrap();
    server.then_with(|_| {
        (code(429), [("retry-after", "0.05")], "429 - rate limit exceeded").into_response()
    });
    server.then_with(|_| (code(502), "bad gateway").into_response());
    server.then_with(takes_all);
    let began = std::time::Instant::now();
    queue.send(&trace("a")).await.unwrap();
    let report = queue.shutdown(Duration::from_secs(10)).await;
    assert!(report.is_complete(), "{report:?}");
    assert!(began.elapsed() >= Duration::from_millis(50));
    let sent = server.sent();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].body, sent[2].body);
}

#[tokio::test]
async fn a_server_that_stays_away_costs_the_events_and_says_so() {
    let server = Server::of_version("2.95.12").await;
    let queue = server.client().ingestion(QueueConfig::default()).await.unwrap();
    for _ in 0..5 {
        server.then_with(|_| (code(503), "down").into_response());
    }
    queue.send(&trace("a")).await.unwrap();
    let report = queue.flush().await;
    assert_eq!((report.failed, report.failures[0].status), (1, Some(503)));
    assert!(report.failures[0].message.contains("after 5 attempts"), "{report:?}");
}

#[tokio::test]
async fn version_4_gets_scores_and_nothing_that_it_would_drop() {
    let server = Server::of_version("4.16.0").await;
    let queue = server.client().ingestion(QueueConfig::default()).await.unwrap();
    let error = queue.send(&trace("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    server.then_with(takes_all);
    queue.score(ScoreBody::numeric("ok", 1.0).of_trace("a")).await.unwrap();
    let report = queue.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.taken, report.delivered), (1, 1));
    let sent: Value = server.sent()[0].json();
    assert_eq!(sent["batch"][0]["type"], "score-create");
}
