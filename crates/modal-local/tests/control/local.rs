//! What only this server has: relays, substitutions, garbage.

use modal_proto::client::{BlobCreateRequest, ObjectCreationType, VolumeGetOrCreateRequest};
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer, http};

async fn admin(server: &TestServer, method: &str, path: &str, body: Value) -> Answer {
    let token = server.server().token();
    let headers = [
        ("x-modal-token-id", token.id.as_str()),
        ("x-modal-token-secret", token.secret.expose()),
        ("content-type", "application/json"),
    ];
    let url = format!("{}{path}", server.url());
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    http(method, &url, &headers, &body).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn a_relay_is_registered_renewed_and_removed() {
    let server = TestServer::start().await;
    let made = admin(&server, "POST", "/_local/relays", json!({"target": "127.0.0.1:4000"})).await;
    assert_eq!(made.status, 200);
    let relay = json_of(&made);
    assert_eq!(relay["port"], 4000);
    assert!(relay["host"].as_str().unwrap().ends_with(".relay.internal"));
    let path = format!("/_local/relays/{}", relay["id"].as_str().unwrap());
    assert_eq!(json_of(&admin(&server, "PUT", &path, Value::Null).await), relay);
    assert_eq!(admin(&server, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(admin(&server, "PUT", &path, Value::Null).await.status, 404);
    for target in ["8.8.8.8:80", "127.0.0.1", "x"] {
        let refused = admin(&server, "POST", "/_local/relays", json!({"target": target})).await;
        assert!((400..500).contains(&refused.status), "{target}");
    }
}

#[tokio::test]
async fn substitutions_are_replaced_as_a_whole() {
    let server = TestServer::start().await;
    let table = |name: &str, command: &str| {
        json!({"substitutions": [{
            "matches": name, "dockerfile_commands": [command], "reason": "no GPU here",
        }]})
    };
    let path = "/_local/substitutions";
    let one = table("vllm/vllm-openai:v0.11.0", "FROM python:3.12-slim");
    assert_eq!(admin(&server, "PUT", path, one).await.status, 204);
    let two = table("nvidia/cuda:12", "FROM debian:bookworm");
    assert_eq!(admin(&server, "PUT", path, two.clone()).await.status, 204);
    let bad = table("x", "RUN rm -rf /");
    assert_eq!(admin(&server, "PUT", path, bad).await.status, 400);
    assert_eq!(json_of(&admin(&server, "GET", path, Value::Null).await), two);
    let status = json_of(&admin(&server, "GET", "/_local/status", Value::Null).await);
    assert_eq!(status["substitutions"], two["substitutions"]);
}

#[tokio::test]
async fn a_collection_takes_the_trash_and_leaves_the_rest() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let request = VolumeGetOrCreateRequest {
        deployment_name: "kept".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing as i32,
        ..Default::default()
    };
    let id = client.volume_get_or_create(request).await.unwrap().into_inner().volume_id;
    client.blob_create(BlobCreateRequest::default()).await.unwrap();
    let trash = server.dir.path().join("trash");
    std::fs::create_dir_all(trash.join("dir/deep")).unwrap();
    std::fs::write(trash.join("dir/deep/file"), "12345").unwrap();
    let collected = json_of(&admin(&server, "POST", "/_local/gc", Value::Null).await);
    assert_eq!((&collected["directories"], &collected["bytes"]), (&json!(1), &json!(5)));
    assert_eq!(std::fs::read_dir(&trash).unwrap().count(), 0);
    assert!(server.dir.path().join("volumes").join(id).exists());
}
