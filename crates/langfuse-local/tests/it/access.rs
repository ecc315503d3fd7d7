//! Keys, and what is not served.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Local, PUBLIC, SECRET, settings},
    recorded::psql,
};

#[tokio::test]
async fn every_endpoint_wants_both_keys() {
    let local = Local::start().await;
    let paths = [
        (Method::GET, "projects"),
        (Method::GET, "traces"),
        (Method::GET, "traces/t"),
        (Method::POST, "traces"),
        (Method::GET, "observations"),
        (Method::GET, "observations/o"),
        (Method::GET, "sessions"),
        (Method::GET, "sessions/s"),
        (Method::GET, "scores"),
        (Method::POST, "scores"),
        (Method::GET, "scores/s"),
        (Method::DELETE, "scores/s"),
        (Method::GET, "v2/datasets"),
        (Method::POST, "v2/datasets"),
        (Method::GET, "v2/datasets/d"),
        (Method::GET, "dataset-items"),
        (Method::POST, "dataset-items"),
        (Method::GET, "dataset-items/i"),
        (Method::POST, "dataset-run-items"),
        (Method::GET, "datasets/d/runs"),
        (Method::GET, "datasets/d/runs/r"),
        (Method::GET, "metrics/daily"),
        (Method::GET, "models"),
        (Method::POST, "models"),
        (Method::GET, "models/m"),
        (Method::DELETE, "models/m"),
        (Method::GET, "v2/prompts"),
        (Method::POST, "v2/prompts"),
        (Method::GET, "v2/prompts/p"),
        (Method::POST, "ingestion"),
    ];
    for (method, path) in paths {
        let request = || local.request(method.clone(), &format!("/api/public/{path}"));
        for asked in [
            request(),
            request().basic_auth(PUBLIC, Some("wrong")),
            request().basic_auth("pk-none", Some(SECRET)),
            request().bearer_auth("pk-none"),
            request().header("authorization", "Basic %%%"),
        ] {
            let answer = asked.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{method} {path}");
            let body: Value = answer.json().await.unwrap();
            assert!(body["message"].is_string(), "{body}");
            assert_eq!(body.get("error").is_some(), path == "ingestion", "{body}");
        }
    }
    let health: Value = local
        .request(Method::GET, "/api/public/health")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(health, json!({ "status": "OK", "version": "2.95.12" }));
}

#[tokio::test]
async fn the_public_key_alone_writes_scores_and_nothing_else() {
    let local = Local::start().await;
    let post = |path: &str, body: Value| {
        let request = local
            .request(Method::POST, &format!("/api/public/{path}"))
            .bearer_auth(PUBLIC)
            .json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    assert_eq!(post("scores", json!({ "traceId": "t", "name": "n", "value": 1 })).await.0, 200);
    let event = |kind: &str, body: Value| json!({ "id": kind, "type": kind, "timestamp": "2026-01-02T00:00:00Z", "body": body });
    let batch = json!({ "batch": [event("trace-create", json!({ "id": "t" })), event("score-create", json!({ "traceId": "t", "name": "n", "value": 1 }))] });
    let (status, answer) = post("ingestion", batch).await;
    assert_eq!(status, 207);
    assert_eq!(answer["successes"][0]["id"], "score-create");
    assert_eq!(answer["errors"][0]["id"], "trace-create");
    assert_eq!(post("v2/datasets", json!({ "name": "d" })).await.0, 401);
    let read =
        local.request(Method::GET, "/api/public/scores").bearer_auth(PUBLIC).send().await.unwrap();
    assert_eq!(read.status(), 401);
}

#[tokio::test]
async fn keys_are_stored_as_version_2_stores_them() {
    let local = Local::start().await;
    let row = psql(
        &local,
        "SELECT display_secret_key, left(hashed_secret_key, 7), fast_hashed_secret_key FROM api_keys",
    );
    // printf %s "sk-lf-test-1234$(printf %s pepper | sha256sum | cut -c-64)" | sha256sum
    let fast = fast_hash();
    assert_eq!(row, format!("sk-lf-...1234|$2b$11$|{fast}"));
    // With the salt of now, the slow hash is not asked: this one would take every secret's time, and fail.
    psql(
        &local,
        "UPDATE api_keys SET hashed_secret_key = '$2b$31$' || substr(hashed_secret_key, 8)",
    );
    let wrong = local.request(Method::GET, "/api/public/projects");
    let wrong = wrong.basic_auth(PUBLIC, Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    psql(
        &local,
        "UPDATE api_keys SET hashed_secret_key = '$2b$11$' || substr(hashed_secret_key, 8)",
    );
    // Another salt: the slow hash still knows the key, and the fast one is written anew.
    let mut salted = settings(local.postgres.url(), "project", (PUBLIC, "sk-another"));
    salted.salt = langfuse_local::Secret::new("salt");
    let salted = langfuse_local::Server::start(salted).await.unwrap();
    let ask = |secret: &'static str| {
        let request = local.http.get(format!("{}/api/public/projects", salted.url()));
        let request = request.basic_auth(PUBLIC, Some(secret));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    // The keys that exist are left as they are.
    assert_eq!(ask("sk-another").await, 401);
    assert_eq!(ask(SECRET).await, 200);
    assert_ne!(psql(&local, "SELECT fast_hashed_secret_key FROM api_keys"), fast);
    salted.stop().await.unwrap();
}

fn fast_hash() -> String {
    let sum = |text: &str| {
        let mut child = std::process::Command::new("sha256sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
    };
    sum(&format!("{SECRET}{}", sum("pepper")))
}

#[tokio::test]
async fn what_is_not_served_says_so_and_what_version_2_lacks_is_its_page() {
    let local = Local::start().await;
    for path in ["comments", "media", "media/m", "score-configs", "score-configs/c"] {
        let (status, body) = local.send(Method::GET, &format!("/api/public/{path}"), None).await;
        assert_eq!(status, 501, "{path}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(&format!("GET /api/public/{path};")), "{message}");
    }
    for (method, path) in [
        (Method::POST, "otel/v1/traces"),
        (Method::GET, "v2/observations?limit=1"),
        (Method::GET, "nonsense"),
    ] {
        let request = local.request(method, &format!("/api/public/{path}"));
        let answer = request.basic_auth(PUBLIC, Some(SECRET)).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert!(
            answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"),
            "{path}"
        );
    }
    let (status, _) = local.send(Method::DELETE, "/api/public/traces/t", None).await;
    assert_eq!(status, 405);
}
