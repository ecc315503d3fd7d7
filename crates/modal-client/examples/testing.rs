//! Testing without a server: a service in this process answers, and a layer counts what is sent. Needs nothing that runs.
//!
//! ```text
//! cargo run -p modal-client --example testing
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use anyhow::ensure;
use modal_client::{
    Client, Config,
    proto::client::{
        self as api,
        modal_client_server::{ModalClient, ModalClientServer},
    },
};
use tonic::{Request, Response, Status, body::Body};
use tower::ServiceExt as _;

/// A server with one app. RPCs that are left out answer UNIMPLEMENTED.
struct OneApp;

#[tonic::async_trait]
impl ModalClient for OneApp {
    async fn app_get_or_create(
        &self,
        request: Request<api::AppGetOrCreateRequest>,
    ) -> Result<Response<api::AppGetOrCreateResponse>, Status> {
        match request.into_inner().app_name.as_str() {
            "demo" => Ok(Response::new(api::AppGetOrCreateResponse {
                app_id: "ap-1".to_owned(),
                ..Default::default()
            })),
            other => Err(Status::not_found(format!("no app {other:?}"))),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sent = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&sent);
    // Any `tower` layer will do; this one looks at each request on its way, repeated ones too.
    let counter = tower::layer::layer_fn(move |inner: modal_client::GrpcService| {
        let sent = Arc::clone(&counting);
        inner.map_request(move |request: http::Request<Body>| {
            println!("{}", request.uri().path());
            sent.fetch_add(1, Ordering::Relaxed);
            request
        })
    });
    let config = Config::new("http://nobody-listens.invalid", "ak-test", "as-test");
    let server = ModalClientServer::new(OneApp);
    let client = Client::builder(config).in_process(server).layer(counter).connect().await?;

    ensure!(client.app("demo").await?.id.as_str() == "ap-1");
    let error = client.app("other").await.expect_err("there is one app");
    ensure!(error.is_not_found(), "{error:?}");
    println!("as it should be: {}", error.report());
    let error = client.volume("data").await.expect_err("volumes are left out");
    println!("as it should be: {}", error.report());
    ensure!(sent.load(Ordering::Relaxed) == 3);
    Ok(())
}
