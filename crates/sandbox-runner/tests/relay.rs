//! The relay against a server on loopback that says what it got.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, body::Body, extract::Request, http::StatusCode, response::IntoResponse};
use eval_types::{TrialKey, Variant};
use futures::StreamExt;
use sandbox_runner::{
    Error, Secret,
    relay::{Registration, Relay, RelayServer, Upstream},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

const KEY: &str = "sk-real-key-of-the-test";

async fn serve(routes: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

fn key_of(request: &Request) -> String {
    let header = request.headers().get("authorization");
    header.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// A model's server: `/v1/models` wants the key, `/v1/completions` repeats it in an error.
async fn model() -> SocketAddr {
    let echo = |request: Request| async move {
        let status = if request.uri().path().ends_with("completions") { 400 } else { 200 };
        let said = json!({
            "got": format!("{} {} {}", request.method(), request.uri(), key_of(&request)),
            "cookie": request.headers().contains_key("cookie"),
        });
        (StatusCode::from_u16(status).unwrap(), Json(said))
    };
    let models = |request: Request| async move {
        if key_of(&request) == format!("Bearer {KEY}") {
            Json(json!({"data": [{"id": "m", "owned_by": "test"}]})).into_response()
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    };
    serve(Router::new().route("/v1/models", axum::routing::get(models)).fallback(echo)).await
}

fn upstream(address: SocketAddr, key: &str) -> Upstream {
    Upstream::new(&format!("http://{address}"), Some(Secret::new(key))).unwrap()
}

fn trial() -> TrialKey {
    TrialKey::new("a".parse().unwrap(), Variant::Baseline)
}

fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy();
    client.tls_backend_preconfigured(tls_config::client_config()).build().unwrap()
}

#[tokio::test]
async fn the_token_is_taken_and_the_real_key_is_sent() {
    let relay = Relay::start(upstream(model().await, KEY)).await.unwrap();
    let (secret, token) = relay.grant(&trial(), None).unwrap();
    let url = format!("http://{}/v1/embeddings?x=1", relay.address());
    let call = || client().post(&url).bearer_auth(secret.expose()).header("cookie", "a=b");
    let text = call().send().await.unwrap().text().await.unwrap();
    // Masked on its way back: so it was the real key that the server repeated.
    assert_eq!(text, r#"{"got":"POST /v1/embeddings Bearer ****","cookie":false}"#);
    drop(token);
    assert_eq!(call().send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_trial_s_own_key_is_sent_in_the_place_of_the_run_s() {
    let relay = Relay::start(upstream(model().await, KEY)).await.unwrap();
    let (secret, _token) = relay.grant(&trial(), Some(Secret::new("sk-own-0123456789"))).unwrap();
    let url = format!("http://{}/v1/embeddings", relay.address());
    let text = client().post(&url).bearer_auth(secret.expose()).send().await.unwrap();
    // Only the key that was sent is masked on its way back.
    let text = text.text().await.unwrap();
    assert_eq!(text, r#"{"got":"POST /v1/embeddings Bearer ****","cookie":false}"#);
}

#[tokio::test]
async fn only_the_paths_of_the_api_pass() {
    let relay = Relay::start(upstream(model().await, KEY)).await.unwrap();
    let (secret, _token) = relay.grant(&trial(), None).unwrap();
    let paths =
        ["/key/generate", "/v1/files", "/v1/models/../../key", "//v1/models", "/v1/models/"];
    for path in paths {
        let url = format!("http://{}{path}", relay.address());
        let answer = client().get(url).bearer_auth(secret.expose()).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let url = format!("http://{}/v1/chat/completions", relay.address());
    let answer = client().delete(url).bearer_auth(secret.expose()).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn an_error_that_repeats_the_key_loses_it() {
    let relay = Relay::start(upstream(model().await, KEY)).await.unwrap();
    let (secret, _token) = relay.grant(&trial(), None).unwrap();
    let url = format!("http://{}/v1/chat/completions", relay.address());
    let answer = client().post(url).bearer_auth(secret.expose()).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("Bearer ****") && !text.contains(KEY), "{text}");
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece() {
    let (send, receive) = mpsc::unbounded_channel::<Result<&'static str, std::io::Error>>();
    let receive = Arc::new(Mutex::new(Some(receive)));
    let routes = Router::new().fallback(move || {
        let stream = UnboundedReceiverStream::new(receive.lock().unwrap().take().unwrap());
        async { Body::from_stream(stream) }
    });
    let relay = Relay::start(upstream(serve(routes).await, KEY)).await.unwrap();
    let (secret, _token) = relay.grant(&trial(), None).unwrap();
    let url = format!("http://{}/v1/chat/completions", relay.address());
    send.send(Ok("data: one\n\n")).unwrap();
    let answer = client().post(url).bearer_auth(secret.expose()).send().await.unwrap();
    let mut pieces = answer.bytes_stream();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "data: one\n\n");
    send.send(Ok("data: two\n\n")).unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "data: two\n\n");
    drop(send);
    assert!(pieces.next().await.is_none());
}

#[tokio::test]
async fn a_model_that_does_not_answer_is_a_bad_gateway() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relay = Relay::start(upstream(address, KEY)).await.unwrap();
    let (secret, _token) = relay.grant(&trial(), None).unwrap();
    let url = format!("http://{}/v1/chat/completions", relay.address());
    let answer = client().post(url).bearer_auth(secret.expose()).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let error = upstream(address, KEY).probe().await.unwrap_err();
    assert!(matches!(error, Error::ModelUnreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_model_are_one_clear_line_each() {
    let address = model().await;
    let wrong = upstream(address, "sk-wrong").probe().await.unwrap_err();
    let right = upstream(address, KEY);
    let unknown = right.probe().await.unwrap().require(&right, "gpt-9").unwrap_err();
    let said = format!("{wrong}\n{unknown}").replace(&address.to_string(), "HOST");
    insta::assert_snapshot!(said, @r"
    http://HOST/v1 refuses the key (status 401): check OPENAI_API_KEY
    http://HOST/v1 knows no model `gpt-9`; it has m
    ");
}

#[tokio::test]
async fn keys_and_tokens_are_not_printed() {
    let relay = Relay::start(upstream(model().await, KEY)).await.unwrap();
    let (secret, token) = relay.grant(&trial(), None).unwrap();
    let printed = format!("{relay:?} {token:?} {secret:?} {:?}", upstream(relay.address(), KEY));
    assert!(!printed.contains(KEY) && !printed.contains(secret.expose()));
}

#[tokio::test]
async fn a_relay_is_registered_under_the_name_that_the_server_gives() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let routes = Router::new().fallback(move |request: Request| {
        let headers = request.headers();
        let known = headers.contains_key("x-modal-token-id")
            && headers.contains_key("x-modal-token-secret");
        log.lock().unwrap().push(format!("{} {} {known}", request.method(), request.uri()));
        async { Json(json!({"id": "r1", "host": "abc.relay.internal", "port": 8080})) }
    });
    let server = RelayServer {
        url: format!("http://{}", serve(routes).await),
        token_id: "ak-1".into(),
        token_secret: Secret::new("as-0123456789"),
    };
    assert!(!format!("{server:?}").contains("as-0123456789"));
    let target = "127.0.0.1:4000".parse().unwrap();
    let registration = Registration::new(server, target).await.unwrap();
    let address = ("abc.relay.internal".to_owned(), 8080);
    assert_eq!(registration.address().await.unwrap(), address);
    assert_eq!(*seen.lock().unwrap(), ["POST /_local/relays true", "PUT /_local/relays/r1 true"]);
}
