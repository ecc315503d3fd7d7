//! How events become rows. What version 2 does in each case was seen on 2.95.12 or read in its code.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Local, PUBLIC, SECRET, settings},
    recorded::psql,
};

#[tokio::test]
async fn fields_that_are_absent_or_null_keep_what_is_stored() {
    let local = Local::start().await;
    let first = json!({ "id": "t", "name": "first", "userId": "u", "metadata": { "a": { "b": 1 } }, "tags": ["z", "a"] });
    let second = json!({ "id": "t", "name": null, "userId": "v", "metadata": { "a": { "c": 2 } }, "tags": ["m", "a"] });
    local.write(&[("trace-create", first)]).await;
    local.write(&[("trace-create", second)]).await;
    let trace = local.get("/api/public/traces/t").await;
    assert_eq!((&trace["name"], &trace["userId"]), (&json!("first"), &json!("v")));
    assert_eq!(trace["metadata"], json!({ "a": { "b": 1, "c": 2 } }));
    assert_eq!(trace["tags"], json!(["a", "m", "z"]));
}

#[tokio::test]
async fn updates_come_after_creates_and_may_create() {
    let local = Local::start().await;
    local
        .write(&[
            (
                "span-update",
                json!({ "id": "s", "traceId": "t", "name": "updated", "output": "late" }),
            ),
            (
                "span-create",
                json!({ "id": "s", "traceId": "t", "name": "created", "input": "early" }),
            ),
            (
                "generation-update",
                json!({ "id": "g", "traceId": "t", "name": "made by an update" }),
            ),
        ])
        .await;
    let span = local.get("/api/public/observations/s").await;
    assert_eq!(
        (&span["name"], &span["input"], &span["output"]),
        (&json!("updated"), &json!("early"), &json!("late"))
    );
    assert_eq!(local.get("/api/public/observations/g").await["type"], "GENERATION");
    // Its trace was never sent, so there is none.
    assert_eq!(local.get("/api/public/traces").await["meta"]["totalItems"], 0);
}

#[tokio::test]
async fn each_item_fails_alone_and_with_its_reason() {
    let local = Local::start().await;
    let answer = local
        .ingest(&[
            ("trace-create", json!({ "id": "good" })),
            ("trace-create", json!({ "id": "bad", "timestamp": "2026-01-02" })),
            ("span-create", json!({ "name": "no id" })),
            ("observation-update", json!({ "id": "none", "type": "SPAN" })),
            ("agent-create", json!({ "id": "version 3" })),
            (
                "score-create",
                json!({ "traceId": "good", "name": "n", "value": "x", "dataType": "NUMERIC" }),
            ),
            (
                "generation-create",
                json!({ "id": "g", "traceId": "good", "usage": { "input": 3_000_000_000_i64 } }),
            ),
            ("sdk-log", json!({ "log": "anything" })),
        ])
        .await;
    let ids = |list: &str| -> Vec<String> {
        answer[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("successes"), ["event-0", "event-7"]);
    let statuses: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["id"].as_str().unwrap(), item["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        statuses,
        [
            ("event-1", 400),
            ("event-2", 400),
            ("event-4", 400),
            ("event-5", 400),
            ("event-6", 500),
            ("event-3", 404)
        ]
    );
    assert_eq!(local.get("/api/public/traces/good").await["id"], "good");
}

#[tokio::test]
async fn usage_and_costs_are_version_2s() {
    let local = Local::start().await;
    let generation = |id: &str, more: Value| {
        let mut body = json!({ "id": id, "traceId": "t", "model": "gpt-4o", "startTime": "2026-01-02T00:00:00Z" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("generation-create", body)
    };
    local
        .write(&[
            ("trace-create", json!({ "id": "t" })),
            generation("priced", json!({ "usage": { "input": 1, "output": 1 } })),
            generation("openai", json!({ "usage": { "promptTokens": 10, "completionTokens": 5, "totalTokens": 15 } })),
            generation("given", json!({ "usage": { "input": 9, "output": 9, "totalCost": 0.003 } })),
            generation("details", json!({ "input": "in", "output": "out", "usageDetails": { "input": 100 }, "costDetails": { "total": 9 } })),
        ])
        .await;
    let get = |id: &'static str| {
        let local = &local;
        async move { local.get(&format!("/api/public/observations/{id}")).await }
    };
    let priced = get("priced").await;
    assert_eq!(
        (&priced["calculatedTotalCost"], &priced["unit"]),
        (&json!(0.00002), &json!("TOKENS"))
    );
    assert_eq!(priced["usage"], json!({ "unit": "TOKENS", "input": 1, "output": 1, "total": 2 }));
    let openai = get("openai").await;
    assert_eq!((&openai["promptTokens"], &openai["totalTokens"]), (&json!(10), &json!(15)));
    assert_eq!(openai["calculatedTotalCost"], json!(0.000125));
    let given = get("given").await;
    assert_eq!(
        (&given["calculatedTotalCost"], &given["calculatedInputCost"]),
        (&json!(0.003), &Value::Null)
    );
    // Version 2 ignores details, and counts itself: one token in, one out, as seen on 2.95.12.
    let details = get("details").await;
    assert_eq!((&details["promptTokens"], &details["completionTokens"]), (&json!(1), &json!(1)));
    assert_eq!(details["calculatedTotalCost"], json!(0.00002));
    // Later tokens of a generation are priced by the model that its first event named.
    let update = json!({ "id": "priced", "usage": { "input": 2, "output": 2 } });
    local.write(&[("generation-update", update)]).await;
    assert_eq!(get("priced").await["calculatedTotalCost"], json!(0.00004));
    let trace = local.get("/api/public/traces/t").await;
    assert_eq!(trace["totalCost"], json!(0.003185));
}

#[tokio::test]
async fn an_id_of_another_project_is_refused_without_a_word() {
    let local = Local::start().await;
    local.write(&[("trace-create", json!({ "id": "theirs", "name": "a" }))]).await;
    let other = settings(local.postgres.url(), "other", ("pk-other", "sk-other"));
    let other = langfuse_local::Server::start(other).await.unwrap();
    let event = json!({ "id": "e", "type": "trace-create", "timestamp": "2026-01-02T00:00:00Z", "body": { "id": "theirs", "name": "b" } });
    let answer = local.http.post(format!("{}/api/public/ingestion", other.url()));
    let answer = answer.basic_auth("pk-other", Some("sk-other")).json(&json!({ "batch": [event] }));
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        answer["errors"],
        json!([{ "id": "e", "status": 500, "error": "Internal Server Error" }])
    );
    assert_eq!(local.get("/api/public/traces/theirs").await["name"], "a");
    other.stop().await.unwrap();
}

#[tokio::test]
async fn batches_that_meet_lose_nothing() {
    let local = Local::start().await;
    let send = |worker: usize| {
        let request = local.request(Method::POST, "/api/public/ingestion");
        let event = |index: usize| {
            json!({ "id": format!("{worker}-{index}"), "type": "trace-create", "timestamp": "2026-01-02T00:00:00Z",
                "body": { "id": format!("t{}", (index * 7 + worker) % 20), "sessionId": "s", "tags": [format!("w{worker:02}")] } })
        };
        let batch: Vec<_> = (0..20).map(event).collect();
        let request = request.basic_auth(PUBLIC, Some(SECRET)).json(&json!({ "batch": batch }));
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        tasks.spawn(send(worker));
    }
    while let Some(answer) = tasks.join_next().await {
        assert_eq!(answer.unwrap()["errors"], json!([]));
    }
    let tags = psql(&local, "SELECT min(array_length(tags, 1)) || ' ' || count(*) FROM traces");
    assert_eq!(tags, "8 20");
    assert_eq!(psql(&local, "SELECT count(*) FROM trace_sessions"), "1");
}

#[tokio::test]
async fn bodies_that_are_none_are_refused_as_version_2_does() {
    let local = Local::start().await;
    let send = |body: String| {
        let request = local.request(Method::POST, "/api/public/ingestion");
        let request =
            request.basic_auth(PUBLIC, Some(SECRET)).header("content-type", "application/json");
        async move {
            let answer = request.body(body).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(send("{".into()).await, (400, "Invalid JSON".into()));
    let (status, text) = send(r#"{"events":[]}"#.into()).await;
    assert_eq!(status, 400);
    assert!(text.starts_with(r#"{"message":"Invalid request data","errors":["#), "{text}");
    let large = format!(r#"{{"batch":[],"metadata":"{}"}}"#, "x".repeat(4_800_000));
    assert_eq!(send(large).await, (413, "Body exceeded 4.5mb limit".into()));
}
