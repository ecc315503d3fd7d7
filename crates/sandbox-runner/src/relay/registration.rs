//! Makes a relay visible to the sandboxes of a `modal-local` server.
//!
//! The server gives it a name, `<random>.relay.internal`; a sandbox whose definition names that host
//! reaches the relay under it, and nothing else of this machine. The registration lives a minute
//! unless it is renewed, so that a killed runner leaves none behind.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::JoinHandle};

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

/// Finds the server that sandboxes run on now: it may be another than a minute ago.
#[async_trait]
pub trait FindServer: Send + Sync {
    /// The server, started where none runs.
    async fn find(&self) -> Result<RelayServer>;
}

/// One server, always there.
#[async_trait]
impl FindServer for RelayServer {
    async fn find(&self) -> Result<RelayServer> {
        Ok(self.clone())
    }
}

/// A registered relay, renewed until it is dropped, and registered again where its server was lost.
pub struct Registration {
    find: Box<dyn FindServer>,
    client: Client,
    target: SocketAddr,
    /// The registration that counts.
    current: Arc<Mutex<Registered>>,
    renewing: JoinHandle<()>,
}

/// A registration at a server.
struct Registered {
    server: RelayServer,
    given: Given,
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

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Registration {
    /// Registers what listens at `target`.
    pub async fn new(find: impl FindServer + 'static, target: SocketAddr) -> Result<Self> {
        let server = find.find().await?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config::client_config())
            .no_proxy()
            .timeout(CALL)
            .build();
        let client = client.map_err(|source| failed("register", &server, source))?;
        let registered = Registered::new(server, &client, target).await?;
        let current = Arc::new(Mutex::new(registered));
        let renewing = tokio::spawn(renew(client.clone(), Arc::clone(&current)));
        Ok(Self { find: Box::new(find), client, target, current, renewing })
    }

    /// The name and the port in sandboxes of the server that is there now.
    pub async fn address(&self) -> Result<(String, u16)> {
        let server = self.find.find().await?;
        let mut current = self.current.lock().await;
        let stands = current.server.url == server.url && current.renew(&self.client).await.is_ok();
        if !stands {
            *current = Registered::new(server, &self.client, self.target).await?;
        }
        Ok((current.given.host.clone(), current.given.port))
    }
}

impl Registered {
    async fn new(server: RelayServer, client: &Client, target: SocketAddr) -> Result<Self> {
        let wanted = Wanted { target: target.to_string() };
        let call = server.call(client, Method::POST, "").json(&wanted);
        let given = async { call.send().await?.error_for_status()?.json().await };
        match given.await {
            Ok(given) => Ok(Self { server, given }),
            Err(source) => Err(failed("register", &server, source)),
        }
    }

    async fn renew(&self, client: &Client) -> Result<()> {
        let call = self.server.call(client, Method::PUT, &format!("/{}", self.given.id));
        let renewed = async { call.send().await?.error_for_status() }.await;
        renewed.map(drop).map_err(|source| failed("renew", &self.server, source))
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

async fn renew(client: Client, current: Arc<Mutex<Registered>>) {
    let mut ticks = tokio::time::interval(RENEW);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Err(error) = current.lock().await.renew(&client).await {
            tracing::warn!(error = error.chain(), "sandboxes may lose their model");
        }
    }
}

fn failed(doing: &'static str, server: &RelayServer, source: reqwest::Error) -> Error {
    let source: BoxError = source.without_url().into();
    Error::RelayRegistration { doing, server: server.url.clone(), source }
}
