//! Makes a relay visible to the sandboxes of a `modal-local` server.
//!
//! The server gives it a name, `<random>.relay.internal`; a sandbox whose definition names that host
//! reaches the relay under it, and nothing else of this machine. The registration lives a minute
//! unless it is renewed, so that a killed runner leaves none behind.

use std::{fmt, net::SocketAddr, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{BoxError, Error, Result, secret::Secret};

/// A third of the lease.
const RENEW: Duration = Duration::from_secs(20);
/// Time for one call.
const CALL: Duration = Duration::from_secs(10);

/// A `modal-local` server and the token for it.
#[derive(Clone)]
pub struct RelayServer {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Token id.
    pub token_id: String,
    /// Token secret.
    pub token_secret: Secret,
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A registered relay, renewed until it is dropped.
#[derive(Debug)]
pub struct Registration {
    host: String,
    port: u16,
    renewing: JoinHandle<()>,
}

#[derive(Serialize)]
struct Wanted {
    target: String,
}

#[derive(Deserialize)]
struct Given {
    id: String,
    host: String,
    port: u16,
}

impl Registration {
    /// Registers what listens at `target`.
    pub async fn new(server: RelayServer, target: SocketAddr) -> Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .no_proxy()
            .timeout(CALL)
            .build();
        let client = client.map_err(|source| failed("register", &server, source))?;
        let wanted = Wanted { target: target.to_string() };
        let call = server.call(&client, Method::POST, "").json(&wanted);
        let given: Given = async { call.send().await?.error_for_status()?.json().await }
            .await
            .map_err(|source: reqwest::Error| failed("register", &server, source))?;
        let renewing = tokio::spawn(renew(server, client, given.id));
        Ok(Self { host: given.host, port: given.port, renewing })
    }

    /// The name in sandboxes.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port in sandboxes.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl RelayServer {
    fn call(&self, client: &Client, method: Method, id: &str) -> RequestBuilder {
        let url = format!("{}/_local/relays{id}", self.url.trim_end_matches('/'));
        client
            .request(method, url)
            .header("x-modal-token-id", &self.token_id)
            .header("x-modal-token-secret", self.token_secret.expose())
    }
}

async fn renew(server: RelayServer, client: Client, id: String) {
    let mut ticks = tokio::time::interval(RENEW);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let call = server.call(&client, Method::PUT, &format!("/{id}"));
        let renewed = async { call.send().await?.error_for_status() }.await;
        if let Err(source) = renewed {
            let error = failed("renew", &server, source);
            tracing::warn!(error = error.chain(), "sandboxes may lose their model");
        }
    }
}

fn failed(doing: &'static str, server: &RelayServer, source: reqwest::Error) -> Error {
    let source: BoxError = source.without_url().into();
    Error::RelayRegistration { doing, server: server.url.clone(), source }
}
