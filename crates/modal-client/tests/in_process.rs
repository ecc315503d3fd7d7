//! A client whose server is a service in this process, layers around connections, and the raw stubs.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use futures::FutureExt as _;
use modal_client::{Client, Config, GrpcService, proto::client as api};
use support::raw::{Answer, Call, in_process, serve};
use tonic::Status;

fn config() -> Config {
    Config::new("http://nobody-listens.invalid", "ak-test", "as-test")
}

/// Answers with a workspace's name from the third attempt on, and keeps what it was asked with.
fn third_time(seen: Arc<Mutex<Vec<[String; 3]>>>) -> impl Fn(Call) -> Answer + Send + Sync {
    move |call| {
        let header = |name| call.header(name).unwrap_or_default().to_owned();
        let mut seen = seen.lock().unwrap();
        seen.push([call.method.clone(), header("x-idempotency-key"), header("x-modal-token-id")]);
        if seen.len() < 3 {
            return Answer::fail(Status::unavailable("not yet"));
        }
        Answer::one(&api::WorkspaceNameLookupResponse {
            username: "team".to_owned(),
            ..Default::default()
        })
    }
}

#[tokio::test]
async fn a_service_in_this_process_answers_instead_of_a_connection() {
    let service = in_process(|call| {
        assert_eq!(call.method, "AppGetOrCreate");
        async {
            Answer::one(&api::AppGetOrCreateResponse {
                app_id: "ap-1".to_owned(),
                ..Default::default()
            })
        }
        .boxed()
    });
    let client = Client::builder(config()).in_process(service).connect().await.unwrap();
    assert_eq!(client.app("x").await.unwrap().id.as_str(), "ap-1");
}

#[tokio::test]
async fn raw_stubs_say_who_asks_and_are_repeated_with_one_key() {
    let seen: Arc<Mutex<Vec<[String; 3]>>> = Arc::default();
    let answer = third_time(Arc::clone(&seen));
    let service = in_process(move |call| {
        let answer = answer(call);
        async move { answer }.boxed()
    });
    let client = Client::builder(config()).in_process(service).connect().await.unwrap();
    let answer = client.raw().workspace_name_lookup(()).await.unwrap().into_inner();
    assert_eq!(answer.username, "team");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter().all(|call| *call == seen[0] && call[1].len() == 36 && call[2] == "ak-test")
    );
}

#[tokio::test]
async fn raw_stubs_give_up_with_the_servers_own_status() {
    let service = in_process(|_| async { Answer::fail(Status::not_found("no such app")) }.boxed());
    let client = Client::builder(config()).in_process(service).connect().await.unwrap();
    let query = api::AppGetLayoutRequest { app_id: "ap-1".to_owned() };
    let status = client.raw().app_get_layout(query).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "no such app"));
}

#[tokio::test]
async fn raw_streams_pass_through() {
    let service = in_process(|call| {
        assert!(call.header("x-modal-token-id").is_some() && call.method == "DictContents");
        let entry = |key: &str| {
            let entry = api::DictEntry { key: key.into(), value: Vec::new() };
            prost::Message::encode_to_vec(&entry).into()
        };
        let answer = Answer::many([entry("a"), entry("b")]);
        async { answer }.boxed()
    });
    let client = Client::builder(config()).in_process(service).connect().await.unwrap();
    let query = api::DictContentsRequest { dict_id: "di-1".to_owned(), ..Default::default() };
    let mut entries = client.raw().dict_contents(query).await.unwrap().into_inner();
    let mut keys = Vec::new();
    while let Some(entry) = entries.message().await.unwrap() {
        keys.push(entry.key);
    }
    assert_eq!(keys, [b"a", b"b"]);
}

/// Counts the attempts that pass.
#[derive(Clone)]
struct Counting {
    inner: GrpcService,
    count: Arc<AtomicU32>,
}

impl tower::Service<http::Request<tonic::body::Body>> for Counting {
    type Response = http::Response<tonic::body::Body>;
    type Error = Status;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.inner.call(request)
    }
}

#[tokio::test]
async fn a_layer_sees_every_attempt() {
    let seen: Arc<Mutex<Vec<[String; 3]>>> = Arc::default();
    let answer = third_time(seen);
    let url = serve(move |call| {
        let answer = answer(call);
        async move { answer }.boxed()
    })
    .await;
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let layer =
        tower::layer::layer_fn(move |inner| Counting { inner, count: Arc::clone(&counted) });
    let config = Config::new(&url, "ak-test", "as-test");
    let client = Client::builder(config).layer(layer).connect().await.unwrap();
    client.raw().workspace_name_lookup(()).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 3);
}
