//! Lists, filters and pages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Local, PUBLIC, SECRET};

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

async fn with_traces() -> Local {
    let local = Local::start().await;
    let trace = |number: usize| {
        let body = json!({
            "id": format!("t{number}"), "timestamp": format!("2026-01-0{}T00:00:00Z", number + 1),
            "name": if number.is_multiple_of(2) { "even" } else { "odd" }, "userId": format!("u{}", number % 3),
            "sessionId": "s", "tags": if number < 3 { json!(["x", "y"]) } else { json!(["y"]) }, "version": "1", "release": "r",
        });
        ("trace-create", body)
    };
    let events: Vec<_> = (0..7).map(trace).collect();
    local.write(&events).await;
    local
}

#[tokio::test]
async fn traces_are_filtered_ordered_and_paged() {
    let local = with_traces().await;
    let list = |query: &'static str| {
        let local = &local;
        async move { local.get(&format!("/api/public/traces?{query}")).await }
    };
    assert_eq!(ids(&list("").await), ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]);
    assert_eq!(ids(&list("orderBy=timestamp.asc&limit=2&page=2").await), ["t2", "t3"]);
    assert_eq!(
        list("limit=2").await["meta"],
        json!({ "page": 1, "limit": 2, "totalItems": 7, "totalPages": 4 })
    );
    assert_eq!(ids(&list("name=odd&userId=u0").await), ["t3"]);
    assert_eq!(ids(&list("tags=x&tags=y").await), ["t2", "t1", "t0"]);
    assert_eq!(
        ids(&list("fromTimestamp=2026-01-02T00:00:00Z&toTimestamp=2026-01-04T00:00:00Z").await),
        ["t2", "t1"]
    );
    assert_eq!(ids(&list("sessionId=s&version=1&release=r&limit=1").await), ["t6"]);
    assert_eq!(ids(&list("sessionId=none").await), Vec::<&str>::new());
    // Version 2's own odd ways, seen on 2.95.12.
    assert_eq!(list("limit=0").await["meta"]["totalPages"], Value::Null);
    let status = |query: &'static str| {
        let local = &local;
        async move { local.send(Method::GET, &format!("/api/public/traces?{query}"), None).await.0 }
    };
    assert_eq!(status("page=0").await, 500);
    assert_eq!(status("orderBy=nonsense.asc").await, 500);
    assert_eq!(status("limit=101").await, 400);
    assert_eq!(status("limit=x").await, 400);
    assert_eq!(status("fromTimestamp=2026-01-02").await, 400);
}

#[tokio::test]
async fn observations_sessions_and_scores_are_listed() {
    let local = with_traces().await;
    local
        .write(&[
            ("span-create", json!({ "id": "s", "traceId": "t1", "name": "n", "startTime": "2026-01-02T00:00:00Z", "endTime": "2026-01-02T00:00:02.500Z" })),
            ("generation-create", json!({ "id": "g", "traceId": "t1", "parentObservationId": "s", "startTime": "2026-01-02T00:00:01Z", "completionStartTime": "2026-01-02T00:00:01.250Z" })),
            ("event-create", json!({ "id": "e", "traceId": "t2", "startTime": "2026-01-03T00:00:00Z" })),
            ("score-create", json!({ "id": "c1", "traceId": "t1", "observationId": "g", "name": "ok", "value": 1, "dataType": "BOOLEAN" })),
            ("score-create", json!({ "id": "c2", "traceId": "t2", "name": "quality", "value": 0.5, "comment": "so so" })),
            ("score-create", json!({ "id": "c3", "traceId": "missing", "name": "verdict", "value": "good" })),
        ])
        .await;
    let list = |path: &'static str| {
        let local = &local;
        async move { local.get(&format!("/api/public/{path}")).await }
    };
    assert_eq!(ids(&list("observations").await), ["e", "g", "s"]);
    assert_eq!(ids(&list("observations?traceId=t1&type=SPAN").await), ["s"]);
    assert_eq!(ids(&list("observations?parentObservationId=s").await), ["g"]);
    assert_eq!(ids(&list("observations?userId=u2").await), ["e"]);
    assert_eq!(
        ids(&list(
            "observations?fromStartTime=2026-01-02T00:00:01Z&toStartTime=2026-01-03T00:00:00Z"
        )
        .await),
        ["g"]
    );
    let span = list("observations/s").await;
    assert_eq!(span["latency"], json!(2.5));
    assert_eq!(list("observations/g").await["timeToFirstToken"], json!(0.25));

    assert_eq!(ids(&list("sessions").await), ["s"]);
    assert_eq!(list("sessions/s").await["traces"].as_array().unwrap().len(), 7);

    assert_eq!(list("scores").await["meta"]["totalItems"], 3);
    assert_eq!(ids(&list("scores?name=ok").await), ["c1"]);
    assert_eq!(ids(&list("scores?operator=%3E%3D&value=0.5&dataType=NUMERIC").await), ["c2"]);
    assert_eq!(ids(&list("scores?scoreIds=c1,c3&name=verdict").await), ["c3"]);
    assert_eq!(ids(&list("scores?userId=u1").await), ["c1"]);
    assert_eq!(ids(&list("scores?traceTags=x&traceTags=y&name=quality").await), ["c2"]);
    let score = list("scores?name=ok").await["data"][0].clone();
    assert_eq!((&score["value"], &score["stringValue"]), (&json!(1), &json!("True")));
    assert_eq!(score["trace"], json!({ "userId": "u1", "tags": ["x", "y"] }));

    let (status, made) = local
        .post("/api/public/scores", &json!({ "traceId": "t1", "name": "by hand", "value": 2 }))
        .await;
    assert_eq!(status, 200, "{made}");
    let path = format!("/api/public/scores/{}", made["id"].as_str().unwrap());
    assert_eq!(local.get(&path).await["name"], "by hand");
    assert_eq!(local.send(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(local.send(Method::DELETE, &path, None).await.0, 404);
    assert_eq!(
        local.post("/api/public/scores", &json!({ "name": "of nothing", "value": 2 })).await.0,
        400
    );
}

#[tokio::test]
async fn days_are_summed_by_model() {
    let local = Local::start().await;
    let generation = |id: &str, day: u32, tokens: u32| {
        let body = json!({ "id": id, "traceId": format!("t{day}"), "model": "gpt-4o", "startTime": format!("2026-01-0{day}T12:00:00Z"),
            "usage": { "input": tokens, "output": tokens } });
        ("generation-create", body)
    };
    local
        .write(&[
            ("trace-create", json!({ "id": "t1", "timestamp": "2026-01-01T10:00:00Z", "name": "a" })),
            ("trace-create", json!({ "id": "t2", "timestamp": "2026-01-02T10:00:00Z", "name": "b", "tags": ["x"] })),
            generation("g1", 1, 10),
            generation("g2", 1, 20),
            generation("g3", 2, 1),
            ("span-create", json!({ "id": "s", "traceId": "t2", "startTime": "2026-01-02T11:00:00Z" })),
        ])
        .await;
    insta::assert_json_snapshot!(local.get("/api/public/metrics/daily").await);
    let filtered = local.get("/api/public/metrics/daily?traceName=b&tags=x").await;
    assert_eq!(filtered["data"][0]["date"], "2026-01-02");
    assert_eq!(filtered["meta"]["totalItems"], 1);
}

#[tokio::test]
async fn datasets_models_and_prompts_are_kept() {
    let local = Local::start().await;
    let (status, dataset) = local
        .post("/api/public/v2/datasets", &json!({ "name": "folder/d 2", "metadata": { "a": 1 } }))
        .await;
    assert_eq!(status, 200, "{dataset}");
    assert_eq!(local.get("/api/public/v2/datasets/folder%2Fd%202").await["id"], dataset["id"]);
    let item = json!({ "datasetName": "folder/d 2", "id": "i", "input": { "q": 1 } });
    assert_eq!(local.post("/api/public/dataset-items", &item).await.1["status"], "ACTIVE");
    let change = json!({ "datasetName": "folder/d 2", "id": "i", "status": "ARCHIVED" });
    let changed = local.post("/api/public/dataset-items", &change).await.1;
    assert_eq!((&changed["status"], &changed["input"]), (&json!("ARCHIVED"), &json!({ "q": 1 })));
    let missing = json!({ "datasetName": "none", "id": "j" });
    assert_eq!(local.post("/api/public/dataset-items", &missing).await.0, 404);
    local.post("/api/public/v2/datasets", &json!({ "name": "other" })).await;
    let stolen = json!({ "datasetName": "other", "id": "i" });
    assert_eq!(
        local.post("/api/public/dataset-items", &stolen).await,
        (200, json!({ "datasetName": "other" }))
    );
    assert_eq!(
        local.get("/api/public/dataset-items?datasetName=other").await["meta"]["totalItems"],
        0
    );

    let model = json!({ "modelName": "mine", "matchPattern": "(?i)^(mine)$", "unit": "TOKENS", "inputPrice": 0.001, "outputPrice": 0.002 });
    let (_, made) = local.post("/api/public/models", &model).await;
    assert_eq!(made["isLangfuseManaged"], false);
    let broken = json!({ "modelName": "b", "matchPattern": "(" });
    assert_eq!(local.post("/api/public/models", &broken).await.0, 400);
    let usage = json!({ "input": 2, "output": 1 });
    local
        .write(&[("generation-create", json!({ "id": "g", "model": "MINE", "usage": usage }))])
        .await;
    assert_eq!(local.get("/api/public/observations/g").await["calculatedTotalCost"], json!(0.004));
    let path = format!("/api/public/models/{}", made["id"].as_str().unwrap());
    assert_eq!(local.send(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(local.send(Method::DELETE, &path, None).await.0, 404);

    let prompt = |text: &str| json!({ "name": "p", "type": "text", "prompt": text, "labels": ["production"], "tags": ["t"] });
    assert_eq!(local.post("/api/public/v2/prompts", &prompt("one")).await.0, 201);
    let second = local.post("/api/public/v2/prompts", &prompt("two")).await.1;
    assert_eq!(
        (&second["version"], &second["labels"]),
        (&json!(2), &json!(["latest", "production"]))
    );
    assert_eq!(local.get("/api/public/v2/prompts/p").await["prompt"], "two");
    let first = local.get("/api/public/v2/prompts/p?version=1").await;
    assert_eq!((&first["prompt"], &first["labels"]), (&json!("one"), &json!([])));
    let listed = local.get("/api/public/v2/prompts").await;
    assert_eq!(listed["data"][0]["versions"], json!([1, 2]));
    assert_eq!(listed["pagination"], listed["meta"]);
    let chat = json!({ "name": "c", "type": "chat", "prompt": "no messages" });
    assert_eq!(local.post("/api/public/v2/prompts", &chat).await.0, 400);
    local
        .write(&[(
            "generation-create",
            json!({ "id": "h", "promptName": "p", "promptVersion": 1 }),
        )])
        .await;
    assert_eq!(local.get("/api/public/observations/h").await["promptName"], "p");
}

#[tokio::test]
async fn a_person_can_look_at_a_trace() {
    let local = Local::start().await;
    local.write(&[("trace-create", json!({ "id": "t", "name": "<b>bold</b>" }))]).await;
    let path = local.get("/api/public/traces/t").await["htmlPath"].as_str().unwrap().to_owned();
    let asked = local.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(asked.status(), 401);
    assert!(asked.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let shown =
        local.request(Method::GET, &path).basic_auth(PUBLIC, Some(SECRET)).send().await.unwrap();
    assert!(
        shown.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let page = shown.text().await.unwrap();
    assert!(page.contains("&lt;b&gt;bold&lt;/b&gt;") && !page.contains("<b>bold"), "{page}");
    let all =
        local.request(Method::GET, "/").basic_auth(PUBLIC, Some(SECRET)).send().await.unwrap();
    assert!(all.text().await.unwrap().contains(r#"href="/project/project/traces/t""#));
}
