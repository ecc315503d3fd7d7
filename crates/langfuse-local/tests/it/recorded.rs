//! The requests that the official SDK 2.60.10 sent, sent again byte for byte.

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Local;

fn recordings() -> Vec<Value> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/langfuse-sdk/python-sdk-2.60.10");
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn everything_that_sdk_2_sent_is_answered_as_version_2_did() {
    let local = Local::start().await;
    for recording in recordings() {
        let method: Method = recording["method"].as_str().unwrap().parse().unwrap();
        let target = recording["raw_target"].as_str().unwrap();
        let body = Some(&recording["body"]).filter(|body| !body.is_null());
        let (status, answer) = local.send(method, target, body).await;
        assert_eq!(status, recording["answered"], "{target}: {answer}");
        if target.ends_with("/ingestion") {
            assert_eq!(answer["errors"], json!([]));
            assert_eq!(answer["successes"].as_array().unwrap().len(), 11);
        }
    }

    let trace = local.get("/api/public/traces/trace-sdk2-1").await;
    insta::assert_json_snapshot!(trace, {
        ".createdAt" => "[time]", ".updatedAt" => "[time]",
        ".observations[].createdAt" => "[time]", ".observations[].updatedAt" => "[time]",
        ".scores[].timestamp" => "[time]", ".scores[].createdAt" => "[time]", ".scores[].updatedAt" => "[time]",
    });
    let run = local.get("/api/public/datasets/ds-sdk2/runs/run-1").await;
    assert_eq!(run["datasetRunItems"][0]["traceId"], "trace-sdk2-1");
    assert_eq!(run["metadata"], json!({ "model": "m" }));
}

#[tokio::test]
async fn the_same_batch_again_changes_nothing() {
    let local = Local::start().await;
    let batch = &recordings()[0]["body"];
    let count = "SELECT (SELECT count(*) FROM traces) || ' ' || (SELECT count(*) FROM observations) || ' ' || (SELECT count(*) FROM scores)";
    let mut seen = Vec::new();
    for _ in 0..3 {
        local.post("/api/public/ingestion", batch).await;
        let mut trace = local.get("/api/public/traces/trace-sdk2-1").await;
        strip(&mut trace);
        seen.push((trace, psql(&local, count)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[0].1, "1 4 3");
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| key != "updatedAt");
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// SQL by `psql`, as a person would ask the real version 2's database.
pub(crate) fn psql(local: &Local, sql: &str) -> String {
    let output = std::process::Command::new("psql")
        .arg(local.postgres.url().replace("%2F", "%2f"))
        .args(["-XAt", "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
